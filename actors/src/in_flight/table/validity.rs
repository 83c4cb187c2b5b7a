//! Validity: the time until which a task is known to be ours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use asynq_core::{Clock, broker::LeaseUntil, clock::Reading};
use chrono::{DateTime, TimeDelta, Utc};

/// The state of one task that is shared with its run.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// A reading of the steady time, in nanoseconds, until which the lease is known to be valid.
    end: AtomicU64,
    /// The reason for which the run is cancelled; 0 if it is not.
    pub(super) reason: AtomicU8,
}

/// The time until which a lease is known to be valid. It counts on the clock's steady time: once the lease is
/// known, no step of a clock ends it sooner or keeps it longer. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct Validity {
    clock: Clock,
    pub(super) shared: Arc<Shared>,
}

impl Validity {
    /// Makes a validity from now until `end`.
    pub(crate) fn until(end: DateTime<Utc>, clock: &Clock) -> Self {
        Self::new(end, clock, &clock.read())
    }

    /// While a lease stands: while its second is not over (Go: expiry ≥ now).
    pub(crate) fn of_lease(until: LeaseUntil, clock: &Clock, now: &Reading) -> Self {
        Self::new(end_of(until), clock, now)
    }

    fn new(end: DateTime<Utc>, clock: &Clock, now: &Reading) -> Self {
        Self {
            clock: clock.clone(),
            shared: Arc::new(Shared {
                end: AtomicU64::new(nanos_at(end, now)),
                ..Shared::default()
            }),
        }
    }

    /// Extends it until `end` at least.
    pub(crate) fn extend_until(&self, end: DateTime<Utc>) {
        let end = nanos_at(end, &self.clock.read());
        self.shared.end.fetch_max(end, Ordering::Relaxed);
    }

    /// The lease is known to have been written.
    pub(crate) fn extend(&self, until: LeaseUntil) {
        self.extend_until(end_of(until));
    }

    /// Returns how long it still stands; zero if it has ended.
    pub(crate) fn left(&self) -> Duration {
        self.left_at(self.clock.steady())
    }

    /// Returns how long it still stood, or will stand, at a reading of the steady time.
    pub(crate) fn left_at(&self, steady: Duration) -> Duration {
        Duration::from_nanos(self.shared.end.load(Ordering::Relaxed)).saturating_sub(steady)
    }

    /// Returns whether it stood, or will stand, at a reading of the steady time.
    pub(crate) fn stands_at(&self, steady: Duration) -> bool {
        !self.left_at(steady).is_zero()
    }
}

fn end_of(until: LeaseUntil) -> DateTime<Utc> {
    let end = until.instant().checked_add_signed(TimeDelta::seconds(1));
    end.unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn nanos_at(end: DateTime<Utc>, now: &Reading) -> u64 {
    u64::try_from(now.steady_at(end).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_corrected_ends_no_lease_and_lengthens_none() {
        for by in [-600, -65, 65, 600] {
            let clock = Clock::system();
            clock.hold();
            let lease = Validity::of_lease(LeaseUntil::from_now(clock.now()), &clock, &clock.read());
            clock.correct(clock.now() + TimeDelta::seconds(by), clock.steady());
            let left = lease.left();
            assert!(
                left > Duration::from_secs(15) && left <= Duration::from_secs(31),
                "{by}: {left:?}"
            );
            lease.extend(LeaseUntil::from_now(clock.now()));
            let left = lease.left();
            assert!(
                left > Duration::from_secs(15) && left <= Duration::from_secs(31),
                "{by}: {left:?}"
            );
        }
    }
}
