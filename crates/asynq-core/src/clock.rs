//! Injected time: the system's, tokio's (paused in tests), or a time moved by hand.

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

/// A source of the current time. Cheap to clone; all clones share one clock.
///
/// The [system's](Self::system) clock shows the host's wall clock until the program connects to a storage that keeps
/// its own time, as Redis does. After that it runs on the host's monotonic clock, and only the storage's time
/// corrects it. A step of the host's wall clock then moves no lease, no cut-off and no schedule.
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

/// The value that marks a clock that shows the wall clock.
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

    /// Returns the value of `base`, or the value that it would have if the clock began to run by itself now.
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
        // The mark is not a meaningful time.
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
    /// Returns the time from now until `at`; zero if `at` has passed.
    #[must_use]
    pub fn until(&self, at: DateTime<Utc>) -> Duration {
        (at - self.now).to_std().unwrap_or(Duration::ZERO)
    }

    /// Returns the reading of [`steady`](Self::steady) at `at`; the present reading if `at` has passed.
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

    /// Like [`system`](Self::system), but `wall` provides the host's wall clock, for tests that simulate its steps.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Source::System(Host {
            wall: Box::new(wall),
            origin: Instant::now(),
            base: AtomicI64::new(FOLLOWS_THE_WALL),
            offset: AtomicI64::new(0),
        })))
    }

    /// Returns a clock that starts at the present wall clock time, in whole milliseconds, and then follows tokio's
    /// clock: `tokio::time::pause` and `advance` control it. Tokio's timers also count milliseconds, so a time that
    /// is due after a duration is due when a sleep of that duration ends.
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

    /// Returns a clock that shows `start` until [`advance`](Self::advance) moves it.
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

    /// Returns the time for which this clock has run. Corrections and steps of a wall clock do not change it, so it
    /// measures durations: a lease lasts until a reading of this method. The system's clock returns monotonic time,
    /// which may stand still while the host is suspended. A manual clock returns the duration by which it was moved,
    /// and at least zero.
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

    /// Returns [`now`](Self::now) and [`steady`](Self::steady) at the same moment.
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

    /// Returns the time that the clock showed, or will show, at a reading of [`steady`](Self::steady), with the
    /// present correction.
    #[must_use]
    pub fn at(&self, steady: Duration) -> DateTime<Utc> {
        let read = self.read();
        let signed = |span| TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
        let by = signed(steady) - signed(read.steady);
        read.now.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Returns the host's wall clock without correction. Virtual and manual clocks return [`now`](Self::now).
    #[must_use]
    pub fn wall(&self) -> DateTime<Utc> {
        match &*self.0 {
            Source::System(host) => (host.wall)(),
            _ => self.now(),
        }
    }

    /// Returns whether this clock follows tokio's clock, which can stand still or jump in tests.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(&*self.0, Source::Virtual { .. })
    }

    /// Moves a manual clock forward. Other clocks move by themselves and ignore the call.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { nanos: now, .. } = &*self.0 {
            now.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// Sets a manual clock, forward or back. Other clocks move by themselves and ignore the call.
    pub fn set(&self, to: DateTime<Utc>) {
        if let Source::Manual { nanos, .. } = &*self.0 {
            nanos.store(to.timestamp_nanos_opt().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Sets the system's clock `offset` ahead of the present wall clock of the host. After that it runs by itself,
    /// independent of the wall clock. Virtual and manual clocks ignore the call.
    pub fn set_offset(&self, offset: TimeDelta) {
        if let Source::System(host) = &*self.0 {
            let offset = offset.num_nanoseconds().unwrap_or(0);
            let wall = unix_nanos((host.wall)());
            host.set(wall.saturating_sub(host.elapsed()).saturating_add(offset));
            host.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// Makes the system's clock run by itself from now on, independent of the wall clock, because a storage that
    /// keeps time agrees with its present time. Without effect if it already runs by itself.
    pub fn hold(&self) {
        if let Source::System(host) = &*self.0 {
            // A concurrent call has set it with better knowledge.
            let _ = host
                .base
                .compare_exchange(FOLLOWS_THE_WALL, host.base(), Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Corrects the system's clock: at the reading `at` of [`steady`](Self::steady) the time was `time`. After that
    /// it runs by itself. Virtual and manual clocks ignore the call.
    pub fn correct(&self, time: DateTime<Utc>, at: Duration) {
        if let Source::System(host) = &*self.0 {
            let base = unix_nanos(time).saturating_sub(nanos(at));
            host.offset
                .fetch_add(base.saturating_sub(host.base()), Ordering::Relaxed);
            host.set(base);
        }
    }

    /// Returns the sum of the corrections since [`set_offset`](Self::set_offset), plus the offset set there.
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

/// Returns the Unix milliseconds of a time, rounded up, if the time has a fraction of a second. `None` if it is a
/// whole second.
///
/// Times on the wire are whole seconds, rounded down as in Go. Fields of our own keep the fraction, so that nothing
/// happens earlier than requested.
#[must_use]
pub fn exact_millis(at: DateTime<Utc>) -> Option<i64> {
    let nanos = at.timestamp_subsec_nanos();
    (nanos > 0).then(|| {
        let millis = i64::from(nanos.div_ceil(1_000_000));
        at.timestamp().saturating_mul(1000).saturating_add(millis)
    })
}

/// Returns the time that [`exact_millis`] returned for a time whose Unix second is `secs`. `None` if the milliseconds
/// belong to another second, for example because a Go program has since written the second.
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
