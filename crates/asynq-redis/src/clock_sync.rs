//! The clock of this host against that of Redis.
//!
//! A system's clock that is connected to Redis runs on monotonic time and is corrected by what TIME answers,
//! from one second on. It is asked when a connection is made, each minute, as soon as the host's wall clock has
//! moved by more than a second against monotonic time (it was set, or the host was suspended), and before each
//! pass that judges leases or other times that have come, and before leases are written anew.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use asynq_core::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

/// A source of the server's time.
pub(crate) trait Timekeeper: Sync {
    /// Returns what TIME answers; `None` if it does not.
    fn time(&self) -> impl Future<Output = Option<Value>> + Send;
}

/// Longest time between two questions to the server.
const EVERY: Duration = Duration::from_secs(60);
/// Interval at which the wall clock is compared with monotonic time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An answer that took longer says only on which side of it the clock is.
const LONGEST_TRIP: Duration = Duration::from_secs(1);
/// An answer that came so lately is good for another pass.
const FRESH: Duration = Duration::from_secs(1);
/// Time for which a pass waits for the time. A pass that must not wait for a silent node goes on with the clock it
/// has.
const WITHIN: Duration = Duration::from_secs(1);
/// Time for which a server that did not answer in time is not asked before a pass.
const PATIENCE: Duration = Duration::from_secs(10);
/// Difference from which the clock is corrected.
const THRESHOLD: TimeDelta = TimeDelta::seconds(1);

/// Asks for the time and corrects a system clock by it. Other clocks are left alone, and so is one whose
/// server does not tell its time. Tells whether it did.
pub(crate) async fn sync(clock: &Clock, server: &impl Timekeeper) -> bool {
    if !clock.is_system() {
        return true;
    }
    let asked = clock.steady();
    let answer = server.time().await;
    let answered = clock.steady();
    match answer.as_ref().and_then(server_time) {
        Some(time) => {
            hear(clock, time, asked, answered);
            true
        }
        None => false,
    }
}

/// [`sync`] each minute, and as soon as the wall clock was moved, for ever.
pub(crate) async fn keep_in_sync(clock: &Clock, server: &impl Timekeeper) {
    if !clock.is_system() {
        return std::future::pending().await;
    }
    let (mut synced, mut wall) = (Instant::now(), wall_ahead(clock));
    loop {
        sleep(LOOK_EVERY).await;
        let ahead = wall_ahead(clock);
        let moved = (ahead - wall).abs() > THRESHOLD;
        if (moved || synced.elapsed() >= EVERY) && (sync(clock, server).await || !moved) {
            (synced, wall) = (Instant::now(), ahead);
        }
    }
}

/// Returns how far the wall clock is ahead of monotonic time.
fn wall_ahead(clock: &Clock) -> TimeDelta {
    let steady = TimeDelta::from_std(clock.steady()).unwrap_or(TimeDelta::MAX);
    (clock.wall() - DateTime::<Utc>::UNIX_EPOCH) - steady
}

/// Time at which the server was last asked before a pass.
#[derive(Debug, Default)]
pub(crate) struct Freshness(Mutex<Option<Asked>>);

#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Duration,
    told: bool,
}

impl Freshness {
    /// [`sync`] before a pass that judges times, or writes a lease: unless that was done a moment ago. Waits
    /// for 1 s at most.
    pub(crate) async fn refresh(&self, clock: &Clock, server: &impl Timekeeper) {
        if !clock.is_system() {
            return;
        }
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |asked: Asked| {
            let age = clock.steady().saturating_sub(asked.at);
            age < if asked.told { FRESH } else { PATIENCE }
        };
        if last.is_some_and(is_fresh) {
            return;
        }
        let told = timeout(WITHIN, sync(clock, server)).await.unwrap_or(false);
        let at = clock.steady();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Asked { at, told });
    }
}

/// Takes the server's time, which it told at some moment between two readings of
/// [`steady`](Clock::steady).
pub(crate) fn hear(clock: &Clock, time: DateTime<Utc>, asked: Duration, answered: Duration) {
    let (early, late) = (time - clock.at(asked), time - clock.at(answered));
    // It lies between the two: nothing says that the clock is wrong.
    if early > -THRESHOLD && late < THRESHOLD {
        return clock.hold();
    }
    let trip = answered.saturating_sub(asked);
    let at = if trip <= LONGEST_TRIP {
        asked + trip / 2
    } else if late >= THRESHOLD {
        answered
    } else {
        asked
    };
    let before = clock.at(at);
    clock.correct(time, at);
    tracing::warn!(
        offset_ms = (time - before).num_milliseconds(),
        "the clock of this host differs from that of Redis and is corrected; leases follow Redis",
    );
}

