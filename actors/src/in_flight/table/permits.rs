//! Permits: slots in which tasks run, and places of tasks that are taken ahead of a slot.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Phase, Table};

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

/// The findings of a look at the tasks that were taken ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AheadLook {
    /// Tasks that were started since the last look.
    pub(crate) started: usize,
    /// Tasks that are given back now.
    pub(crate) given_back: usize,
    /// Time at which the next one is to go back.
    pub(crate) next: Option<Instant>,
}

impl Table {
    /// Has up to so many tasks taken ahead of the slots.
    #[must_use]
    pub(crate) fn taking_ahead(mut self, tasks: usize) -> Self {
        self.ahead = Arc::new(Semaphore::new(tasks));
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

    /// Gives back the tasks that were taken ahead and have found no slot for so long, the last taken first. One that
    /// is to be cancelled stays, and ends as soon as a slot is free.
    pub(crate) fn give_back_ahead(&self, after: Duration) -> AheadLook {
        let now = Instant::now();
        let mut state = self.lock();
        let state = &mut *state;
        let mut look = AheadLook {
            started: std::mem::take(&mut state.started_ahead),
            ..AheadLook::default()
        };
        if state.ready.is_empty() {
            return look;
        }
        let mut keys = Vec::new();
        let entries = &state.entries;
        state.ready.retain(|key| {
            let Some(entry) = entries.get(key) else { return false };
            let Phase::Leased { ahead: Some(ahead), .. } = &entry.phase else {
                return true;
            };
            if entry.cancel.reason().is_some() {
                return true;
            }
            let due = ahead.since + after;
            if due > now {
                look.next = look.next.into_iter().chain([due]).min();
                return true;
            }
            keys.push(key.clone());
            false
        });
        look.given_back = keys.len();
        Self::give_back(state, keys);
        look
    }
}
