//! Permits: slots in which tasks run, and places of tasks that are taken ahead of a slot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Entry, Key, Phase, State, Table};

/// The permits with which a call takes tasks.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    pub(crate) slots: Option<OwnedSemaphorePermit>,
    pub(crate) ahead: Option<OwnedSemaphorePermit>,
}

impl Permits {
    /// Returns for how many tasks there are permits.
    pub(crate) fn count(&self) -> usize {
        let count = |permits: &Option<OwnedSemaphorePermit>| permits.as_ref().map_or(0, |p| p.num_permits());
        count(&self.slots) + count(&self.ahead)
    }

    /// Splits off the permits of so many tasks, as far as there are any; slots first.
    pub(crate) fn split(&mut self, tasks: usize) -> Self {
        let slots = split(&mut self.slots, tasks);
        let left = tasks - slots.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let ahead = split(&mut self.ahead, left);
        Self { slots, ahead }
    }
}

fn split(permits: &mut Option<OwnedSemaphorePermit>, most: usize) -> Option<OwnedSemaphorePermit> {
    let permits = permits.as_mut()?;
    let count = most.min(permits.num_permits());
    if count == 0 { None } else { permits.split(count) }
}

/// Time after which a task that was taken ahead and has found no slot goes back to its queue
/// (rules.md#taken-ahead-for-a-moment).
pub(crate) const AHEAD: Duration = Duration::from_secs(2);

/// The findings of a look at the tasks that were taken ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AheadLook {
    /// Tasks that were started since the last look.
    pub(crate) started: usize,
    /// Tasks that were given back since the last look, because one of them had found no slot for so long.
    pub(crate) given_back: usize,
    /// Time at which the next one is to go back.
    pub(crate) next: Option<Instant>,
}

impl Table {
    /// Has up to so many tasks taken ahead of the slots.
    #[must_use]
    pub(crate) fn taking_ahead(mut self, tasks: usize) -> Self {
        self.ahead = Arc::new(Semaphore::new(tasks));
        self.most_ahead = tasks;
        self
    }

    /// Returns how many more tasks may be taken ahead.
    pub(crate) fn free_ahead(&self) -> usize {
        self.ahead.available_permits()
    }

    /// Up to `most` places of tasks that are taken ahead; `None` when there is none.
    pub(crate) fn try_ahead(&self, most: u32) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(self.free_ahead()).unwrap_or(u32::MAX).min(most);
        if count == 0 {
            return None;
        }
        Arc::clone(&self.ahead).try_acquire_many_owned(count).ok()
    }

    /// Gives back the tasks that were taken ahead, the last taken first, once one has found no slot for
    /// [`AHEAD`]; at once, if `all`. One that is to be cancelled stays, and ends as soon as a slot is free.
    pub(crate) fn look_ahead(&self, all: bool) -> AheadLook {
        let mut state = self.lock();
        let next = Self::give_back_waiting(&mut state, if all { Duration::ZERO } else { AHEAD });
        AheadLook {
            next,
            ..std::mem::take(&mut state.ahead)
        }
    }

    /// Gives back what was taken ahead, if one of these tasks has found no slot for so long; else returns when one
    /// will have.
    pub(super) fn give_back_waiting(state: &mut State, after: Duration) -> Option<Instant> {
        if state.waiting.is_empty() {
            return None;
        }
        let entries = &state.entries;
        let waits_since = |key: &Key| match entries.get(key) {
            Some(Entry {
                phase: Phase::Leased { ahead: Some(ahead), .. },
                cancel,
                ..
            }) if cancel.reason().is_none() => Some(ahead.since),
            _ => None,
        };
        // They stand in the order in which they came.
        let due = state.waiting.iter().find_map(waits_since)? + after;
        if due > Instant::now() {
            return Some(due);
        }
        // All of them: one that went back later would come before this one.
        let (keys, waiting): (Vec<Key>, Vec<Key>) = state.waiting.drain(..).partition(|key| waits_since(key).is_some());
        state.waiting = VecDeque::from(waiting);
        state.ahead.given_back += keys.len();
        Self::give_back(state, keys);
        None
    }
}
