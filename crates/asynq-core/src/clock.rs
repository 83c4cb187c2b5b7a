//! Time, injected: the system's, tokio's (paused in tests), or one moved by hand.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// Where `now` comes from. Cheap to clone; clones share one clock.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System {
        offset_nanos: AtomicI64,
    },
    Virtual {
        start: DateTime<Utc>,
        origin: tokio::time::Instant,
    },
    Manual {
        nanos: AtomicI64,
    },
}

impl Clock {
    /// The wall clock, corrected by [`set_offset`](Self::set_offset).
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Source::System {
            offset_nanos: AtomicI64::new(0),
        }))
    }

    /// The wall clock's time now, from here on moved by tokio's clock: `tokio::time::pause` and
    /// `advance` drive it.
    #[must_use]
    pub fn tokio() -> Self {
        Self::tokio_at(Utc::now())
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
        Self(Arc::new(Source::Manual {
            nanos: AtomicI64::new(start.timestamp_nanos_opt().unwrap_or(0)),
        }))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &*self.0 {
            Source::System { offset_nanos } => {
                Utc::now() + TimeDelta::nanoseconds(offset_nanos.load(Ordering::Relaxed))
            }
            Source::Virtual { start, origin } => {
                *start + TimeDelta::from_std(origin.elapsed()).unwrap_or(TimeDelta::zero())
            }
            Source::Manual { nanos } => DateTime::from_timestamp_nanos(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock forward; the others move by themselves and ignore it.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual { nanos } = &*self.0 {
            nanos.fetch_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Sets a manual clock, forward or back; the others move by themselves and ignore it.
    pub fn set(&self, to: DateTime<Utc>) {
        if let Source::Manual { nanos } = &*self.0 {
            nanos.store(to.timestamp_nanos_opt().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Corrects the system clock by the measured offset to the storage's own time (SAFETY rule 22:
    /// applied from one second on). Virtual and manual clocks ignore it.
    pub fn set_offset(&self, offset: TimeDelta) {
        if let Source::System { offset_nanos } = &*self.0 {
            offset_nanos.store(offset.num_nanoseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The correction in force.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        match &*self.0 {
            Source::System { offset_nanos } => TimeDelta::nanoseconds(offset_nanos.load(Ordering::Relaxed)),
            _ => TimeDelta::zero(),
        }
    }

    /// Whether this is the corrected wall clock.
    #[must_use]
    pub fn is_system(&self) -> bool {
        matches!(&*self.0, Source::System { .. })
    }

    /// How long from now until `at`; zero if it has passed.
    #[must_use]
    pub fn until(&self, at: DateTime<Utc>) -> Duration {
        (at - self.now()).to_std().unwrap_or(Duration::ZERO)
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
            Source::System { .. } => "system",
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

    #[test]
    fn offset_corrects_the_system_clock_only() {
        let clock = Clock::system();
        clock.set_offset(TimeDelta::seconds(-3600));
        assert!((Utc::now() - clock.now()).num_seconds() >= 3599);
        let manual = Clock::manual(DateTime::from_timestamp(7, 0).unwrap());
        manual.set_offset(TimeDelta::seconds(5));
        assert_eq!(manual.now().timestamp(), 7);
    }
}
