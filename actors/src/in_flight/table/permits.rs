//! Permits: slots in which tasks run, and places of tasks that are taken ahead of a slot.

use std::time::Duration;

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

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
