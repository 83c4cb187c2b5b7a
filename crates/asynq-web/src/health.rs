//! `/healthz` and `/readyz`.

use std::time::Duration;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use crate::app::App;

/// Longest wait for the storage.
const LIMIT: Duration = Duration::from_secs(2);

/// Says that the process answers. It asks nobody else, so an outage of Redis restarts no pod.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Says whether the storage answers: 200, or 503.
pub(crate) async fn readyz(State(app): State<App>) -> Response {
    match timeout(LIMIT, app.storage.ping()).await {
        Ok(Ok(())) => "ok\n".into_response(),
        // The cause could name hosts and users, and anybody may ask.
        Ok(Err(error)) => {
            tracing::warn!(%error, "the storage does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the storage does not answer\n").into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the storage does not answer in time\n").into_response(),
    }
}
