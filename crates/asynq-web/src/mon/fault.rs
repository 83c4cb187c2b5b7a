//! Errors as asynqmon answers them: plain text, nearly always with the status 500.

use asynq::{
    TaskOptions, TaskState,
    error::{BrokerError, Error, NameError, TaskError},
};
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::problem::Problem;

/// An error of this API.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    text: String,
}

pub(super) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// A look at a queue has failed.
    pub(super) fn of_queue(error: Error) -> Self {
        match error {
            Error::Broker(BrokerError::QueueNotFound { queue }) => {
                Self::internal(no_queue("NOT_FOUND", queue.as_str()))
            }
            error => Self::other("", error),
        }
    }

    /// A list of tasks has failed, or an act on one task.
    pub(super) fn of_task(act: &str, error: Error) -> Self {
        let precondition = |text: String| Self::internal(format!("asynq: FAILED_PRECONDITION: {text}"));
        match error {
            Error::Broker(BrokerError::QueueNotFound { .. }) => Self::internal("asynq: queue not found"),
            Error::Broker(BrokerError::TaskNotFound { .. }) => Self::internal("asynq: task not found"),
            // No task has a blank id, and no group a blank name.
            Error::Invalid(TaskError::Name(NameError { field: "task id", .. })) => {
                Self::internal("asynq: task not found")
            }
            Error::Broker(BrokerError::WrongState { queue, id, state }) => match (act, state) {
                ("delete" | "archive", TaskState::Active) => precondition(format!(
                    "cannot {act} task in active state. use CancelProcessing instead."
                )),
                ("run", TaskState::Active) => precondition("task is already running".to_owned()),
                ("run", TaskState::Pending) => precondition("task is already in pending state".to_owned()),
                ("archive", TaskState::Archived) => {
                    precondition(format!("task is already archived: id={id}, queue={queue}"))
                }
                _ => precondition(format!("cannot {act} task in {state} state")),
            },
            error => Self::other("asynq: ", error),
        }
    }

    /// An act on all tasks has failed.
    pub(super) fn of_all(state: TaskState, error: Error) -> Self {
        match error {
            Error::Broker(BrokerError::QueueNotFound { queue }) => {
                let code = match state {
                    TaskState::Pending | TaskState::Aggregating => "INTERNAL_ERROR: INTERNAL_ERROR",
                    _ => "NOT_FOUND: INTERNAL_ERROR",
                };
                Self::internal(no_queue(code, queue.as_str()))
            }
            error => Self::other("", error),
        }
    }

    /// Returns an error that is not about one task, such as a reason that is missing. Damaged data are those of one task.
    pub(super) fn must_not_end_a_batch(&self) -> Result<()> {
        match self.status == StatusCode::BAD_REQUEST {
            true => Err(Self::new(self.status, self.text.clone())),
            false => Ok(()),
        }
    }

    /// Any other error. The beginning of the text tells where it comes from.
    pub(super) fn other(origin: &str, error: Error) -> Self {
        let problem = match error {
            Error::Invalid(TaskError::Name(NameError {
                field: "queue", fault, ..
            })) => {
                return Self::internal(format!("{origin}queue name {fault}"));
            }
            error => Problem::from(error),
        };
        Self::told(origin, problem)
    }

    /// A look at something that is shared between requests has failed.
    pub(super) fn of_problem(problem: Problem) -> Self {
        Self::told("", problem)
    }

    fn told(origin: &str, problem: Problem) -> Self {
        match problem.status.is_client_error() {
            true => Self::from(problem),
            false => Self::internal(format!("{origin}{}", problem.detail)),
        }
    }
}

/// The sentence with a queue that is not there.
fn no_queue(code: &str, queue: &str) -> String {
    format!("{code}: queue {} does not exist", quoted(queue))
}

/// A text in quotes, as Go writes it.
pub(super) fn quoted(text: &str) -> String {
    // The option `Queue("…")` has the name in this form.
    let option = TaskOptions::new().queue(text).to_go_strings().concat();
    option.trim_start_matches("Queue(").trim_end_matches(')').to_owned()
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status, problem.detail)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.status, kind, self.text + "\n").into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_request_ends_a_batch() {
        let damaged = BrokerError::Poison {
            queue: asynq::names::QueueName::new("q").unwrap(),
            id: asynq::names::TaskId::new("id").unwrap(),
            kind: asynq::error::PoisonKind::NoMessage,
        };
        let ends = |error: Error| Fault::of_task("delete", error).must_not_end_a_batch().is_err();
        assert!(!ends(damaged.into()));
        assert!(!ends(BrokerError::OutOfMemory.into()));
        let actor = asynq::inspector::Actor::new(" ");
        assert!(ends(actor.check().unwrap_err().into()));
    }

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("a", r#""a""#),
            ("é \"q\")", r#""é \"q\")""#),
            ("a\nb\u{2028}", r#""a\nb\u2028""#),
            ("Queue(", r#""Queue(""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
