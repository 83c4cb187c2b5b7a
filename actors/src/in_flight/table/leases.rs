//! Leases: which are to be extended, and what the answers change.

use std::time::Duration;

use asynq_core::{
    SettleError,
    broker::{LeaseRef, LeaseUntil},
};

use super::{CancelReason, Entry, Key, Phase, Table};

/// Time for which the lease of an ended task is renewed while its outcome cannot be written.
const RENEW_ENDED: Duration = Duration::from_secs(120);

impl Table {
    /// The leases that are to be extended: those that stand, but for tasks that ended more than
    /// two minutes ago or are damaged, and for those of which an outcome or a result has been on its way for 15 s:
    /// its fence must stay above every lease that is written before it arrives. Nor those of tasks that were taken
    /// ahead of a slot, for the first 15 s.
    pub(crate) fn leases(&self) -> Vec<LeaseRef> {
        self.leases_where(|_| true)
    }

    pub(super) fn leases_where(&self, fits: impl Fn(&Entry) -> bool) -> Vec<LeaseRef> {
        let read = self.clock.read();
        let mut state = self.lock();
        state
            .entries
            .values_mut()
            .filter(|entry| {
                let wanted = match entry.phase {
                    Phase::Leased { .. } | Phase::Running { .. } => true,
                    Phase::Finished { at, .. } | Phase::Claimed { at, .. } => at.elapsed() < RENEW_ENDED,
                };
                let stands = entry.valid.stands_at(read.steady);
                wanted
                    && !entry.poisoned
                    && stands
                    && !entry.waits_ahead(&read)
                    && fits(entry)
                    && !entry.would_overtake(read.now)
            })
            .map(|entry| entry.fenced(&read))
            .collect()
    }

    /// Takes the answers to an extension.
    pub(crate) fn extended(&self, leases: &[LeaseRef], answers: Vec<Result<LeaseUntil, SettleError>>) {
        let mut state = self.lock();
        for (lease, answer) in leases.iter().zip(answers) {
            let key = Key::of(lease);
            let Some(entry) = state.entries.get_mut(&key) else {
                continue;
            };
            if entry.lease.token != lease.token {
                continue;
            }
            match answer {
                Ok(until) => entry.extend(until),
                Err(SettleError::NotOurs) => match entry.phase {
                    Phase::Leased { .. } => {
                        tracing::warn!(queue = %key.0, task = %key.1, "lease lost before the task was started");
                        state.entries.remove(&key);
                        self.changed.notify_waiters();
                    }
                    Phase::Running { .. } => {
                        tracing::warn!(queue = %key.0, task = %key.1, "lease lost, cancelling the run");
                        entry.cancel.cancel(CancelReason::LeaseLost);
                    }
                    // Perhaps settled by a call whose answer is still on its way: that one counts.
                    Phase::Finished { .. } | Phase::Claimed { .. } => {}
                },
                Err(SettleError::Poison(_)) => entry.poisoned = true,
                // Nothing was written: what stood before stands until its end.
                Err(SettleError::NoLease | SettleError::Broker(_)) => {}
                Err(_) => {}
            }
        }
    }
}
