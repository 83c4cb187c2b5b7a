//! The errors of the program, with their exit statuses.

use std::{fmt, process::ExitCode};

use asynq::error::{BrokerError, EnqueueError, Error};

use crate::shown::one_line;

/// Exit statuses of the program. They are part of its interface and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Something failed while it was carried out, or a check found something.
    Failure = 1,
    /// The command line, the environment or the configuration is wrong. Nothing was carried out.
    Usage = 2,
    /// A queue, task, entry or context does not exist.
    NotFound = 3,
    /// The program refused: read-only, protected, or not confirmed. Nothing was carried out.
    Refused = 4,
    /// Redis cannot be reached, or refused the login.
    Connection = 5,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// An error that ends a command: the text, what to do about it, and the exit status.
#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) status: Status,
    pub(crate) message: String,
    /// Advice for the user, as a whole sentence.
    pub(crate) hint: Option<String>,
    /// The reader of the output has gone, as `head` does. Nothing is reported.
    pub(crate) reader_gone: bool,
    /// The answer of Redis was lost.
    pub(crate) is_lost_answer: bool,
}

pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    fn new(status: Status, message: impl fmt::Display) -> Self {
        Self {
            status,
            message: message.to_string(),
            hint: None,
            reader_gone: false,
            is_lost_answer: false,
        }
    }

    pub(crate) fn failure(message: impl fmt::Display) -> Self {
        Self::new(Status::Failure, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Status::Usage, message)
    }

    pub(crate) fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Status::NotFound, message)
    }

    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self::new(Status::Refused, message)
    }

    pub(crate) fn connection(message: impl fmt::Display) -> Self {
        Self::new(Status::Connection, message)
    }

    /// Adds what the user can do.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Says of a lost answer that it was that of a command which only reads.
    pub(crate) fn of_reading(self) -> Self {
        match self.is_lost_answer {
            true => Self {
                message: "the connection to Redis was lost while reading".to_owned(),
                ..self
            },
            false => self,
        }
    }

    /// Says before the text what was tried.
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The text of an error with those of its causes.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        // An error that shows its cause itself would show it twice.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = source.source();
    }
    text
}

impl From<BrokerError> for CliError {
    fn from(error: BrokerError) -> Self {
        use BrokerError as E;
        let status = match &error {
            E::QueueNotFound { .. } | E::TaskNotFound { .. } => Status::NotFound,
            E::Unavailable { .. } | E::Ambiguous { .. } => Status::Connection,
            E::InvalidConnection { .. } => Status::Usage,
            _ => Status::Failure,
        };
        let hint = match &error {
            E::QueueNotFound { .. } => Some("`asynq queue list` shows the queues."),
            E::QueueNotEmpty { .. } => Some("`--force` deletes the queue with its tasks."),
            _ => None,
        };
        Self {
            status,
            // Names are in it, which anybody chose.
            message: one_line(&with_causes(&error)),
            hint: hint.map(str::to_owned),
            reader_gone: false,
            is_lost_answer: matches!(error, E::Ambiguous { .. }),
        }
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        match error {
            Error::Broker(error) | Error::Enqueue(EnqueueError::Broker(error)) => error.into(),
            Error::Invalid(error) => Self::usage(one_line(&with_causes(&error))),
            other => Self::failure(one_line(&with_causes(&other))),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self {
            reader_gone: error.kind() == std::io::ErrorKind::BrokenPipe,
            ..Self::failure(format!("cannot write the output: {}", with_causes(&error)))
        }
    }
}
