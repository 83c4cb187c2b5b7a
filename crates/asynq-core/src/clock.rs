//! Time, injected: the system's, tokio's (paused in tests), or one moved by hand.

mod jumps;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

pub use self::jumps::Jumps;

/// A source of the current time. Cheap to clone; clones share one clock.
///
/// The [system's](Self::system) clock shows the host's wall clock until a storage that keeps time of its own,
/// as Redis does, is connected. From then on it runs on the host's monotonic clock and is corrected by the
/// storage's time alone, so that a step of the host's wall clock moves no lease, no cut-off and no schedule.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System(Host),
    Virtual {
        start: DateTime<Utc>,
        origin: tokio::time::Instant,
    },
    Manual {
        start: i64,
        nanos: AtomicI64,
    },
}

/// Marks a clock that shows the wall clock.
const FOLLOWS_THE_WALL: i64 = i64::MIN;

type Wall = Box<dyn Fn() -> DateTime<Utc> + Send + Sync>;

struct Host {
    wall: Wall,
    origin: Instant,
    /// Reading of the clock at `origin`, in Unix nanoseconds, or [`FOLLOWS_THE_WALL`].
    base: AtomicI64,
    /// The sum of the corrections, in nanoseconds.
    offset: AtomicI64,
}

impl Host {
    /// Nanoseconds since `origin`.
    fn elapsed(&self) -> i64 {
        nanos(self.origin.elapsed())
    }

    /// Returns what `base` is, or would be, were the clock to run by itself from now on.
    fn base(&self) -> i64 {
        match self.base.load(Ordering::Acquire) {
            FOLLOWS_THE_WALL => unix_nanos((self.wall)()).saturating_sub(self.elapsed()),
            base => base,
        }
    }

    fn read(&self) -> Reading {
        let steady = self.origin.elapsed();
        let now = match self.base.load(Ordering::Acquire) {
            FOLLOWS_THE_WALL => (self.wall)(),
            base => DateTime::from_timestamp_nanos(base.saturating_add(nanos(steady))),
        };
        Reading { now, steady }
    }

    /// Sets `base`; the clock runs by itself from here on.
    fn set(&self, base: i64) {
        // The mark is no time that anybody means.
        self.base.store(base.max(FOLLOWS_THE_WALL + 1), Ordering::Release);
    }
}

/// A reading of a clock; see [`Clock::read`].
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time.
    pub now: DateTime<Utc>,
    /// Time for which the clock had run.
    pub steady: Duration,
}

impl Reading {
    /// Returns how long from this moment until `at`; zero if it had passed.
    #[must_use]
    pub fn until(&self, at: DateTime<Utc>) -> Duration {
        (at - self.now).to_std().unwrap_or(Duration::ZERO)
    }

