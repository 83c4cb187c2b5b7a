//! Failures of Redis, or of the way to it, and their meaning for the caller.
//!
//! The one question that matters is whether the operation may have taken effect. An error reply
//! is a definite refusal. A connection that ends without a reply leaves it open once the command
//! was on its way: [`BrokerError::Ambiguous`].

use std::{error::Error as StdError, fmt, io, sync::Arc};

use asynq_core::error::BrokerError;
use redis::{ErrorKind, RedisError, ServerError, Value};

/// An error reply: its code (`WRONGTYPE`, `NOSCRIPT` …) and the rest of its text.
///
/// The code is the first word, whatever it is. Replies of scripts are often bare text: for
/// `NOT FOUND` the code is `NOT` and the text `FOUND`, so match on both, or on [`fmt::Display`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorReply {
    /// The first word.
    pub(crate) code: String,
    /// The rest of the line.
    pub(crate) text: String,
}

impl From<&ServerError> for ErrorReply {
    fn from(error: &ServerError) -> Self {
        Self {
            code: error.code().to_owned(),
            text: error.details().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.text.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.text)
        }
    }
}

impl StdError for ErrorReply {}

/// The codes that have a meaning of their own here.
const KNOWN: [&str; 16] = [
    "OOM",
    "READONLY",
    "LOADING",
    "BUSY",
    "MASTERDOWN",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MOVED",
    "ASK",
    "NOREPLICAS",
    "MISCONF",
    "WRONGTYPE",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "NOSCRIPT",
];

impl ErrorReply {
    /// The code that the failed command gave, also where a script wraps it. Redis 6 puts
    /// `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -` in front of it,
    /// and `@user_script: 1: -` if the script returned what `pcall` caught.
    pub(crate) fn inner_code(&self) -> &str {
        let wrapped = self.code == "ERR" && self.text.starts_with("Error running script")
            || self.code.starts_with("@user_script");
        if !wrapped {
            return &self.code;
        }
        let tail = self.text.rsplit("@user_script:").next().unwrap_or_default();
        let message = tail.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit() || c == ':' || c == '-');
        let word = message.split(' ').next().unwrap_or_default();
        KNOWN
            .iter()
            .find(|known| **known == word)
            .copied()
            .unwrap_or(&self.code)
    }

    /// Returns whether the script is not in the server's cache. Nothing ran.
    pub(crate) fn is_no_script(&self) -> bool {
        self.code == "NOSCRIPT"
    }
}

impl From<ErrorReply> for BrokerError {
    fn from(reply: ErrorReply) -> Self {
        match reply.inner_code() {
            "OOM" => Self::OutOfMemory,
            "READONLY" => Self::ReadOnly,
            // The key is not in the reply; who knows it may put it in.
            "WRONGTYPE" => Self::WrongType { key: String::new() },
            "LOADING" | "BUSY" | "MASTERDOWN" | "TRYAGAIN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "NOREPLICAS"
            | "MISCONF" | "NOSCRIPT" => Self::Busy {
                reason: reply.to_string(),
            },
            _ => Self::Refused { source: reply.into() },
        }
    }
}

/// Takes an error reply out of an answer. Error replies inside of an array stay where they are.
pub(crate) fn split(answer: Value) -> Result<Value, ErrorReply> {
    match answer {
        Value::ServerError(error) => Err(ErrorReply::from(&error)),
        value => Ok(value),
    }
}

/// Returns whether an error reply inside of an answer says that the server does not write.
pub(crate) fn says_read_only(answer: &Value) -> bool {
    match answer {
        Value::Array(values) | Value::Set(values) => values.iter().any(says_read_only),
        Value::Map(pairs) => pairs.iter().any(|(_, value)| says_read_only(value)),
        Value::ServerError(error) => ErrorReply::from(error).inner_code() == "READONLY",
        _ => false,
    }
}

