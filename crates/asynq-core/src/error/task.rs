//! Faults of a task, found before it is sent.

use std::time::Duration;

use crate::names::NameError;

/// A task or an option that cannot be enqueued as it is. Nothing was sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A type, queue, id or group that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A duration below what the wire can carry: whole seconds.
    #[error("{field} of {got:?} is below the limit of {limit:?}")]
    TooShort {
        /// The option.
        field: &'static str,
        /// The smallest allowed value.
        limit: Duration,
        /// The value given.
        got: Duration,
    },
    /// A duration above the limit.
    #[error("{field} of {got:?} is above the limit of {limit:?}")]
    TooLong {
        /// The option.
        field: &'static str,
        /// The largest allowed value.
        limit: Duration,
        /// The value given.
        got: Duration,
    },
    /// A number above the limit.
    #[error("{field} of {got} is above the limit of {limit}")]
    TooLarge {
        /// The option or field.
        field: &'static str,
        /// The largest allowed value.
        limit: u64,
        /// The value given.
        got: u64,
    },
    /// A time outside of 1970-01-01T00:00:01Z to 9999-12-31T23:59:59Z.
    #[error("{field} is outside 1970-01-01T00:00:01Z to 9999-12-31T23:59:59Z")]
    TimeOutOfRange {
        /// The option.
        field: &'static str,
    },
    /// Options that exclude each other.
    #[error("{first} and {second} cannot be combined")]
    Conflict {
        /// One option.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The value could not be written as the payload.
    #[error("payload could not be encoded: {reason}")]
    Encode {
        /// The message of the encoder.
        reason: String,
    },
}

impl TaskError {
    /// Checks a number of bytes against its limit.
    pub(crate) fn check_size(field: &'static str, bytes: usize, limit: usize) -> Result<(), Self> {
        if bytes > limit {
            return Err(Self::TooLarge {
                field,
                limit: limit as u64,
                got: bytes as u64,
            });
        }
        Ok(())
    }
}
