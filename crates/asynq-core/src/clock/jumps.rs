//! Jumps of the time that decides about leases.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Clock;
use crate::broker::{LEASE, RECOVER_GRACE};

/// Smallest difference between two clocks that counts as a jump. A smaller one is drift.
const JUMP: TimeDelta = TimeDelta::seconds(1);
/// Elapsed time divided by this number is drift and no jump. Clocks can be slewed, but always by less than one part
/// in a thousand.
const SLEW: i32 = 1000;

/// A detector of forward jumps of a clock, which also decides how long leases are not to be trusted after a jump.
///
/// After a jump, leases that were written by the earlier time seem to have ended. The recovery of tasks therefore
/// waits for one lease and the grace period, 60 s, in which living owners write their leases again. A jump back needs
/// no wait, because leases then only seem to last longer.
#[derive(Debug, Default)]
pub struct Jumps {
    last: Option<(DateTime<Utc>, Duration)>,
    settled_at: Option<Duration>,
}

impl Jumps {
    /// Reads the clock, and returns the size of its forward jump since the last reading, if it jumped. A difference
    /// of up to a second, or of up to a thousandth of the elapsed time, is no jump. A jump is logged.
    pub fn look(&mut self, clock: &Clock) -> Option<TimeDelta> {
        let (now, steady) = (clock.now(), clock.steady());
        let (before, read) = self.last.replace((now, steady))?;
        let passed = TimeDelta::from_std(steady.saturating_sub(read)).ok()?;
        let jump = (now - before) - passed;
        if jump <= JUMP + passed / SLEW {
            return None;
        }
        let wait = LEASE + RECOVER_GRACE;
        tracing::warn!(
            by_ms = jump.num_milliseconds(),
            ?wait,
            "the clock has jumped forward; no task is recovered until its owner can have extended its lease",
        );
        self.settled_at = Some(steady + wait);
        Some(jump)
    }

    /// Returns whether the last jump is so recent that owners may not have written their leases again.
    #[must_use]
    pub fn is_settling(&self, clock: &Clock) -> bool {
        self.settled_at.is_some_and(|at| clock.steady() < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jump_forward_of_more_than_a_second_makes_leases_doubtful() {
        let wall = |secs| TimeDelta::milliseconds(secs);
        for (by, doubtful) in [
            (1500, true),
            (600_000, true),
            (900, false),
            (-600_000, false),
            (0, false),
        ] {
            let clock = Clock::system();
            let mut jumps = Jumps::default();
            assert_eq!(jumps.look(&clock), None, "nothing to compare with");
            clock.correct(clock.now() + wall(by), clock.steady());
            assert_eq!(jumps.look(&clock).is_some(), doubtful, "{by} ms");
            assert_eq!(jumps.is_settling(&clock), doubtful, "{by} ms");
            assert_eq!(jumps.look(&clock), None, "once");
            assert_eq!(jumps.is_settling(&clock), doubtful, "{by} ms");
        }
    }

    #[test]
    fn time_that_passes_is_no_jump_and_ends_the_doubt() {
        let clock = Clock::manual(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        let mut jumps = Jumps::default();
        jumps.look(&clock);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(jumps.look(&clock), None);
        jumps.settled_at = Some(clock.steady() + LEASE + RECOVER_GRACE);
        clock.advance(Duration::from_secs(59));
        assert!(jumps.is_settling(&clock));
        clock.advance(Duration::from_secs(1));
        assert!(!jumps.is_settling(&clock));
    }
}
