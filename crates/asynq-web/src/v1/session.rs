//! The session of a request.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use crate::{
    app::App,
    guard::Caller,
    problem::Problem,
    sign_in::{self, SessionRecord},
};

/// Returns the user of this request, and the token for changes by this session.
#[utoipa::path(
    get, path = "/session", tag = "session",
    responses(
        (status = 200, body = SessionRecord),
        (status = 401, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(State(app): State<App>, caller: Caller) -> Json<SessionRecord> {
    Json(SessionRecord::of(&caller, &app))
}

/// Signs out.
#[utoipa::path(
    delete, path = "/session", tag = "session",
    responses(
        (status = 204),
        (status = 401, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn end(State(app): State<App>, parts: Parts) -> Response {
    let removal = sign_in::end(&app, &parts);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, removal)]).into_response()
}