/// Returns what TIME answered.
pub(crate) fn server_time(answer: &Value) -> Option<DateTime<Utc>> {
    let (secs, micros): (i64, u32) = redis::from_redis_value_ref(answer).ok()?;
    DateTime::from_timestamp(secs, micros.checked_mul(1000)?)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns what the clock shows, less the time of the test's own host, in whole seconds.
    fn ahead(clock: &Clock) -> i64 {
        ((clock.now() - Utc::now()).num_milliseconds() + 500).div_euclid(1000)
    }

    #[test]
    fn the_clock_is_corrected_from_a_second_on() {
        for (by, corrected) in [(-999, 0), (-1500, -1500), (700, 0), (3_600_000, 3_600_000)] {
            let clock = Clock::system();
            let at = clock.steady();
            hear(&clock, clock.at(at) + TimeDelta::milliseconds(by), at, at);
            let offset = clock.offset().num_milliseconds();
            assert!((offset - corrected).abs() <= 100, "{by}: {offset}");
        }
    }

    #[test]
    fn an_answer_that_took_long_corrects_no_more_than_it_proves() {
        let clock = Clock::system();
        clock.hold();
        let at = clock.steady();
        let answered = at + 20 * SECOND;
        let told = |secs| clock.at(at) + TimeDelta::seconds(secs);
        hear(&clock, told(19), at, answered);
        assert_eq!(ahead(&clock), 0, "perhaps it waited for 19 s");
        hear(&clock, told(85), at, answered);
        assert_eq!(ahead(&clock), 65, "at least");
        clock.set_offset(TimeDelta::zero());
        hear(&clock, told(-65), at, answered);
        assert_eq!(ahead(&clock), -65);
    }

    /// A server whose time is that of the test's host.
    #[derive(Default)]
    struct Server {
        asked: AtomicU32,
        ahead: AtomicI64,
        silent: bool,
    }

    impl Timekeeper for Server {
        async fn time(&self) -> Option<Value> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.silent {
                return std::future::pending().await;
            }
            let now = Utc::now() + TimeDelta::seconds(self.ahead.load(Ordering::SeqCst));
            let part = |n: i64| Value::BulkString(n.to_string().into_bytes());
            let micros = i64::from(now.timestamp_subsec_micros());
            Some(Value::Array(vec![part(now.timestamp()), part(micros)]))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_was_moved_asks_at_once_and_changes_nothing() {
        let step = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&step);
        let clock = Clock::with_wall(move || Utc::now() + TimeDelta::seconds(read.load(Ordering::SeqCst)));
        let server = Server::default();
        assert!(sync(&clock, &server).await);
        let test = async {
            sleep(10 * SECOND).await;
            assert_eq!(server.asked.load(Ordering::SeqCst), 1);
            for (nth, by) in [65, -65, 600, -600, 0].into_iter().enumerate() {
                step.store(by, Ordering::SeqCst);
                assert_eq!(ahead(&clock), 0, "{by}: before it is seen");
                sleep(3 * SECOND).await;
                assert_eq!(server.asked.load(Ordering::SeqCst) as usize, 2 + nth, "{by}");
                assert_eq!(ahead(&clock), 0, "{by}");
            }
            // As after a suspend: monotonic time stood still.
            server.ahead.store(65, Ordering::SeqCst);
            step.store(65, Ordering::SeqCst);
            sleep(3 * SECOND).await;
            assert_eq!(ahead(&clock), 65);
            let asked = server.asked.load(Ordering::SeqCst);
            sleep(EVERY + SECOND).await;
            assert_eq!(server.asked.load(Ordering::SeqCst), asked + 1, "each minute");
        };
        tokio::select! {
            () = keep_in_sync(&clock, &server) => unreachable!("for ever"),
            () = test => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_asks_once_a_second_and_waits_for_no_silent_server() {
        let (clock, server, freshness) = (Clock::system(), Server::default(), Freshness::default());
        server.ahead.store(65, Ordering::SeqCst);
        freshness.refresh(&clock, &server).await;
        assert_eq!(ahead(&clock), 65);
        freshness.refresh(&clock, &server).await;
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        let silent = Server {
            silent: true,
            ..Server::default()
        };
        let (freshness, began) = (Freshness::default(), Instant::now());
        freshness.refresh(&clock, &silent).await;
        freshness.refresh(&clock, &silent).await;
        assert_eq!((silent.asked.load(Ordering::SeqCst), began.elapsed()), (1, WITHIN));
        let virtual_clock = Clock::tokio();
        Freshness::default().refresh(&virtual_clock, &server).await;
        assert_eq!(server.asked.load(Ordering::SeqCst), 1, "a test's clock follows nobody");
    }

    #[test]
    fn time_has_seconds_and_microseconds() {
        let part = |text: &str| Value::BulkString(text.into());
        let time = server_time(&Value::Array(vec![part("1700000000"), part("250000")])).unwrap();
        assert_eq!(time.timestamp_millis(), 1_700_000_000_250);
        assert_eq!(server_time(&Value::Array(vec![part("x"), part("250000")])), None);
    }
}
