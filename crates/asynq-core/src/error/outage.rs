//! Outages: a storage that cannot be reached.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};

use super::{BrokerError, text::report};

/// An outage of a storage: the address of the storage, the last failure, the beginning, and the number of attempts.
///
/// The source of [`BrokerError::Unavailable`] and [`BrokerError::Refused`] if a call found no connection.
#[derive(Clone)]
pub struct Outage {
    storage: Arc<str>,
    since: DateTime<Utc>,
    attempts: u32,
    cause: Arc<BrokerError>,
}

impl Outage {
    /// The first attempt to connect to the storage failed.
    #[must_use]
    pub fn new(storage: &str, since: DateTime<Utc>, cause: BrokerError) -> Self {
        Self {
            storage: storage.into(),
            since,
            attempts: 1,
            cause: Arc::new(cause),
        }
    }

    /// Another attempt failed.
    #[must_use]
    pub fn again(&self, cause: BrokerError) -> Self {
        Self {
            attempts: self.attempts.saturating_add(1),
            cause: Arc::new(cause),
            ..self.clone()
        }
    }

    /// The address of the storage, without secrets.
    #[must_use]
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// Returns when the first attempt failed.
    #[must_use]
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Returns how many attempts have failed.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns how the last attempt failed.
    #[must_use]
    pub fn cause(&self) -> &BrokerError {
        &self.cause
    }

    /// Returns whether another attempt would fail too, because the credentials are refused or the settings are wrong.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!(
            *self.cause,
            BrokerError::Refused { .. } | BrokerError::Unsupported { .. } | BrokerError::InvalidConnection { .. }
        )
    }
}

impl From<Outage> for BrokerError {
    /// [`BrokerError::Refused`] if the outage is [permanent](Outage::is_for_good), else [`BrokerError::Unavailable`].
    fn from(outage: Outage) -> Self {
        match outage.is_for_good() {
            true => Self::Refused {
                source: Box::new(outage),
            },
            false => Self::unavailable(outage),
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            storage,
            since,
            attempts,
            cause,
        } = self;
        let times = if *attempts == 1 { "attempt" } else { "attempts" };
        let since = since.format("%H:%M:%S");
        write!(
            f,
            "{storage}: {} ({attempts} {times} since {since} UTC)",
            report(&**cause)
        )
    }
}

/// The text, since `main` shows errors so.
impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Its text holds the cause, so there is no source.
impl std::error::Error for Outage {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_says_where_what_since_when_and_how_often() {
        let noon = "2026-03-01T12:00:00Z".parse().unwrap();
        let refused = || BrokerError::unavailable("connection refused");
        let once = Outage::new("redis://10.0.0.1:6379/0", noon, refused());
        assert_eq!(
            once.to_string(),
            "redis://10.0.0.1:6379/0: storage is not reachable: connection refused (1 attempt since 12:00:00 UTC)"
        );
        let error = BrokerError::from(once.again(refused()).again(refused()));
        assert!(error.is_retryable());
        assert!(report(&error).ends_with("(3 attempts since 12:00:00 UTC)"), "{error:?}");
        let wrong = BrokerError::Refused {
            source: "WRONGPASS".into(),
        };
        let error = BrokerError::from(once.again(wrong));
        assert!(
            !error.is_retryable() && report(&error).contains("WRONGPASS"),
            "{error:?}"
        );
    }
}
