//! Outcomes as `include/settle.lua` takes them; shared by exchange and recover.

use asynq_core::{
    TaskMessage,
    broker::{ARCHIVED_AGE, EndedRun, MAX_ARCHIVED, Outcome, STATS_TTL},
    clock::unix_nanos,
    error::{PoisonKind, SettleError},
    keys, message,
    names::QueueName,
    runs::MAX_RUN_BYTES,
};
use asynq_proto::Message as _;
use chrono::{DateTime, Utc};

use crate::args::Args;

/// Largest number of archived tasks that one call deletes to make room: more than the 200 outcomes that a call can
/// archive, so the archive shrinks; 500 of them took Redis 5 ms.
pub(crate) const MOST_TRIMMED: i64 = 250;
/// ARGV 1 to 4, in front of what `more` other arguments say.
pub(crate) fn head(queue: &QueueName, now: DateTime<Utc>, more: usize) -> Args {
    Args::with_capacity(4 + more)
        .text(&keys::queue_prefix(queue))
        .int(now.timestamp())
        .int((now + STATS_TTL).timestamp())
        .text(&keys::day(now))
}

/// Adds what `include/settle.lua` calls more, up to the number of items.
pub(crate) fn push_more(args: &mut Args, now: DateTime<Utc>, items: usize) {
    args.push_int(unix_nanos(now));
    args.push_int((now - ARCHIVED_AGE).timestamp());
    args.push_int(i64::from(MAX_ARCHIVED));
    args.push_int(MOST_TRIMMED);
    args.push_count(items);
}

/// Returns whether an outcome is one whose id alone is sent: done, with nothing to keep and no lock to free.
pub(crate) fn is_plain(queue: &QueueName, message: &TaskMessage, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done { .. } => !outcome.keeps(message) && lock_of(queue, message).is_empty(),
        _ => false,
    }
}

/// About how many bytes an outcome takes on its way: all texts that [`push`] adds, and the id.
pub(crate) fn size_of(message: &TaskMessage, outcome: &Outcome, has_run: bool) -> usize {
    const FIXED: usize = 128;
    let run = if has_run && outcome.keeps(message) {
        MAX_RUN_BYTES
    } else {
        0
    };
    let sent = match outcome {
        Outcome::Done { .. } if !outcome.keeps(message) => message.unique_key.len(),
        Outcome::Done { .. } => message.encoded_len() + message.unique_key.len(),
        Outcome::Retry { error, .. } | Outcome::Archive { error } => message.encoded_len() + error.len(),
        Outcome::Requeue => 0,
    };
    message.id.len() + sent + run + FIXED
}

/// Adds the kind of an outcome and what belongs to it.
pub(crate) fn push(
    args: &mut Args,
    queue: &QueueName,
    message: &TaskMessage,
    outcome: &Outcome,
    run: Option<&EndedRun>,
    now: DateTime<Utc>,
) {
    let now = now.timestamp();
    let push_run = |args: &mut Args| match run {
        Some(run) => args.push(run.encode(message, outcome, now)),
        None => args.push(""),
    };
    match outcome {
        Outcome::Done { .. } if outcome.keeps(message) => {
            args.push("c");
            push_run(args);
            args.push(lock_of(queue, message));
            args.push_int(message::kept_until(message, now));
            args.push_message(&message::completed(message, now));
        }
        Outcome::Done { .. } => {
            args.push("d");
            args.push(lock_of(queue, message));
        }
        Outcome::Retry { at, error, is_failure } => {
            args.push("r");
            push_run(args);
            args.push(if *is_failure { "1" } else { "0" });
            args.push_time(*at);
            args.push_message(&message::failed(message, error, now, *is_failure));
        }
        Outcome::Archive { error } => {
            args.push("a");
            push_run(args);
            args.push_message(&message::failed(message, error, now, false));
        }
        Outcome::Requeue => {
            args.push("q");
            push_run(args);
        }
    }
}

/// The lock that the message names, if it is a lock of this queue.
fn lock_of<'m>(queue: &QueueName, message: &'m TaskMessage) -> &'m str {
    if keys::is_unique(queue, &message.unique_key) {
        &message.unique_key
    } else {
        ""
    }
}