/// Returns what an error of the redis crate means. `sent`: the command may have reached the server.
pub(crate) fn classify(error: RedisError, sent: bool) -> BrokerError {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse if sent => BrokerError::ambiguous(error),
        ErrorKind::Io if is_tls_fault(&error) => BrokerError::Refused { source: error.into() },
        ErrorKind::Io | ErrorKind::MasterNameNotFoundBySentinel | ErrorKind::ClusterConnectionNotFound => {
            BrokerError::unavailable(error)
        }
        ErrorKind::Parse => BrokerError::Protocol {
            operation: "connect",
            source: Some(error.into()),
        },
        _ => match ServerError::try_from(error) {
            Ok(reply) => ErrorReply::from(&reply).into(),
            Err(error) => BrokerError::Refused { source: error.into() },
        },
    }
}

/// Returns whether the stream itself could not be understood: how rustls tells of an alert, say about a
/// certificate of ours.
fn is_tls_fault(error: &RedisError) -> bool {
    // The crate gives its cause in an Arc.
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
}

/// The same error of a call that has no effect on tasks: that its answer was lost means nothing.
pub(crate) fn without_effect(error: BrokerError) -> BrokerError {
    match error {
        BrokerError::Ambiguous { source: Some(source) } => match source.downcast::<RedisError>() {
            Ok(error) => classify(*error, false),
            Err(source) => BrokerError::Unavailable { source: Some(source) },
        },
        BrokerError::Ambiguous { source: None } => BrokerError::Unavailable { source: None },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(line: &str) -> ErrorReply {
        let bytes = format!("-{line}\r\n");
        split(redis::parse_redis_value(bytes.as_bytes()).unwrap()).unwrap_err()
    }

    #[test]
    fn out_of_memory_is_found_in_each_wrapping() {
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: db8d, on @user_script:1.",
            "ERR Error running script (call to f_db8d): @user_script:1: @user_script: 1: -OOM command not allowed",
            "@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.",
        ] {
            assert!(
                matches!(BrokerError::from(reply(line)), BrokerError::OutOfMemory),
                "{line}"
            );
        }
    }

    #[test]
    fn a_script_error_that_only_mentions_a_code_is_not_that_code() {
        let text = "ERR Error running script (call to f_1): @user_script:1: user_script:1: boom OOM";
        assert_eq!(reply(text).inner_code(), "ERR");
        assert!(matches!(
            BrokerError::from(reply("NOT FOUND")),
            BrokerError::Refused { .. }
        ));
        assert_eq!(reply("NOT FOUND").to_string(), "NOT FOUND");
    }

    #[test]
    fn refusals_are_typed() {
        let kind = |line: &str| BrokerError::from(reply(line));
        assert!(matches!(
            kind("READONLY You can't write against a read only replica."),
            BrokerError::ReadOnly
        ));
        let wrapped = "ERR Error running script (call to f_0): @user_script:1: WRONGTYPE Operation against a key";
        assert!(matches!(kind(wrapped), BrokerError::WrongType { .. }));
        assert!(matches!(
            kind("LOADING Redis is loading the dataset in memory"),
            BrokerError::Busy { .. }
        ));
        assert!(matches!(
            kind("NOREPLICAS Not enough good replicas to write."),
            BrokerError::Busy { .. }
        ));
        assert!(matches!(
            kind("WRONGPASS invalid username-password pair"),
            BrokerError::Refused { .. }
        ));
        assert!(reply("NOSCRIPT No matching script. Please use EVAL.").is_no_script());
    }

    #[test]
    fn a_broken_pipe_is_ambiguous_only_after_sending() {
        let pipe = || RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(classify(pipe(), true), BrokerError::Ambiguous { .. }));
        assert!(matches!(classify(pipe(), false), BrokerError::Unavailable { .. }));
        assert!(matches!(
            without_effect(classify(pipe(), true)),
            BrokerError::Unavailable { .. }
        ));
        let alert = RedisError::from(io::Error::new(io::ErrorKind::InvalidData, "alert"));
        assert!(matches!(classify(alert.clone(), false), BrokerError::Refused { .. }));
        assert!(matches!(
            without_effect(classify(alert, true)),
            BrokerError::Refused { .. }
        ));
    }
}
