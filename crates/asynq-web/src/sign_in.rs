//! The sign-in with name and password: a form for people, and JSON for programs.

use std::time::Instant;

use axum::{
    Router,
    extract::{DefaultBodyLimit, OriginalUri, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    access::{Role, User},
    app::App,
    extract::{Form, Json},
    guard::{self, Caller},
    problem::{Problem, Result},
};

/// Largest body. Anybody may send one.
const MAX_BODY: usize = 8 * 1024;

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

const PAGE: &str = include_str!("../assets/login.html");

async fn form(State(app): State<App>) -> Result<Html<String>> {
    match offers_form(&app) {
        true => Ok(page("")),
        false => Err(Problem::not_found("there is no sign-in with a password")),
    }
}

const INDEX: &str = include_str!("../assets/index.html");

/// The way out, for users who have come in with a password.
const SIGN_OUT: &str = r#"<form method="post" action="{{base}}logout"><button>Sign out</button></form>"#;

/// Shows the ways into the API, or sends the user to the sign-in.
pub(crate) async fn index(State(app): State<App>, OriginalUri(uri): OriginalUri, parts: Parts) -> Response {
    // All links are relative, since a proxy may serve the page under a path of which nothing is known here. A router that is
    // nested at `/asynq` has its first page there, without a slash at the end.
    let base = match last_segment(uri.path()) {
        "" => String::new(),
        name => format!("{name}/"),
    };
    match guard::recognize(&app, &parts).await {
        Ok(caller) => {
            let sign_out = caller.session().map_or("", |_| SIGN_OUT);
            let page = INDEX.replace("{{sign_out}}", sign_out);
            let page = page.replace("{{base}}", &escaped(&base));
            Html(page.replace("{{user}}", &escaped(&caller.user().name))).into_response()
        }
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED && offers_form(&app) => {
            Redirect::to(&format!("{base}login")).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns the way from a page such as `/asynq/login` to the first page.
fn home(uri: &Uri) -> String {
    let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    match last_segment(folder) {
        "" => "./".to_owned(),
        name => format!("../{name}"),
    }
}

fn offers_form(app: &App) -> bool {
    app.auth.has_passwords()
}

/// Returns a text of a stranger for a page.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, char| {
        match char {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            char => safe.push(char),
        }
        safe
    })
}

/// The page with a text of ours.
fn page(fault: &str) -> Html<String> {
    Html(PAGE.replace("{{fault}}", fault))
}

async fn submit(
    State(app): State<App>,
    OriginalUri(uri): OriginalUri,
    parts: Parts,
    Form(given): Form<SignIn>,
) -> Response {
    match check(&app, &parts, &given).await {
        Ok((_, cookie)) => ([(header::SET_COOKIE, cookie.to_string())], Redirect::to(&home(&uri))).into_response(),
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
            (problem.status, page(&fault)).into_response()
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
