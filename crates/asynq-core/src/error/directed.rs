//! The directive that an error carries.

use std::{error::Error as StdError, fmt, time::Duration};

/// An error of the application.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The fate of a task whose handler returned an error.
///
/// [`Error::directive`](crate::Error::directive) finds it inside any number of wrappers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Directive {
    /// The run failed. The task is retried while retries are left, then archived. This holds for any error without
    /// another directive.
    Fail,
    /// The task is archived now ([`Error::skip_retry`](crate::Error::skip_retry)).
    SkipRetry,
    /// The task is dropped ([`Error::revoke`](crate::Error::revoke)).
    Revoke,
    /// The task runs again after this delay, without using up a retry ([`Error::snooze`](crate::Error::snooze)).
    Snooze(Duration),
}

/// The content of [`Error::SkipRetry`](crate::Error::SkipRetry), [`Error::Revoke`](crate::Error::Revoke) and
/// [`Error::Snooze`](crate::Error::Snooze), and their [`source`](StdError::source).
///
/// The directive is an element of its own in the chain of sources. Some error types keep only this chain (for example
/// `anyhow::Error` converted into a `Box<dyn Error>`), and the directive survives in it.
#[derive(Debug)]
pub struct Directed {
    directive: Directive,
    pub(super) error: Option<BoxError>,
}

impl Directed {
    pub(super) fn skip_retry(error: BoxError) -> Self {
        Self {
            directive: Directive::SkipRetry,
            error: Some(error),
        }
    }

    pub(super) fn revoke(error: BoxError) -> Self {
        Self {
            directive: Directive::Revoke,
            error: Some(error),
        }
    }

    pub(super) fn snooze(delay: Duration) -> Self {
        Self {
            directive: Directive::Snooze(delay),
            error: None,
        }
    }

    /// Returns the fate of the task.
    #[must_use]
    pub fn directive(&self) -> Directive {
        self.directive
    }

    /// The error that the handler gave as the reason; `None` for a snooze.
    #[must_use]
    pub fn reason(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.error.as_deref()
    }

    /// Returns the text of the [`Error`](crate::Error) that contains this directive: the text of the reason.
    pub(super) fn text(&self) -> &dyn fmt::Display {
        match &self.error {
            Some(error) => error,
            None => self,
        }
    }
}

/// Writes the directive in a few words, without the reason, which is the text of the [`Error`](crate::Error) that
/// contains it.
impl fmt::Display for Directed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.directive {
            Directive::Fail => f.write_str("retry the task"),
            Directive::SkipRetry => f.write_str("skip retry for the task"),
            Directive::Revoke => f.write_str("revoke the task"),
            Directive::Snooze(delay) => write!(f, "snoozed for {delay:?}"),
        }
    }
}

impl StdError for Directed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.as_ref().and_then(|error| error.source())
    }
}
