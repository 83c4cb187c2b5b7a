//! The state of the service: whether tasks are taken, which slots are free, which calls are under way.

use std::sync::{Arc, atomic::Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::{Report, Table};

impl Table {
    pub(crate) fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Up to `most` slots at once; `None` when there is none.
    pub(crate) fn try_slots(&self, most: u32) -> Option<OwnedSemaphorePermit> {
        let count = u32::try_from(self.free_slots()).unwrap_or(u32::MAX).min(most);
        if count == 0 {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_many_owned(count).ok()
    }

    /// Returns whether tasks are to be taken. Outlives the processor.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetching.load(Ordering::SeqCst) && !self.is_closing()
    }

    pub(crate) fn set_fetching(&self, fetching: bool) {
        // Before or after a call that begins: see `call_began`.
        self.fetching.store(fetching, Ordering::SeqCst);
    }

    /// Returns whether the end of service has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// A processor that is stopped closes; one that is started after it, because its supervisor
    /// had given up and was itself restarted, opens again. No run is started from the close on: the lock orders it
    /// with [`start_ready`](Self::start_ready).
    pub(crate) fn set_closing(&self, closing: bool) {
        let _state = self.lock();
        self.closing.store(closing, Ordering::Release);
    }

    /// Waits until nothing of ours is in flight: no call, no run, no outcome that is not written,
    /// and nothing that a lost call may yet take.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_waiting() && self.lookouts.load(Ordering::Acquire) == 0 && self.counts().is_idle() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until nothing runs.
    pub(crate) async fn quiet(&self) {
        loop {
            let changed = self.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.running_count() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Calls in flight.
    pub(crate) fn calls(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts a call; whether it may take tasks. One that may is seen by [`idle`](Self::idle) from
    /// before the stop of fetching on; the others hear of the stop here.
    #[must_use]
    pub(crate) fn call_began(&self) -> bool {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.is_fetching()
    }

    pub(crate) fn call_ended(&self, report: Report) {
        self.lock().reports.push(report);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Returns whether a call is in flight, or what a lost one left behind is still looked for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.calls() > 0 || self.adoptions.load(Ordering::Acquire) > 0
    }

    pub(crate) fn adoption_began(&self) {
        self.adoptions.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn adoption_ended(&self) {
        self.adoptions.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// A lost call may take tasks late, and is looked after; the end of service does not wait for that.
    pub(crate) fn lookout_began(&self) {
        self.lookouts.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn lookout_ended(&self) {
        self.lookouts.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.lock().reports)
    }

    /// Waits for the end of a run or of a call that comes after this future was first polled or
    /// enabled.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}
