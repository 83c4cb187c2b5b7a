//! Answers of scripts and commands, read without trust.

use std::vec;

use asynq_core::{
    error::{BrokerError, PoisonKind},
    excerpt::Excerpt,
    names::TaskId,
};
use chrono::{DateTime, Utc};
use redis::Value;

use crate::clock_sync::server_time;

/// An array, read from its front.
#[derive(Debug)]
pub(crate) struct Reply {
    operation: &'static str,
    values: vec::IntoIter<Value>,
}

impl Reply {
    /// The answer of a script that gives an array.
    ///
    /// # Errors
    /// [`BrokerError::WrongType`] if the script refused the call, [`BrokerError::Protocol`] if it
    /// is no array.
    pub(crate) fn of_script(operation: &'static str, value: Value) -> Result<Self, BrokerError> {
        let mut reply = Self::new(operation, value)?;
        if let [Value::BulkString(word), _] = reply.values.as_slice()
            && word == b"WRONGTYPE"
        {
            reply.values.next();
            return Err(BrokerError::WrongType { key: reply.text()? });
        }
        Ok(reply)
    }

    /// An array or set.
    pub(crate) fn new(operation: &'static str, value: Value) -> Result<Self, BrokerError> {
        match value {
            Value::Array(values) | Value::Set(values) => Ok(Self {
                operation,
                values: values.into_iter(),
            }),
            Value::Nil => Ok(Self {
                operation,
                values: Vec::new().into_iter(),
            }),
            other => Err(unexpected(operation, "an array", &other)),
        }
    }

    /// Returns how many values are left.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether all has been read.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.as_slice().is_empty()
    }

    fn next(&mut self) -> Result<Value, BrokerError> {
        self.values
            .next()
            .ok_or_else(|| protocol(self.operation, "the answer is too short".to_owned()))
    }

    /// Bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, BrokerError> {
        let value = self.next()?;
        bytes(self.operation, value)
    }

    /// A text; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> Result<String, BrokerError> {
        Ok(lossy(self.bytes()?))
    }

    /// A text, `None` for nil.
    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, BrokerError> {
        match self.next()? {
            Value::Nil => Ok(None),
            value => bytes(self.operation, value).map(|text| Some(lossy(text))),
        }
    }

    /// A number.
    pub(crate) fn int(&mut self) -> Result<i64, BrokerError> {
        let value = self.next()?;
        int(self.operation, value)
    }

    /// A number, `None` for an empty text.
    pub(crate) fn maybe_int(&mut self) -> Result<Option<i64>, BrokerError> {
        match self.next()? {
            Value::BulkString(text) if text.is_empty() => Ok(None),
            value => int(self.operation, value).map(Some),
        }
    }

    /// Milliseconds in a field of ours; `None` for what is no number, or empty.
    pub(crate) fn millis(&mut self) -> Result<Option<i64>, BrokerError> {
        Ok(self.text()?.parse().ok())
    }

    /// The whole second at which a score is due, `None` for an empty text: scripts are told whole seconds, so a
    /// stranger's fraction is due at the next one.
    pub(crate) fn maybe_due(&mut self) -> Result<Option<i64>, BrokerError> {
        match self.next()? {
            Value::BulkString(text) if text.is_empty() => Ok(None),
            value => number(self.operation, value, f64::ceil).map(Some),
        }
    }

    /// Returns what TIME answered, in the array; `None` for an empty text.
    pub(crate) fn time(&mut self) -> Result<Option<DateTime<Utc>>, BrokerError> {
        match self.next()? {
            Value::BulkString(text) if text.is_empty() => Ok(None),
            value => server_time(&value)
                .map(Some)
                .ok_or_else(|| unexpected(self.operation, "a time", &value)),
        }
    }

    /// An array in the array.
    pub(crate) fn list(&mut self) -> Result<Self, BrokerError> {
        let value = self.next()?;
        Self::new(self.operation, value)
    }

    /// The id of a task.
    pub(crate) fn id(&mut self) -> Result<TaskId, BrokerError> {
        Ok(TaskId::from_storage(&self.text()?))
    }

    /// Returns what is wrong with a task: `n`, `h`, `m`, `s`, `p`; `None` for an empty text.
    pub(crate) fn damage(&mut self) -> Result<Option<PoisonKind>, BrokerError> {
        let word = self.bytes()?;
        match word.as_slice() {
            b"" => Ok(None),
            b"n" => Ok(Some(PoisonKind::NoHash)),
            b"h" => Ok(Some(PoisonKind::NotAHash)),
            b"m" => Ok(Some(PoisonKind::NoMessage)),
            b"s" => Ok(Some(PoisonKind::BadState)),
            b"p" => Ok(Some(PoisonKind::Misplaced)),
            _ => Err(protocol(
                self.operation,
                format!("{:?} is no kind of damage", Excerpt(&lossy(word))),
            )),
        }
    }

    /// Pairs of an id and what is wrong with it, to the end.
    pub(crate) fn damaged(mut self) -> Result<Vec<(TaskId, PoisonKind)>, BrokerError> {
        let mut found = Vec::with_capacity(self.len() / 2);
        while !self.is_empty() {
            let id = self.id()?;
            let kind = self
                .damage()?
                .ok_or_else(|| protocol(self.operation, "a kind is missing".to_owned()))?;
            found.push((id, kind));
        }
        Ok(found)
    }

    /// Texts, to the end.
    pub(crate) fn texts(mut self) -> Result<Vec<String>, BrokerError> {
        let mut texts = Vec::with_capacity(self.len());
        while !self.is_empty() {
            texts.push(self.text()?);
        }
        Ok(texts)
    }
}

