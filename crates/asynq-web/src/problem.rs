//! Errors as answers: a status, a code for programs, and a text for people.

use asynq::error::{BrokerError, EnqueueError, Error, NameError, TaskError};
use axum::{
    extract::rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// An error as the API answers it: problem details as in RFC 9457 (`application/problem+json`).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The status of HTTP.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    pub(crate) status: StatusCode,
    /// The kind of the error, for programs. It does not change.
    pub(crate) code: &'static str,
    /// The kind of the error in words.
    pub(crate) title: &'static str,
    /// The error in words, as a sentence without a full stop.
    pub(crate) detail: String,
    /// The field, parameter or header that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) field: Option<String>,
    /// The place to go on from, if a budget was used up on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub(crate) cursor: Option<Box<str>>,
    /// Seconds until another attempt makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after: Option<u64>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            title: status.canonical_reason().unwrap_or("Error"),
            detail: detail.into(),
            field: None,
            cursor: None,
            retry_after: None,
        }
    }

    /// The request is wrong in one field, parameter or header.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
        }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// A budget is used up.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
        }
    }

    /// It works again later.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        }
    }

    /// Returns whether another attempt may succeed without a change.
    pub(crate) fn is_outage(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// Adds the place to go on from, if the request had one. Otherwise it begins again.
    pub(crate) fn going_on_from(mut self, cursor: &Option<String>) -> Self {
        self.cursor = cursor.as_deref().map(Box::from);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // An API that writes its errors in another form finds it here.
        response.extensions_mut().insert(self);
        response
    }
}

/// The text of an error with those of its causes.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = source.source();
    }
    text
}

/// Returns whether another attempt may succeed without a change.
pub(crate) fn is_outage(error: &Error) -> bool {
    match error {
        Error::Broker(error) | Error::Enqueue(EnqueueError::Broker(error)) => {
            error.is_retryable() || matches!(error, BrokerError::Closed)
        }
        _ => false,
    }
}

/// Returns the code and the text of an error as users may see them. Nothing is logged.
pub(crate) fn told(error: &Error) -> (&'static str, String) {
    match error {
        Error::Broker(error) | Error::Enqueue(EnqueueError::Broker(error)) => {
            let (_, code, detail) = told_of_storage(error);
            (code, detail)
        }
        Error::Invalid(error) => ("invalid", error.to_string()),
        _ => ("internal", "the log of the server has more".to_owned()),
    }
}

fn told_of_storage(error: &BrokerError) -> (StatusCode, &'static str, String) {
    use BrokerError as E;
    let (status, code) = match error {
        E::QueueNotFound { .. } => (StatusCode::NOT_FOUND, "queue_not_found"),
        E::TaskNotFound { .. } => (StatusCode::NOT_FOUND, "task_not_found"),
        E::Poison { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "damaged_task"),
        E::WrongState { .. } => (StatusCode::CONFLICT, "wrong_state"),
        E::AlreadyPaused { .. } => (StatusCode::CONFLICT, "already_paused"),
        E::NotPaused { .. } => (StatusCode::CONFLICT, "not_paused"),
        E::QueueNotEmpty { .. } => (StatusCode::CONFLICT, "queue_not_empty"),
        E::QueueHasActiveTasks { .. } => (StatusCode::CONFLICT, "queue_has_active_tasks"),
        E::WrongAct { .. } => (StatusCode::BAD_REQUEST, "wrong_act"),
        E::GroupRequired { .. } => (StatusCode::BAD_REQUEST, "group_required"),
        E::Unsupported { .. } => (StatusCode::NOT_IMPLEMENTED, "unsupported"),
        E::Unavailable { .. } | E::Busy { .. } | E::Closed => (StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable"),
        E::Ambiguous { .. } => (StatusCode::SERVICE_UNAVAILABLE, "answer_lost"),
        E::OutOfMemory => (StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
        E::ReadOnly => (StatusCode::SERVICE_UNAVAILABLE, "storage_read_only"),
        _ => (StatusCode::BAD_GATEWAY, "storage_error"),
    };
    let detail = match code {
        _ if !status.is_server_error() => with_causes(error),
        // The cause names hosts and users of the storage.
        "storage_unavailable" => "the storage does not answer".to_owned(),
        "answer_lost" => "the answer of the storage was lost; the change may have been made or not".to_owned(),
        _ => error.to_string(),
    };
    (status, code, detail)
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let (status, code, detail) = told_of_storage(&error);
        if !status.is_server_error() {
            return Self::new(status, code, detail);
        }
        tracing::warn!(error = with_causes(&error), "the storage failed a request");
        let is_outage = status == StatusCode::SERVICE_UNAVAILABLE;
        Self {
            retry_after: is_outage.then_some(1),
            ..Self::new(status, code, detail)
        }
    }
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        let field = match &error {
            TaskError::Name(error) => return error.clone().into(),
            TaskError::TooShort { field, .. }
            | TaskError::TooLong { field, .. }
            | TaskError::TooLarge { field, .. }
            | TaskError::TimeOutOfRange { field } => Some(*field),
            TaskError::Conflict { first, .. } => Some(*first),
            TaskError::Encode { .. } => Some("payload"),
            _ => None,
        };
        Self {
            field: field.map(str::to_owned),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid", error.to_string())
        }
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::invalid(error.field, error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Broker(error) | Error::Enqueue(EnqueueError::Broker(error)) => error.into(),
            Error::Invalid(error) => error.into(),
            Error::Enqueue(EnqueueError::DuplicateTask) => Self::new(
                StatusCode::CONFLICT,
                "duplicate_task",
                "a task with this unique key is there already",
            ),
            Error::Enqueue(EnqueueError::TaskIdConflict) => Self::new(
                StatusCode::CONFLICT,
                "id_conflict",
                "a task with this id is there already",
            ),
            Error::Enqueue(EnqueueError::Unknown { .. }) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "answer_lost",
                format!("{error}; look for the task before you enqueue it again"),
            ),
            Error::Enqueue(EnqueueError::Overloaded | EnqueueError::Closed) => Self {
                retry_after: Some(1),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "storage_unavailable",
                    "the storage does not take more now",
                )
            },
            Error::Config(error) => Self::new(StatusCode::BAD_REQUEST, "invalid", error.to_string()),
            other => {
                tracing::error!(error = with_causes(&other), "a request failed");
                Self::internal("the request failed; the log of the server has more")
            }
        }
    }
}

/// Turns what axum says about a request into a problem.
macro_rules! from_rejection {
    ($rejection:ty, $field:literal) => {
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                let status = rejection.status();
                let code = match status {
                    StatusCode::PAYLOAD_TOO_LARGE => "too_large",
                    StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
                    _ => "invalid",
                };
                // A body that is JSON of another shape is as wrong as one that is no JSON.
                let status = match status {
                    StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                    status => status,
                };
                Self {
                    field: Some($field.to_owned()),
                    ..Self::new(status, code, rejection.body_text())
                }
            }
        }
    };
}

from_rejection!(BytesRejection, "body");
from_rejection!(FormRejection, "body");
from_rejection!(JsonRejection, "body");
from_rejection!(PathRejection, "path");
from_rejection!(QueryRejection, "query");
