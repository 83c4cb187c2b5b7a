//! Suspension of a task type after crashes in a row, with no task answered between.

use std::time::Duration;

use asynq_core::Entropy;
use tokio::time::Instant;

use crate::supervision::supervisor::Backoff;

/// The wait of one instance before its restart, by its crashes in a row.
const RESTART: Backoff = Backoff {
    first: Duration::from_millis(10),
    most: Duration::from_secs(30),
};
/// Duration of a suspension, by suspensions in a row; up to a quarter is added.
const SUSPENSION: Backoff = Backoff {
    first: Duration::from_secs(30),
    most: Duration::from_secs(600),
};

/// The standing of a type: its tasks are run, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// All tasks are run.
    Good,
    /// No task is run for this time.
    Suspended(Duration),
    /// A suspension is over: one is, to see.
    Trial,
}

/// The consequence of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Consequence {
    /// The instance is restarted after this.
    pub(super) restart: Duration,
    /// The type is suspended for so long, from now on.
    pub(super) suspended: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Health {
    /// Number of crashes in a row that suspend the type.
    limit: u32,
    /// Crashes since the last answer.
    crashes: u32,
    /// The same of each instance.
    own: Vec<u32>,
    /// Suspensions since the last answer.
    suspensions: u32,
    /// The end of the last of them.
    until: Option<Instant>,
}

impl Health {
    pub(super) fn new(instances: usize, limit: u32) -> Self {
        Self {
            limit,
            crashes: 0,
            own: vec![0; instances],
            suspensions: 0,
            until: None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => Standing::Good,
            Some(Duration::ZERO) => Standing::Trial,
            Some(left) => Standing::Suspended(left),
        }
    }

    /// An instance answered a task, well or not; whether that ends a suspension or a trial.
    pub(super) fn answered(&mut self, instance: usize) -> bool {
        self.crashes = 0;
        self.suspensions = 0;
        if let Some(own) = self.own.get_mut(instance) {
            *own = 0;
        }
        self.until.take().is_some()
    }

    /// An instance crashed. One that crashes while the type is suspended waits for its end.
    pub(super) fn crashed(&mut self, instance: usize, entropy: &Entropy) -> Consequence {
        self.crashes = self.crashes.saturating_add(1);
        let own = self.own.get_mut(instance).map_or(0, |own| {
            *own = own.saturating_add(1);
            *own - 1
        });
        let wait = RESTART.delay(own);
        let wait = wait / 2 + entropy.up_to(wait / 2);
        let suspended = match self.standing() {
            Standing::Good | Standing::Trial if self.crashes >= self.limit => Some(self.suspend(entropy)),
            _ => None,
        };
        let left = match self.standing() {
            Standing::Suspended(left) => left,
            _ => Duration::ZERO,
        };
        Consequence {
            restart: wait.max(left),
            suspended,
        }
    }

    /// Suspends the type: for how long.
    pub(super) fn suspend(&mut self, entropy: &Entropy) -> Duration {
        let span = SUSPENSION.delay(self.suspensions);
        let span = span + entropy.up_to(span / 4);
        self.suspensions = self.suspensions.saturating_add(1);
        self.until = Some(Instant::now() + span);
        span
    }

    pub(super) fn crashes(&self) -> u32 {
        self.crashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(span: Duration, secs: u64) -> bool {
        let least = Duration::from_secs(secs);
        span >= least && span <= least + least / 4
    }

    #[tokio::test(start_paused = true)]
    async fn crashes_in_a_row_suspend_and_an_answer_forgives_them() {
        let entropy = Entropy::seeded(1);
        let mut health = Health::new(2, 3);
        for _ in 0..10 {
            assert_eq!(health.crashed(0, &entropy).suspended, None);
            assert_eq!(health.crashed(1, &entropy).suspended, None);
            assert!(!health.answered(0));
        }
        assert_eq!(health.standing(), Standing::Good);
        health.crashed(0, &entropy);
        health.crashed(0, &entropy);
        let third = health.crashed(1, &entropy);
        assert!(within(third.suspended.unwrap(), 30), "{third:?}");
        assert_eq!(health.standing(), Standing::Suspended(third.suspended.unwrap()));
        assert_eq!(third.restart, third.suspended.unwrap(), "it is not restarted before");
        // One more while it is suspended makes it no longer.
        assert_eq!(health.crashed(0, &entropy).suspended, None);
        assert!(health.answered(1));
        assert_eq!(health.standing(), Standing::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_suspends_for_twice_as_long_up_to_ten_minutes() {
        let entropy = Entropy::seeded(2);
        let mut health = Health::new(1, 1);
        for secs in [30, 60, 120, 240, 480, 600, 600] {
            let span = health.crashed(0, &entropy).suspended.unwrap();
            assert!(within(span, secs), "{secs}: {span:?}");
            tokio::time::advance(span - Duration::from_millis(1)).await;
            assert!(matches!(health.standing(), Standing::Suspended(_)));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(health.standing(), Standing::Trial);
        }
        assert!(health.answered(0));
        assert!(within(health.crashed(0, &entropy).suspended.unwrap(), 30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_waits_longer_by_its_own_crashes_only() {
        let entropy = Entropy::seeded(3);
        let mut health = Health::new(2, 1000);
        let mut last = Duration::ZERO;
        for attempt in 0..12 {
            last = health.crashed(0, &entropy).restart;
            let full = RESTART.delay(attempt);
            assert!(last >= full / 2 && last <= full, "{attempt}: {last:?}");
        }
        assert!(last >= Duration::from_secs(10));
        assert!(health.crashed(1, &entropy).restart <= RESTART.first);
        health.answered(0);
        assert!(health.crashed(0, &entropy).restart <= RESTART.first);
    }
}