/// The answer of a script that gives one character for each of `n` items.
pub(crate) fn codes(operation: &'static str, value: Value, n: usize) -> Result<Vec<u8>, BrokerError> {
    let codes = scalar(operation, value).and_then(|value| bytes(operation, value))?;
    check_codes(operation, codes, n)
}

/// Returns whether there is one code for each item.
pub(crate) fn check_codes(operation: &'static str, codes: Vec<u8>, n: usize) -> Result<Vec<u8>, BrokerError> {
    if codes.len() == n {
        Ok(codes)
    } else {
        Err(protocol(operation, format!("{} codes for {n} items", codes.len())))
    }
}

/// The answer of a script that gives a single value.
pub(crate) fn scalar(operation: &'static str, value: Value) -> Result<Value, BrokerError> {
    match value {
        Value::Array(_) => {
            let reply = Reply::of_script(operation, value)?;
            Err(protocol(
                operation,
                format!("an array of {} where a single value was expected", reply.len()),
            ))
        }
        value => Ok(value),
    }
}

/// A number, also one in a text.
pub(crate) fn int(operation: &'static str, value: Value) -> Result<i64, BrokerError> {
    number(operation, value, f64::floor)
}

fn number(operation: &'static str, value: Value, round: fn(f64) -> f64) -> Result<i64, BrokerError> {
    let parsed = match &value {
        Value::Int(number) => Some(*number),
        Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| whole(text, round)),
        _ => None,
    };
    parsed.ok_or_else(|| unexpected(operation, "a number", &value))
}

/// A score is a whole number in all that asynq programs write; strangers' fractions are rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float out of range becomes the nearest integer"
)]
fn whole(text: &str, round: fn(f64) -> f64) -> Option<i64> {
    text.parse().ok().or_else(|| {
        text.parse::<f64>()
            .ok()
            .filter(|n| !n.is_nan())
            .map(|n| round(n) as i64)
    })
}

/// Bytes or text.
pub(crate) fn bytes(operation: &'static str, value: Value) -> Result<Vec<u8>, BrokerError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        other => Err(unexpected(operation, "bytes", &other)),
    }
}

/// Converts to text, replacing bytes that are not UTF-8.
pub(crate) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// An answer of a shape that the operation never gives.
pub(crate) fn protocol(operation: &'static str, what: String) -> BrokerError {
    BrokerError::Protocol {
        operation,
        source: Some(what.into()),
    }
}

