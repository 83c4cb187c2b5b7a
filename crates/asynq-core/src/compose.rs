//! Composition of the request that a broker takes, from a task and its options. All checks are in this module.
//!
//! The order of the checks and the defaults are those of Go's `client.go`. Limits that Go does not have are ours.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message as _;

use crate::{
    broker::{EnqueueRequest, Env, Placement},
    clock::exact_millis,
    error::TaskError,
    keys,
    message::TaskMessage,
    names::{DEFAULT_QUEUE, GroupKey, QueueName, TaskId, TaskType},
    options::{
        DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT, MAX_DURATION, MAX_RETRIES, MIN_DURATION,
        ProcessAt, TaskOptions,
    },
    task::Task,
};

/// Checks a task with the options of the call, and returns the request to send. The encoded message has at most
/// [`DEFAULT_MAX_MESSAGE_BYTES`].
///
/// # Errors
/// [`TaskError`] names the field and the limit.
pub fn compose(task: &Task, call: &TaskOptions, env: &Env) -> Result<EnqueueRequest, TaskError> {
    compose_within(task, call, env, DEFAULT_MAX_MESSAGE_BYTES)
}

/// Like [`compose`], with another limit for the encoded message, in bytes.
///
/// # Errors
/// [`TaskError`] names the field and the limit.
pub fn compose_within(
    task: &Task,
    call: &TaskOptions,
    env: &Env,
    max_message_bytes: usize,
) -> Result<EnqueueRequest, TaskError> {
    // A task that came from the storage may have any type.
    TaskType::check(task.get_type())?;
    let options = task.options().merged(call);
    let queue = match options.queue {
        Some(name) => {
            QueueName::check(&name)?;
            name
        }
        None => DEFAULT_QUEUE.to_owned(),
    };
    let id = match options.task_id {
        Some(id) => {
            TaskId::check(&id)?;
            id
        }
        None => env.entropy.uuid(),
    };
    let unique_ttl = options.unique_ttl.map(|ttl| within("unique TTL", ttl)).transpose()?;
    let group = options.group.as_deref().map(GroupKey::new).transpose()?;
    let max_retry = options.max_retry.unwrap_or(DEFAULT_MAX_RETRY);
    if max_retry > MAX_RETRIES {
        return Err(TaskError::TooLarge {
            field: "max retry",
            limit: MAX_RETRIES.into(),
            got: max_retry.into(),
        });
    }
    let timeout = zero_or_within("timeout", options.timeout)?;
    let retention = zero_or_within("retention", options.retention)?;
    let deadline = options.deadline.map(|at| in_range("deadline", at)).transpose()?;
    let placement = placement(options.process, group.as_ref(), env.clock.now())?;

    let timeout_secs = match (timeout, deadline) {
        (None, None) => DEFAULT_TIMEOUT.as_secs(),
        (timeout, _) => timeout.map_or(0, |t| t.as_secs()),
    };
    let unique_key = match unique_ttl {
        Some(_) => keys::unique(
            &QueueName::from_storage(&queue),
            task.get_type(),
            task.payload_bytes().as_deref(),
        ),
        None => String::new(),
    };
    let message = TaskMessage {
        r#type: task.get_type().to_owned(),
        payload: task.payload_bytes().unwrap_or_default(),
        headers: options.headers,
        id,
        queue,
        retry: i32::try_from(max_retry).unwrap_or(i32::MAX),
        timeout: i64::try_from(timeout_secs).unwrap_or(i64::MAX),
        deadline: deadline.map_or(0, |at| at.timestamp()),
        unique_key,
        retention: retention.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
        group_key: group.map(String::from).unwrap_or_default(),
        ..TaskMessage::default()
    };
    TaskError::check_size("message size", message.encoded_len(), max_message_bytes)?;
    Ok(EnqueueRequest {
        message,
        placement,
        unique_ttl,
        deadline: deadline.filter(|at| exact_millis(*at).is_some()),
        token: env.entropy.bits(),
    })
}

fn placement(process: Option<ProcessAt>, group: Option<&GroupKey>, now: DateTime<Utc>) -> Result<Placement, TaskError> {
    let at = match process {
        Some(ProcessAt::In(delay)) if delay > MAX_DURATION => {
            return Err(TaskError::TooLong {
                field: "process in",
                limit: MAX_DURATION,
                got: delay,
            });
        }
        Some(ProcessAt::In(delay)) => Some(now + delay),
        Some(ProcessAt::At(at)) => Some(at),
        None => None,
    };
    match (at.filter(|at| *at > now), group) {
        (Some(_), Some(_)) => Err(TaskError::Conflict {
            first: "group",
            second: "process at",
        }),
        (Some(at), None) => Ok(Placement::Scheduled(in_range("process at", at)?)),
        (None, Some(group)) => Ok(Placement::Group(group.clone())),
        (None, None) => Ok(Placement::Pending),
    }
}

