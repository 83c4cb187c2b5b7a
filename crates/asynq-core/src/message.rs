//! The task as it travels: the protobuf `TaskMessage`, decoded without trust.

use bytes::{BufMut, Bytes};
use prost::Message as _;

pub use asynq_proto::TaskMessage;

use crate::{
    error::{Error, PoisonKind},
    keys::MAX_SCORE,
    names::{QueueName, TaskId},
};

/// Reads the bytes of the hash field `msg`.
///
/// # Errors
/// [`PoisonKind::Undecodable`] for anything that is not a `TaskMessage`, invalid UTF-8 included.
pub fn decode(bytes: Bytes) -> Result<TaskMessage, PoisonKind> {
    TaskMessage::decode(bytes).map_err(|_| PoisonKind::Undecodable)
}

/// Reads `msg` and checks that it names the task it was found under.
///
/// # Errors
/// [`PoisonKind::Undecodable`] and [`PoisonKind::Mismatch`].
pub fn decode_for(bytes: Bytes, queue: &QueueName, id: &TaskId) -> Result<TaskMessage, PoisonKind> {
    let message = decode(bytes)?;
    if message.id == id.as_str() && message.queue == queue.as_str() {
        Ok(message)
    } else {
        Err(PoisonKind::Mismatch)
    }
}

/// Returns the bytes of the hash field `msg`, with the fields in ascending order as Go writes them.
#[must_use]
pub fn encode(message: &TaskMessage) -> Bytes {
    message.encode_to_vec().into()
}

/// Returns the number of bytes that [`encode`] makes.
#[must_use]
pub fn encoded_len(message: &TaskMessage) -> usize {
    message.encoded_len()
}

/// Writes the bytes of the hash field `msg`, as [`encode`] makes them, into a buffer that grows.
pub fn encode_into(message: &TaskMessage, buffer: &mut impl BufMut) {
    message.encode_raw(buffer);
}

/// Returns the message after a failed attempt, as Go's `retry` and `archive` write it: with the error text, the time
/// of the failure, and `retried` incremented if `counts` is set.
#[must_use]
pub fn failed(message: &TaskMessage, error: &str, at_secs: i64, counts: bool) -> TaskMessage {
    let mut message = message.clone();
    error.clone_into(&mut message.error_msg);
    message.last_failed_at = at_secs;
    if counts {
        message.retried = message.retried.saturating_add(1);
    }
    message
}

/// Returns the stored bytes of a message, followed by the error text and the time of a cancelled run. Decoders use
/// the last value of a field, so these replace the values in the message. For a run that was cancelled on request
/// while its task was being returned to its queue.
#[must_use]
pub fn cancelled(stored: &Bytes, at_secs: i64) -> Bytes {
    let added = TaskMessage {
        error_msg: Error::Canceled.to_string(),
        last_failed_at: at_secs,
        ..TaskMessage::default()
    };
    [&stored[..], &added.encode_to_vec()].concat().into()
}

/// Returns the time until which a task that succeeds now is kept, in Unix seconds.
#[must_use]
pub fn kept_until(message: &TaskMessage, now_secs: i64) -> i64 {
    now_secs.saturating_add(message.retention).min(MAX_SCORE)
}

/// The message of a task that succeeded and is kept.
#[must_use]
pub fn completed(message: &TaskMessage, at_secs: i64) -> TaskMessage {
    TaskMessage {
        completed_at: at_secs,
        ..message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_and_foreign_messages_are_told_apart() {
        let (queue, id) = (QueueName::new("q").unwrap(), TaskId::new("a").unwrap());
        assert_eq!(
            decode_for(Bytes::from_static(b"\xff\xff\xff"), &queue, &id),
            Err(PoisonKind::Undecodable)
        );
        assert_eq!(decode_for(Bytes::new(), &queue, &id), Err(PoisonKind::Mismatch));
        let message = TaskMessage {
            id: "a".into(),
            queue: "q".into(),
            ..Default::default()
        };
        let bytes = encode(&message);
        assert_eq!(
            decode_for(bytes.slice(..bytes.len() - 1), &queue, &id),
            Err(PoisonKind::Undecodable)
        );
        assert_eq!(decode_for(bytes, &queue, &id), Ok(message));
    }

    #[test]
    fn a_retention_without_end_ends_at_the_highest_score() {
        let kept = |retention| {
            let message = TaskMessage {
                retention,
                ..Default::default()
            };
            kept_until(&message, 1_700_000_000)
        };
        assert_eq!(kept(60), 1_700_000_060);
        assert_eq!((kept(i64::MAX), kept(MAX_SCORE)), (MAX_SCORE, MAX_SCORE));
    }

    #[test]
    fn only_a_counted_failure_uses_up_a_retry() {
        let message = TaskMessage {
            retried: 2,
            ..Default::default()
        };
        assert_eq!(failed(&message, "x", 9, false).retried, 2);
        let counted = failed(&message, "x", 9, true);
        assert_eq!(
            (counted.retried, counted.last_failed_at, counted.error_msg.as_str()),
            (3, 9, "x")
        );
    }
}