    /// Returns how long the clock will have run at `at`; at this moment if that had passed.
    #[must_use]
    pub fn steady_at(&self, at: DateTime<Utc>) -> Duration {
        self.steady.saturating_add(self.until(at))
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

impl Clock {
    /// The host's clock, see [`Clock`].
    #[must_use]
    pub fn system() -> Self {
        Self::with_wall(Utc::now)
    }

    /// As [`system`](Self::system), but the host's wall clock is what `wall` tells: for tests that play its
    /// steps.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Source::System(Host {
            wall: Box::new(wall),
            origin: Instant::now(),
            base: AtomicI64::new(FOLLOWS_THE_WALL),
            offset: AtomicI64::new(0),
        })))
    }

    /// The wall clock's time now in whole milliseconds, from here on moved by tokio's clock:
    /// `tokio::time::pause` and `advance` drive it. Tokio's timers have milliseconds too, so what is due after
    /// a span is due when a sleep of that span is over.
    #[must_use]
    pub fn tokio() -> Self {
        Self::tokio_at(Utc::now().trunc_subsecs(3))
    }

    /// As [`tokio`](Self::tokio), but it is `start` now.
    #[must_use]
    pub fn tokio_at(start: DateTime<Utc>) -> Self {
        Self(Arc::new(Source::Virtual {
            start,
            origin: tokio::time::Instant::now(),
        }))
    }

    /// A clock that stands at `start` until [`advance`](Self::advance) moves it.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        let start = start.timestamp_nanos_opt().unwrap_or(0);
        Self(Arc::new(Source::Manual {
            start,
            nanos: AtomicI64::new(start),
        }))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &*self.0 {
            Source::System(host) => host.read().now,
            Source::Virtual { start, origin } => {
                *start + TimeDelta::from_std(origin.elapsed()).unwrap_or(TimeDelta::zero())
            }
            Source::Manual { nanos, .. } => DateTime::from_timestamp_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Returns how long this clock has run. No correction and no step of a wall clock changes it, so it measures
    /// spans: a lease lasts until a reading of this. On the system's clock it is monotonic time, which may
    /// stand still while the host is suspended; on a manual one, how far that was moved, zero at least.
    #[must_use]
    pub fn steady(&self) -> Duration {
        match &*self.0 {
            Source::System(host) => host.origin.elapsed(),
            Source::Virtual { origin, .. } => origin.elapsed(),
            Source::Manual { start, nanos } => {
                let moved = nanos.load(Ordering::Relaxed).saturating_sub(*start);
                Duration::from_nanos(u64::try_from(moved).unwrap_or(0))
            }
        }
    }

    /// Both [`now`](Self::now) and [`steady`](Self::steady), of the same moment.
    #[must_use]
    pub fn read(&self) -> Reading {
        match &*self.0 {
            Source::System(host) => host.read(),
            _ => Reading {
                now: self.now(),
                steady: self.steady(),
            },
        }
    }

    /// Returns what the clock showed, or will show, at a reading of [`steady`](Self::steady), with the
    /// correction that is in force now.
    #[must_use]
    pub fn at(&self, steady: Duration) -> DateTime<Utc> {
        let read = self.read();
        let signed = |span| TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
        let by = signed(steady) - signed(read.steady);
        read.now.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The host's wall clock, uncorrected. Virtual and manual clocks show [`now`](Self::now).
    #[must_use]
    pub fn wall(&self) -> DateTime<Utc> {
        match &*self.0 {
            Source::System(host) => (host.wall)(),
            _ => self.now(),
        }
    }

    /// Returns whether tokio's clock moves it, which stands still or leaps in tests.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(&*self.0, Source::Virtual { .. })
    }

    /// Moves a manual clock forward; the others move by themselves and ignore it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { nanos: now, .. } = &*self.0 {
            now.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// Sets a manual clock, forward or back; the others move by themselves and ignore it.
    pub fn set(&self, to: DateTime<Utc>) {
        if let Source::Manual { nanos, .. } = &*self.0 {
            nanos.store(to.timestamp_nanos_opt().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Sets the system's clock `offset` ahead of the host's wall clock as that is now. From here on it runs by
    /// itself, whatever becomes of the wall clock. Virtual and manual clocks ignore it.
    pub fn set_offset(&self, offset: TimeDelta) {
        if let Source::System(host) = &*self.0 {
            let offset = offset.num_nanoseconds().unwrap_or(0);
            let wall = unix_nanos((host.wall)());
            host.set(wall.saturating_sub(host.elapsed()).saturating_add(offset));
            host.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// Lets the system's clock run by itself from now on, as it stands, whatever becomes of the wall clock: a
    /// storage that keeps time agrees with it. Without effect where it does so already.
    pub fn hold(&self) {
        if let Source::System(host) = &*self.0 {
            // Who set it meanwhile knew more.
            let _ = host
                .base
                .compare_exchange(FOLLOWS_THE_WALL, host.base(), Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Corrects the system's clock: it was `time` at the reading `at` of [`steady`](Self::steady). From here on
    /// it runs by itself. Virtual and manual clocks ignore it.
    pub fn correct(&self, time: DateTime<Utc>, at: Duration) {
        if let Source::System(host) = &*self.0 {
            let base = unix_nanos(time).saturating_sub(nanos(at));
            host.offset
                .fetch_add(base.saturating_sub(host.base()), Ordering::Relaxed);
            host.set(base);
        }
    }

    /// The sum of the corrections since [`set_offset`](Self::set_offset), and what was set there.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        match &*self.0 {
            Source::System(host) => TimeDelta::nanoseconds(host.offset.load(Ordering::Relaxed)),
            _ => TimeDelta::zero(),
        }
    }

    /// Returns whether this is the system's clock.
    #[must_use]
    pub fn is_system(&self) -> bool {
        matches!(&*self.0, Source::System(_))
    }

    /// Returns how long from now until `at`; zero if it has passed.
    #[must_use]
    pub fn until(&self, at: DateTime<Utc>) -> Duration {
        self.read().until(at)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &*self.0 {
            Source::System(_) => "system",
            Source::Virtual { .. } => "tokio",
            Source::Manual { .. } => "manual",
        };
        write!(f, "Clock({kind} {})", self.now().to_rfc3339())
    }
}

/// Unix nanoseconds, the unit of `pending_since`.
#[must_use]
pub fn unix_nanos(at: DateTime<Utc>) -> i64 {
    at.timestamp_nanos_opt().unwrap_or(i64::MAX)
}

/// A time to the millisecond, rounded up, where it has a fraction of a second: Unix milliseconds. `None` where
/// its Unix second says it all.
///
/// Times on the wire are whole seconds, floored as Go does. What lies beyond is kept in fields of our own, so
/// that nothing we do is earlier than asked.
#[must_use]
pub fn exact_millis(at: DateTime<Utc>) -> Option<i64> {
    let nanos = at.timestamp_subsec_nanos();
    (nanos > 0).then(|| {
        let millis = i64::from(nanos.div_ceil(1_000_000));
        at.timestamp().saturating_mul(1000).saturating_add(millis)
    })
}

/// The time that [`exact_millis`] told of one whose Unix second is `secs`; `None` if it is of another time, as
/// where a Go program has written the second since.
#[must_use]
pub fn from_exact_millis(secs: i64, millis: i64) -> Option<DateTime<Utc>> {
    let beyond = millis.checked_sub(secs.checked_mul(1000)?)?;
    (1..=1000)
        .contains(&beyond)
        .then(|| DateTime::from_timestamp_millis(millis))?
}

/// The instant of a Unix second on the wire; 0 means "no time".
#[must_use]
pub fn from_unix_secs(secs: i64) -> Option<DateTime<Utc>> {
    (secs != 0).then(|| DateTime::from_timestamp(secs, 0)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_paused_time() {
        let clock = Clock::tokio();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(clock.now() - before, TimeDelta::seconds(90));
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(Clock::tokio_at(start).now(), start);
    }

    #[test]
    fn manual_clock_moves_by_hand_only() {
        let clock = Clock::manual(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.now().timestamp_millis(), 1_700_000_001_500);
        clock.set(DateTime::from_timestamp(7, 0).unwrap());
        assert_eq!(clock.now().timestamp(), 7);
    }

    /// A system clock whose wall clock can be stepped, and the step, in seconds.
    fn stepped() -> (Clock, Arc<AtomicI64>) {
        let step = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&step);
        let clock = Clock::with_wall(move || Utc::now() + TimeDelta::seconds(read.load(Ordering::Relaxed)));
        (clock, step)
    }

    /// Returns how far `clock` is ahead of the test's own, in whole seconds.
    fn ahead(clock: &Clock) -> i64 {
        ((clock.now() - Utc::now()).num_milliseconds() + 500).div_euclid(1000)
    }

    #[test]
    fn exact_times_are_kept_where_a_second_does_not_say_it_all() {
        let at = |nanos| DateTime::from_timestamp(1_700_000_000, nanos).unwrap();
        for (nanos, millis) in [
            (0, None),
            (1, Some(1)),
            (400_000_000, Some(400)),
            (999_999_999, Some(1000)),
        ] {
            let millis = millis.map(|millis| 1_700_000_000_000 + millis);
            assert_eq!(exact_millis(at(nanos)), millis);
            let Some(millis) = millis else { continue };
            let read = from_exact_millis(1_700_000_000, millis).unwrap();
            assert!(read >= at(nanos) && read - at(nanos) < TimeDelta::milliseconds(1));
            assert_eq!(from_exact_millis(1_700_000_001, millis), None);
            assert_eq!(from_exact_millis(1_699_999_999, millis), None);
        }
        assert_eq!(from_exact_millis(i64::MAX, i64::MIN), None);
    }

    #[test]
    fn offset_corrects_the_system_clock_only() {
        let clock = Clock::system();
        clock.set_offset(TimeDelta::seconds(-3600));
        assert_eq!((ahead(&clock), clock.offset()), (-3600, TimeDelta::seconds(-3600)));
        let manual = Clock::manual(DateTime::from_timestamp(7, 0).unwrap());
        manual.set_offset(TimeDelta::seconds(5));
        manual.correct(DateTime::from_timestamp(70, 0).unwrap(), Duration::ZERO);
        manual.hold();
        assert_eq!(manual.now().timestamp(), 7);
    }

    #[test]
    fn a_step_of_the_wall_clock_moves_the_clock_only_while_no_storage_keeps_time() {
        for by in [-600, -65, 65, 600] {
            let (clock, step) = stepped();
            step.store(by, Ordering::Relaxed);
            assert_eq!(ahead(&clock), by, "nobody corrects it");
            step.store(0, Ordering::Relaxed);
            clock.hold();
            let steady = clock.steady();
            step.store(by, Ordering::Relaxed);
            assert_eq!(ahead(&clock), 0, "{by}");
            assert!(clock.steady() - steady < Duration::from_secs(30), "{by}");
            clock.correct(Utc::now() + TimeDelta::seconds(7), clock.steady());
            step.store(-by, Ordering::Relaxed);
            clock.hold();
            assert_eq!((ahead(&clock), ahead(&clock)), (7, 7), "{by}");
            clock.set_offset(TimeDelta::zero());
            step.store(0, Ordering::Relaxed);
            assert_eq!(ahead(&clock), -by, "set by the wall clock as it was");
        }
    }

    #[test]
    fn a_correction_that_is_told_twice_counts_once() {
        let (clock, _) = stepped();
        let (time, at) = (Utc::now() + TimeDelta::seconds(65), clock.steady());
        clock.correct(time, at);
        clock.correct(time, at);
        assert_eq!(ahead(&clock), 65);
        assert_eq!((clock.offset().num_milliseconds() + 500) / 1000, 65);
        assert!((clock.at(at) - time).abs() < TimeDelta::seconds(1));
    }

    #[tokio::test(start_paused = true)]
    async fn steady_time_is_what_has_passed() {
        let virtual_clock = Clock::tokio();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(virtual_clock.steady(), Duration::from_secs(90));
        let manual = Clock::manual(DateTime::from_timestamp(1_700_000_000, 0).unwrap());
        manual.advance(Duration::from_secs(3));
        assert_eq!(manual.steady(), Duration::from_secs(3));
        assert_eq!(manual.at(Duration::from_secs(13)).timestamp(), 1_700_000_013);
        manual.set(DateTime::from_timestamp(7, 0).unwrap());
        assert_eq!(manual.steady(), Duration::ZERO);
    }
}