/// The answer to one outcome.
#[derive(Debug)]
pub(crate) enum Answer {
    Settled(Result<(), SettleError>),
    /// The call's bound was reached before: offer it again.
    Later,
}

impl Answer {
    /// Reads a code; `None` if it is none.
    pub(crate) fn read(code: u8) -> Option<Self> {
        Some(match code {
            b'1' => Self::Settled(Ok(())),
            b'0' => Self::Settled(Err(SettleError::NotOurs)),
            b'h' => Self::Settled(Err(SettleError::Poison(PoisonKind::NotAHash))),
            b's' => Self::Settled(Err(SettleError::Poison(PoisonKind::BadState))),
            b'+' => Self::Later,
            _ => return None,
        })
    }
}

/// Says that a counter could not be incremented. Nothing else was harmed.
pub(crate) fn report_counters(queue: &QueueName, note: &str) {
    if !note.is_empty() {
        tracing::warn!(%queue, note, "a counter cannot be incremented");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use asynq_core::tree::ServerIdentity;

    use super::*;

    #[test]
    fn a_success_without_retention_sends_nothing_for_its_run() {
        let (queue, now) = (QueueName::default(), DateTime::UNIX_EPOCH);
        let run = EndedRun {
            started: Some(now),
            ended: Some(now),
            server: None,
        };
        let kept = TaskMessage {
            retention: 60,
            ..TaskMessage::default()
        };
        let sent = |message: &TaskMessage, retain, run| {
            let mut args = Args::default();
            let outcome = Outcome::Done { retain };
            push(&mut args, &queue, message, &outcome, run, now);
            (args.len(), args.bytes(), size_of(message, &outcome, run.is_some()))
        };
        for (message, retain) in [(&TaskMessage::default(), true), (&kept, false)] {
            assert_eq!(sent(message, retain, Some(&run)), sent(message, retain, None));
        }
        assert_ne!(sent(&kept, true, Some(&run)), sent(&kept, true, None));
    }

    #[test]
    fn no_outcome_sends_more_bytes_than_it_is_said_to() {
        let (queue, now) = (
            QueueName::default(),
            DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        );
        let text = "x".repeat(100_000);
        let plain = TaskMessage {
            r#type: "t".to_owned(),
            id: "a".to_owned(),
            ..TaskMessage::default()
        };
        let messages = [
            plain.clone(),
            TaskMessage {
                r#type: text.clone(),
                ..plain.clone()
            },
            TaskMessage {
                payload: text.clone().into(),
                ..plain.clone()
            },
            TaskMessage {
                id: text.clone(),
                ..plain.clone()
            },
            TaskMessage {
                headers: [(text.clone(), text.clone())].into(),
                ..plain.clone()
            },
            TaskMessage {
                error_msg: text.clone(),
                ..plain.clone()
            },
            TaskMessage {
                unique_key: keys::unique(&queue, &text, None),
                ..plain
            },
        ];
        let outcomes = [
            Outcome::Done { retain: false },
            Outcome::Done { retain: true },
            Outcome::Retry {
                at: now,
                error: text.clone(),
                is_failure: true,
            },
            Outcome::Archive { error: text.clone() },
            Outcome::Requeue,
        ];
        let run = EndedRun {
            server: Some(Arc::new(ServerIdentity {
                host: text.clone(),
                pid: i32::MIN,
                server_id: text.clone(),
            })),
            started: Some(now),
            ended: Some(now),
        };
        for message in messages.iter().flat_map(|m| {
            [
                m.clone(),
                TaskMessage {
                    retention: 60,
                    ..m.clone()
                },
            ]
        }) {
            for (outcome, run) in outcomes
                .iter()
                .flat_map(|outcome| [(outcome, None), (outcome, Some(&run))])
            {
                let mut args = Args::with_capacity(8);
                args.push(&message.id);
                push(&mut args, &queue, &message, outcome, run, now);
                let sent: usize = args.bytes();
                let said = size_of(&message, outcome, run.is_some());
                assert!(sent <= said, "{sent} bytes, said are {said}: {outcome:.40?}");
            }
        }
    }
}
