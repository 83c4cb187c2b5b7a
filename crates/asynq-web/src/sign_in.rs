//! The sign-in with name and password: a form for people, and JSON for programs.

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::{Role, User},
    app::App,
    extract::{Form, Json, Query},
    guard::{self, Caller},
    pages::{self, paths::Paths, settings::Settings, view},
    problem::{Problem, Result},
};

/// Largest body. Anybody may send one.
const MAX_BODY: usize = 8 * 1024;

/// Longest way to the page after the sign-in that is kept, in characters.
const MAX_NEXT: usize = 2048;

/// Longest name that is looked up.
const MAX_NAME: usize = asynq::inspector::MAX_ACTOR_NAME;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/login", get(form).post(submit))
        .route("/logout", post(leave))
        .route("/api/v1/session", post(sign_in))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    name: String,
    password: String,
}

/// The user of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionRecord {
    /// The name in the audit trail.
    pub(crate) user: String,
    /// The highest role for any queue.
    pub(crate) role: Option<Role>,
    /// The role for everything that belongs to no queue.
    pub(crate) role_everywhere: Option<Role>,
    /// The token that each change by this session must carry in the header `X-CSRF-Token`. `null` without a session.
    pub(crate) csrf_token: Option<String>,
    /// The server refuses all changes.
    pub(crate) read_only: bool,
}

impl SessionRecord {
    pub(crate) fn of(caller: &Caller, app: &App) -> Self {
        let user = caller.user();
        Self {
            user: user.name.clone(),
            role: user.highest_role(),
            role_everywhere: user.role_everywhere(),
            csrf_token: caller.session().map(|session| session.csrf.clone()),
            read_only: app.read_only,
        }
    }
}

/// Signs in with a name and a password. The answer sets the cookie of the session.
#[utoipa::path(
    post, path = "/session", tag = "session", request_body = SignIn,
    responses(
        (status = 200, body = SessionRecord),
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 429, body = Problem, content_type = "application/problem+json"),
    ),
    security(()),
)]
pub(crate) async fn sign_in(State(app): State<App>, parts: Parts, Json(given): Json<SignIn>) -> Result<Response> {
    let (user, cookie) = check(&app, &parts, &given).await?;
    let session = app.sessions.of(cookie.value());
    let record = SessionRecord {
        role: user.highest_role(),
        role_everywhere: user.role_everywhere(),
        user: user.name,
        csrf_token: session.map(|session| session.csrf),
        read_only: app.read_only,
    };
    Ok(([(header::SET_COOKIE, cookie.to_string())], axum::Json(record)).into_response())
}

/// The page to go to after the sign-in.
#[derive(Debug, Default, Deserialize)]
struct Next {
    /// Its path and query, relative to the first page.
    #[serde(default)]
    next: String,
}

impl Next {
    /// Returns the way to the page, always within this router.
    fn way(&self, paths: &Paths) -> String {
        match self.next.as_str() {
            "" => paths.home.clone(),
            // The first page itself.
            next if next.starts_with('?') => format!("{}{}", paths.home, kept(next)),
            next => {
                format!("{}{}", paths.base, kept(next).trim_start_matches(['/', '\\']))
            }
        }
    }
}

fn kept(next: &str) -> String {
    next.chars().filter(|char| !char.is_control()).take(MAX_NEXT).collect()
}

async fn form(State(app): State<App>, Query(next): Query<Next>, parts: Parts) -> Result<Response> {
    match app.auth.has_passwords() {
        true => Ok(page(&parts, "", &next)),
        false => Err(Problem::not_found("there is no sign-in with a password")),
    }
}

/// The page with a text of ours.
fn page(parts: &Parts, fault: &str, next: &Next) -> Response {
    let (paths, settings) = (view::paths(parts), Settings::of(&parts.headers));
    pages::sign_in::document(&paths, &settings, fault, &next.next).into_response()
}

async fn submit(State(app): State<App>, Query(next): Query<Next>, parts: Parts, Form(given): Form<SignIn>) -> Response {
    match check(&app, &parts, &given).await {
        Ok((_, cookie)) => (
            [(header::SET_COOKIE, cookie.to_string())],
            Redirect::to(&next.way(&view::paths(&parts))),
        )
            .into_response(),
        Err(problem) => {
            let fault = match problem.status {
                StatusCode::UNAUTHORIZED => "The name or the password is wrong.".to_owned(),
                StatusCode::TOO_MANY_REQUESTS => {
                    let seconds = problem.retry_after.unwrap_or(1);
                    format!("Too many attempts. Try again in {seconds} s.")
                }
                StatusCode::FORBIDDEN => "The form was sent by another site.".to_owned(),
                _ => "The sign-in failed. Try again.".to_owned(),
            };
            (problem.status, page(&parts, &fault, &next)).into_response()
        }
    }
}

async fn check(app: &App, parts: &Parts, given: &SignIn) -> Result<(User, Cookie<'static>)> {
    guard::right_host(app, parts)?;
    guard::same_site(app, parts)?;
    if !app.auth.has_passwords() {
        return Err(Problem::not_found("there is no sign-in with a password"));
    }
    let wrong = || Problem::unauthorized("the name or the password is wrong");
    if given.name.is_empty() || given.name.len() > MAX_NAME {
        return Err(wrong());
    }
    let address = guard::client(app, parts);
    app.throttle
        .begin(&given.name, address, Instant::now())
        .map_err(|wait| {
            tracing::warn!(?address, "too many attempts to sign in");
            Problem::too_many("too many attempts to sign in", wait.as_secs() + 1)
        })?;
    let (user, way) = match app.auth.sign_in(&given.name, &given.password).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            // Not the name, as people sometimes type their password there.
            tracing::warn!(?address, "a wrong name or password");
            return Err(wrong());
        }
        Err(error) => {
            app.throttle.unchecked(&given.name, address);
            return Err(error.into());
        }
    };
    app.throttle.succeeded(&given.name, address);
    // An old session of this browser ends: its id may be known to someone else.
    if let Some(old) = guard::cookie(app, &parts.headers) {
        app.sessions.end(&old);
    }
    let id = app.sessions.start(user.clone(), way).map_err(Problem::internal)?;
    tracing::info!(user = user.name, ?address, "signed in");
    Ok((user, session_cookie(app, id)))
}

fn session_cookie(app: &App, id: String) -> Cookie<'static> {
    Cookie::build((app.cookie.clone(), id))
        .path("/")
        .http_only(true)
        .secure(app.https)
        .same_site(SameSite::Lax)
        .build()
}

/// Ends the session of this browser.
async fn leave(State(app): State<App>, parts: Parts) -> Result<Response> {
    guard::same_site(&app, &parts)?;
    Ok(([(header::SET_COOKIE, end(&app, &parts))], Redirect::to("login")).into_response())
}

/// Ends the session of a request, and returns the cookie that removes it from the browser.
pub(crate) fn end(app: &App, parts: &Parts) -> String {
    if let Some(id) = guard::cookie(app, &parts.headers) {
        app.sessions.end(&id);
    }
    let mut cookie = session_cookie(app, String::new());
    cookie.make_removal();
    cookie.to_string()
}
