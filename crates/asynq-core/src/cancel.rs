//! Cancel requests, with the fate of the cancelled task.

use std::{fmt, str::FromStr};

use crate::broker::CallToken;

/// The fate of a task whose run is cancelled on request, unless the run succeeds or revokes its task.
///
/// Only servers of this library know this value. A Go server always retries the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Then {
    /// The task is retried as after any failure, and archived if it has no retries left. Go has only this case.
    #[default]
    Retry,
    /// The task is archived, whatever retries it has left.
    Archive,
    /// The task is deleted, and its unique lock is freed.
    Delete,
}

impl Then {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Retry, Self::Archive, Self::Delete];

    /// The name in the storage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }

    /// Returns the value of the field `x:cancel` for the run that was taken with this token.
    #[must_use]
    pub fn encode(self, token: &str) -> String {
        format!("{self} {token}")
    }

    /// Returns whether the run of this token is over, given the time of the task's last failure in Unix seconds. A
    /// run that fails after the lease in its token removes the token from the task. If a token is older than the last
    /// failure, a Go server has recovered the task, and perhaps taken it, and left the token.
    #[must_use]
    pub fn is_over(token: &str, last_failed_at: i64) -> bool {
        CallToken::lease_in(token).is_some_and(|until| last_failed_at >= until.0)
    }

    /// Parses the field `x:cancel`. `None` if the value is not a request, or is a request for a run with another
    /// token.
    #[must_use]
    pub fn decode(field: &[u8], token: &str) -> Option<Self> {
        let (then, of) = std::str::from_utf8(field).ok()?.split_once(' ')?;
        then.parse().ok().filter(|_| of == token)
    }
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`Then`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cancelled task can be retried, archived or deleted, and nothing else")]
pub struct UnknownThen;

impl FromStr for Then {
    type Err = UnknownThen;

    fn from_str(text: &str) -> Result<Self, UnknownThen> {
        Self::ALL
            .into_iter()
            .find(|then| then.as_str() == text)
            .ok_or(UnknownThen)
    }
}

/// The answer to a cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cancelled {
    /// The request is kept with the task, which one of our servers runs. The task ends as requested, unless the run
    /// succeeds or revokes it.
    Kept,
    /// The request was published but not kept, because a Go server runs the task. It cancels the run and retries the
    /// task.
    Told,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_written_and_for_its_run_alone() {
        for then in Then::ALL {
            let field = then.encode("3b5c-1@60");
            assert_eq!(Then::decode(field.as_bytes(), "3b5c-1@60"), Some(then));
            assert_eq!(Then::decode(field.as_bytes(), "3b5c-2@60"), None);
        }
        // The lease that it names ends at 60.
        for (failed_at, is_over) in [(0, false), (59, false), (60, true), (600, true)] {
            assert_eq!(Then::is_over("3b5c-1@60", failed_at), is_over, "{failed_at}");
        }
        assert!(!Then::is_over("names no lease", i64::MAX));
        for other in [&b""[..], b"archive", b"archive ", b"keep 3b5c-1@60", b"\xff 3b5c-1@60"] {
            assert_eq!(Then::decode(other, "3b5c-1@60"), None);
        }
    }
}