fn unexpected(operation: &'static str, wanted: &str, got: &Value) -> BrokerError {
    let got = match got {
        Value::Nil => "nothing".to_owned(),
        Value::Int(number) => format!("the number {number}"),
        Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::SimpleString(text) => format!("the word {:?}", Excerpt(text)),
        Value::ServerError(error) => format!("the error {error}"),
        _ => "another type".to_owned(),
    };
    protocol(operation, format!("{wanted} was expected, it is {got}"))
}

/// One failure, for one more of the items that it concerns.
pub(crate) fn again(error: &BrokerError) -> BrokerError {
    match error {
        BrokerError::Unavailable { source } => BrokerError::Unavailable {
            source: source.as_ref().map(text_of),
        },
        BrokerError::Ambiguous { source } => BrokerError::Ambiguous {
            source: source.as_ref().map(text_of),
        },
        BrokerError::OutOfMemory => BrokerError::OutOfMemory,
        BrokerError::ReadOnly => BrokerError::ReadOnly,
        BrokerError::Busy { reason } => BrokerError::Busy { reason: reason.clone() },
        BrokerError::Refused { source } => BrokerError::Refused {
            source: text_of(source),
        },
        BrokerError::WrongType { key } => BrokerError::WrongType { key: key.clone() },
        BrokerError::Protocol { operation, source } => BrokerError::Protocol {
            operation,
            source: source.as_ref().map(text_of),
        },
        BrokerError::QueueNotFound { queue } => BrokerError::QueueNotFound { queue: queue.clone() },
        BrokerError::TaskNotFound { queue, id } => BrokerError::TaskNotFound {
            queue: queue.clone(),
            id: id.clone(),
        },
        BrokerError::Poison { queue, id, kind } => BrokerError::Poison {
            queue: queue.clone(),
            id: id.clone(),
            kind: *kind,
        },
        BrokerError::Closed => BrokerError::Closed,
        other => BrokerError::Refused {
            source: other.to_string().into(),
        },
    }
}

fn text_of(source: &asynq_core::BoxError) -> asynq_core::BoxError {
    source.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_refusal_is_known_in_both_shapes() {
        let refusal = || Value::Array(vec![bulk("WRONGTYPE"), Value::BulkString(b"asynq:{q}:g:\xff".to_vec())]);
        for error in [
            Reply::of_script("x", refusal()).unwrap_err(),
            scalar("x", refusal()).unwrap_err(),
        ] {
            assert!(matches!(error, BrokerError::WrongType { key } if key == "asynq:{q}:g:\u{fffd}"));
        }
    }

    #[test]
    fn answers_of_the_wrong_shape_are_errors() {
        let mut reply = Reply::new("x", Value::Array(vec![bulk("z"), Value::Nil, bulk("7")])).unwrap();
        assert!(reply.damage().is_err());
        assert!(reply.int().is_err());
        assert_eq!(reply.int().unwrap(), 7);
        let BrokerError::Protocol { operation, source } = reply.int().unwrap_err() else {
            panic!()
        };
        assert_eq!(
            (operation, source.unwrap().to_string().as_str()),
            ("x", "the answer is too short")
        );
        assert!(Reply::new("x", Value::Int(1)).is_err());
        assert!(codes("x", bulk("10"), 3).is_err());
        assert_eq!(codes("x", bulk("10"), 2).unwrap(), b"10");
    }

    #[test]
    fn scores_of_strangers_are_rounded() {
        for (text, number) in [
            ("1700000000", 1_700_000_000),
            ("1.9", 1),
            ("-1.5", -2),
            ("1e3", 1000),
            ("inf", i64::MAX),
        ] {
            assert_eq!(int("x", bulk(text)).unwrap(), number);
        }
        for (text, number) in [
            ("1700000000", 1_700_000_000),
            ("1.1", 2),
            ("-1.5", -1),
            ("inf", i64::MAX),
        ] {
            let mut reply = Reply::new("x", Value::Array(vec![bulk(text)])).unwrap();
            assert_eq!(reply.maybe_due().unwrap(), Some(number));
        }
        assert!(int("x", bulk("nan")).is_err());
    }
}
