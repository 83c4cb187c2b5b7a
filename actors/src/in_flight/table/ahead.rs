//! Tasks that are taken ahead of the slots: their places, and their way back (rules.md#taken-ahead-for-a-moment).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Entry, Key, Phase, State, Table,
    permits::{AHEAD, AheadLook},
};

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