fn within(field: &'static str, value: Duration) -> Result<Duration, TaskError> {
    if value < MIN_DURATION {
        return Err(TaskError::TooShort {
            field,
            limit: MIN_DURATION,
            got: value,
        });
    }
    if value > MAX_DURATION {
        return Err(TaskError::TooLong {
            field,
            limit: MAX_DURATION,
            got: value,
        });
    }
    Ok(value)
}

fn zero_or_within(field: &'static str, value: Option<Duration>) -> Result<Option<Duration>, TaskError> {
    value.filter(|d| !d.is_zero()).map(|d| within(field, d)).transpose()
}

fn in_range(field: &'static str, at: DateTime<Utc>) -> Result<DateTime<Utc>, TaskError> {
    const YEAR_9999_END: i64 = 253_402_300_799;
    if (1..=YEAR_9999_END).contains(&at.timestamp()) {
        Ok(at)
    } else {
        Err(TaskError::TimeOutOfRange { field })
    }
}

/// Returns the deadline of a task. The message has it rounded down to seconds, and `exact` is the exact one if it is
/// known.
#[must_use]
pub fn task_deadline(message: &TaskMessage, exact: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    (message.deadline != 0).then(|| {
        let whole = DateTime::from_timestamp(message.deadline, 0);
        exact.or(whole).unwrap_or(if message.deadline < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    })
}

/// Returns the time by which a run that starts now must end (Go: `processor.go`, `computeDeadline`): the earlier of
/// timeout and deadline, or after 30 minutes if the message has neither. `exact` is as in [`task_deadline`]. The time
/// is never earlier than in Go, which rounds `now` down if the message has both.
#[must_use]
pub fn run_deadline(message: &TaskMessage, exact: Option<DateTime<Utc>>, now: DateTime<Utc>) -> DateTime<Utc> {
    let limit = MAX_DURATION.as_secs() as i64;
    let timeout = chrono::TimeDelta::seconds(message.timeout.clamp(-limit, limit));
    match (message.timeout != 0, task_deadline(message, exact)) {
        (false, None) => now + DEFAULT_TIMEOUT,
        (false, Some(deadline)) => deadline,
        (true, None) => now + timeout,
        (true, Some(deadline)) => deadline.min(now + timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, Entropy};

    fn env() -> Env {
        Env {
            clock: Clock::manual(DateTime::from_timestamp(1_700_000_000, 500_000_000).unwrap()),
            entropy: Entropy::seeded(1),
        }
    }

    fn task() -> Task {
        Task::new("t", b"p").unwrap()
    }

    fn refused(options: TaskOptions) -> String {
        compose(&task(), &options, &env()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_go() {
        let request = compose(&task(), &TaskOptions::new(), &env()).unwrap();
        let m = request.message;
        assert_eq!(
            (m.queue.as_str(), m.retry, m.timeout, m.deadline, m.retention),
            ("default", 25, 1800, 0, 0)
        );
        assert_eq!(m.id.len(), 36);
        assert_eq!(request.placement, Placement::Pending);
        assert_eq!(m.unique_key, "");
    }

    #[test]
    fn bad_values_name_the_field_and_the_limit() {
        let half = Duration::from_millis(500);
        assert_eq!(
            refused(TaskOptions::new().queue(" ")),
            "queue must contain one or more characters"
        );
        assert_eq!(
            refused(TaskOptions::new().task_id("")),
            "task id must contain one or more characters"
        );
        assert_eq!(
            refused(TaskOptions::new().group("\t")),
            "group must contain one or more characters"
        );
        assert_eq!(
            refused(TaskOptions::new().timeout(half)),
            "timeout of 500ms is below the limit of 1s"
        );
        assert_eq!(
            refused(TaskOptions::new().retention(half)),
            "retention of 500ms is below the limit of 1s"
        );
        assert_eq!(
            refused(TaskOptions::new().unique_ttl(half)),
            "unique TTL of 500ms is below the limit of 1s"
        );
        assert_eq!(
            refused(TaskOptions::new().unique_ttl(Duration::ZERO)),
            "unique TTL of 0ns is below the limit of 1s"
        );
        assert!(refused(TaskOptions::new().timeout(Duration::MAX)).contains("above the limit of 3153600000s"));
        assert!(refused(TaskOptions::new().process_in(Duration::MAX)).starts_with("process in of"));
        assert_eq!(
            refused(TaskOptions::new().max_retry(u32::MAX)),
            "max retry of 4294967295 is above the limit of 2147483647"
        );
        assert!(refused(TaskOptions::new().process_at(DateTime::<Utc>::MAX_UTC)).starts_with("process at is outside"));
        assert!(refused(TaskOptions::new().deadline(DateTime::<Utc>::MIN_UTC)).starts_with("deadline is outside"));
        assert_eq!(
            refused(TaskOptions::new().group("g").process_in(Duration::from_secs(5))),
            "group and process at cannot be combined"
        );
        assert_eq!(
            Task::new(" ", b"").unwrap_err().to_string(),
            "task type must contain one or more characters"
        );
        let stored = Task::from_message(&TaskMessage::default(), None);
        assert_eq!(
            compose(&stored, &TaskOptions::new(), &env()).unwrap_err().to_string(),
            "task type must contain one or more characters"
        );
    }

    #[test]
    fn the_whole_encoded_message_counts() {
        let of = |payload: usize, header: usize| {
            let task = Task::new("t", &vec![0; payload]).unwrap();
            let options = TaskOptions::new().header("k", "x".repeat(header));
            (task, options)
        };
        let most = DEFAULT_MAX_MESSAGE_BYTES;
        let (task, options) = of(most - 1000, 100);
        compose(&task, &options, &env()).unwrap();
        for (payload, header) in [(most + 1, 0), (1, most)] {
            let (task, options) = of(payload, header);
            let error = compose(&task, &options, &env()).unwrap_err();
            let TaskError::TooLarge { field, limit, got } = error else {
                panic!("{error}")
            };
            assert_eq!((field, limit), ("message size", most as u64));
            assert!(got > limit, "{got}");
            compose_within(&task, &options, &env(), most + 1000).unwrap();
        }
    }

    #[test]
    fn only_a_deadline_leaves_the_timeout_unset() {
        let at = DateTime::from_timestamp(1_700_009_000, 0).unwrap();
        let m = compose(&task(), &TaskOptions::new().deadline(at), &env())
            .unwrap()
            .message;
        assert_eq!((m.timeout, m.deadline), (0, 1_700_009_000));
        let m = compose(&task(), &TaskOptions::new().timeout(Duration::ZERO), &env())
            .unwrap()
            .message;
        assert_eq!(m.timeout, 1800, "zero means not set");
    }

    #[test]
    fn a_time_not_in_the_future_is_at_once() {
        let env = env();
        let now = env.clock.now();
        let place = |options| compose(&task(), &options, &env).unwrap().placement;
        assert_eq!(place(TaskOptions::new().process_at(now)), Placement::Pending);
        assert_eq!(place(TaskOptions::new().process_in(Duration::ZERO)), Placement::Pending);
        let soon = now + Duration::from_nanos(1);
        assert_eq!(place(TaskOptions::new().process_at(soon)), Placement::Scheduled(soon));
        let past = TaskOptions::new().process_at(now).group("g");
        assert_eq!(place(past), Placement::Group(GroupKey::new("g").unwrap()));
    }

    #[test]
    fn no_payload_and_empty_payload_have_different_locks() {
        let options = TaskOptions::new().unique_ttl(Duration::from_secs(60));
        let none = compose(&Task::without_payload("t").unwrap(), &options, &env())
            .unwrap()
            .message;
        let empty = compose(&Task::new("t", b"").unwrap(), &options, &env())
            .unwrap()
            .message;
        assert_eq!(none.unique_key, "asynq:{default}:unique:t:");
        assert_eq!(
            empty.unique_key,
            "asynq:{default}:unique:t:d41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(none.payload, empty.payload);
    }

    #[test]
    fn a_deadline_with_a_fraction_is_kept_beside_the_message() {
        let at = |nanos| DateTime::from_timestamp(1_700_000_009, nanos).unwrap();
        let of = |at| compose(&task(), &TaskOptions::new().deadline(at), &env()).unwrap();
        let (whole, exact) = (of(at(0)), of(at(999_000_000)));
        assert_eq!((whole.message.deadline, whole.deadline), (1_700_000_009, None));
        assert_eq!(
            (exact.message.deadline, exact.deadline),
            (1_700_000_009, Some(at(999_000_000)))
        );
        let now = env().clock.now();
        assert_eq!(run_deadline(&exact.message, exact.deadline, now), at(999_000_000));
        let limited = TaskMessage {
            timeout: 2,
            ..exact.message
        };
        assert_eq!(
            run_deadline(&limited, exact.deadline, now),
            now + Duration::from_secs(2)
        );
    }

    #[test]
    fn run_deadline_as_in_go() {
        let now = DateTime::from_timestamp(1_000_000, 600_000_000).unwrap();
        let of = |timeout, deadline| {
            run_deadline(
                &TaskMessage {
                    timeout,
                    deadline,
                    ..Default::default()
                },
                None,
                now,
            )
        };
        assert_eq!(of(0, 0), now + DEFAULT_TIMEOUT);
        assert_eq!(of(60, 0), now + Duration::from_secs(60));
        assert_eq!(of(0, 1_000_100).timestamp(), 1_000_100);
        assert_eq!(of(60, 1_000_100).timestamp(), 1_000_060);
        assert_eq!(of(600, 1_000_100).timestamp(), 1_000_100);
        assert!(of(-5, 0) < now, "negative: already expired");
        assert!(of(i64::MIN, i64::MAX) < now);
        assert!(of(i64::MAX, 0) > now);
        assert!(of(0, i64::MIN) < now);
    }
}
