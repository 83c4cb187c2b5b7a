//! The routes of the service, and its answers to callers.

use std::{sync::Arc, time::Duration};

use asynq::{
    Client, Error, Inspector, IntoTask as _, TaskState,
    broker::Storage,
    client::Waited,
    error::{BrokerError, EnqueueError, TaskError},
};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::tasks::{Event, Mail, PlaceOrder};

/// State that the routes share.
#[derive(Clone)]
pub struct App {
    client: Client,
    storage: Arc<dyn Storage>,
}

/// The routes of the service.
pub fn router(client: Client, storage: Arc<dyn Storage>) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{order}", get(status))
        .route("/orders/{order}/receipt", get(receipt))
        .route("/reminders", post(remind))
        .route("/events", post(tell))
        .with_state(App { client, storage })
}

/// An order of the same number is refused while the first one is known.
async fn place(State(app): State<App>, Json(order): Json<PlaceOrder>) -> Result<(StatusCode, String), Failure> {
    let number = order.order.clone();
    let task = order.into_task()?.with_task_id(number);
    // Never waits: a caller hears at once that there are too many.
    let info = app.client.try_enqueue(task).await?;
    Ok((StatusCode::ACCEPTED, info.id.to_string()))
}

/// A mail that is to be sent later, once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reminder {
    /// Address of the mail.
    pub to: String,
    /// Subject of the mail.
    pub subject: String,
    /// After how many seconds.
    pub seconds: u64,
}

async fn remind(State(app): State<App>, Json(reminder): Json<Reminder>) -> Result<StatusCode, Failure> {
    let mail = Mail {
        to: reminder.to,
        subject: reminder.subject,
    };
    let task = mail
        .into_task()?
        .with_process_in(Duration::from_secs(reminder.seconds))
        .with_unique_ttl(Duration::from_secs(3600));
    app.client.enqueue(task).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn tell(State(app): State<App>, what: String) -> Result<StatusCode, Failure> {
    app.client.add_to_group(Event { what }, "events").await?;
    Ok(StatusCode::ACCEPTED)
}

/// The status of an order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// `pending`, `completed` and so on.
    pub state: String,
    /// The receipt, once it is paid.
    pub receipt: Option<String>,
    /// The reason why it was refused, or is retried.
    pub error: Option<String>,
}

async fn status(State(app): State<App>, Path(order): Path<String>) -> Result<Json<Order>, Failure> {
    let info = Inspector::new(app.storage).get_task_info("orders", &order).await?;
    let finished = matches!(info.state, TaskState::Completed);
    Ok(Json(Order {
        state: info.state.to_string(),
        receipt: info
            .result
            .map(|receipt| String::from_utf8_lossy(&receipt).into_owned()),
        error: Some(info.last_error).filter(|error| !finished && !error.is_empty()),
    }))
}

/// Waits for the receipt for a while: a caller that does not want to ask again and again.
async fn receipt(State(app): State<App>, Path(order): Path<String>) -> Result<(StatusCode, String), Failure> {
    let waited = app.client.wait_for("orders", &order, Duration::from_secs(30)).await?;
    Ok(match waited {
        Waited::Completed(info) => {
            let receipt = info.result.unwrap_or_default();
            (StatusCode::OK, String::from_utf8_lossy(&receipt).into_owned())
        }
        Waited::Archived(info) => (StatusCode::UNPROCESSABLE_ENTITY, info.last_error),
        Waited::Gone => (StatusCode::NOT_FOUND, "no such order".to_owned()),
        _ => (StatusCode::ACCEPTED, "not yet".to_owned()),
    })
}

/// An error as HTTP has it.
#[derive(Debug)]
pub struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Failure {
    fn status(&self) -> StatusCode {
        match &self.0 {
            Error::Invalid(TaskError::TooLarge {
                field: "message size", ..
            }) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Enqueue(EnqueueError::DuplicateTask | EnqueueError::TaskIdConflict) => StatusCode::CONFLICT,
            Error::Enqueue(EnqueueError::Overloaded) => StatusCode::TOO_MANY_REQUESTS,
            Error::Broker(BrokerError::TaskNotFound { .. } | BrokerError::QueueNotFound { .. }) => {
                StatusCode::NOT_FOUND
            }
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status(), self.0.to_string()).into_response()
    }
}
