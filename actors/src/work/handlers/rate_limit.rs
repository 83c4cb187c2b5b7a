//! A limit on how often tasks are started: a token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// A token that is due within this time is waited for in the slot of the task; beyond it the task
/// is put back. Above the forwarder's interval, so that tasks that come back keep the bucket busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// A task is put back for this long at most, however many wait before it: the limit may be gone by
/// then, or another server free.
const LONGEST: Duration = Duration::from_secs(600);

/// The answer to a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A token is taken, and may be used after this wait.
    After(Duration),
    /// No token is taken: ask again after this time.
    Later(Duration),
}

/// A bucket that holds `tasks` tokens, is full at first and gains `tasks` more each `per`.
#[derive(Debug)]
pub(super) struct Bucket {
    /// One token more each.
    every: Duration,
    /// Largest distance by which the bucket may run ahead of `every`.
    burst: Duration,
    /// Time at which it is full again.
    full_at: Instant,
    /// Time at which the last task that was put back may ask again; they are told to come one by one.
    put_back: Instant,
}

impl Bucket {
    /// `tasks` is not 0.
    pub(super) fn new(tasks: u32, per: Duration) -> Self {
        let every = per / tasks.max(1);
        let now = Instant::now();
        Self {
            every,
            burst: per.saturating_sub(every),
            full_at: now,
            put_back: now,
        }
    }

    pub(super) fn take(&mut self) -> Token {
        let now = Instant::now();
        let full_at = self.full_at.max(now);
        let wait = (full_at - now).saturating_sub(self.burst);
        if wait <= PATIENCE {
            self.full_at = full_at + self.every;
            return Token::After(wait);
        }
        let due = self.put_back.max(now + wait).min(now + LONGEST);
        self.put_back = due + self.every;
        Token::Later(due - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_full_bucket_is_a_burst_and_then_one_comes_after_the_other() {
        let mut bucket = Bucket::new(3, 3 * SECOND);
        let waits: Vec<_> = (0..6).map(|_| bucket.take()).collect();
        let after = |secs: u32| Token::After(secs * SECOND);
        assert_eq!(waits, [after(0), after(0), after(0), after(1), after(2), after(3)]);
        // Three seconds later what was promised is used up; a long pause fills it, and no more.
        tokio::time::advance(3 * SECOND).await;
        assert_eq!(bucket.take(), after(1));
        tokio::time::advance(3600 * SECOND).await;
        let waits: Vec<_> = (0..4).map(|_| bucket.take()).collect();
        assert_eq!(waits, [after(0), after(0), after(0), after(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_not_waited_for_and_those_put_back_come_one_by_one() {
        let mut bucket = Bucket::new(1, 60 * SECOND);
        assert_eq!(bucket.take(), Token::After(Duration::ZERO));
        for n in 1..=10 {
            assert_eq!(bucket.take(), Token::Later(n * 60 * SECOND));
        }
        assert_eq!(bucket.take(), Token::Later(LONGEST));
        assert_eq!(bucket.take(), Token::Later(LONGEST));
        // Putting back used no token up.
        tokio::time::advance(60 * SECOND).await;
        assert_eq!(bucket.take(), Token::After(Duration::ZERO));
    }
}
