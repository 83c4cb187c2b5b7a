//! Errors as pages.

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};

use super::{paths::Paths, settings::Settings, shell, view};
use crate::{app::App, problem::Problem};

/// Turns a problem into a page, or sends a user who is not known to the sign-in.
pub(crate) async fn as_page(State(app): State<App>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (paths, settings) = (view::paths(&parts), Settings::of(&parts.headers));
    let page = parts
        .uri
        .path_and_query()
        .map_or("", |path| path.as_str())
        .trim_start_matches('/')
        .to_owned();
    let is_part = parts.headers.contains_key("hx-request");
    let answer = next.run(Request::from_parts(parts, body)).await;
    let Some(problem) = answer.extensions().get::<Problem>() else {
        return answer;
    };
    if problem.status == StatusCode::UNAUTHORIZED && app.auth.has_passwords() && !is_part {
        let login = format!("{}login", paths.base);
        return match page.as_str() {
            "" => Redirect::to(&login).into_response(),
            page => {
                let next = form_urlencoded::Serializer::new(String::new())
                    .append_pair("next", page)
                    .finish();
                Redirect::to(&format!("{login}?{next}")).into_response()
            }
        };
    }
    let (status, document) = (problem.status, document(&paths, &settings, problem));
    let mut answer = (status, document).into_response();
    if let Some(seconds) = problem.retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Returns a problem as a page.
pub(crate) fn document(paths: &Paths, settings: &Settings, problem: &Problem) -> Markup {
    let (title, hint) = words(problem);
    let retry = match problem.status {
        StatusCode::TOO_MANY_REQUESTS => Some(problem.retry_after.unwrap_or(5).max(2)),
        _ => problem.is_outage().then_some(3),
    };
    let body = html! {
        body class="plain" {
            main id="main" class="card fault" data-retry=[retry] {
                p class="fault-status" { (problem.status.as_u16()) }
                h1 { (title) }
                p class="fault-detail" { (problem.detail) "." }
                p { (hint) }
                p class="row" { a class="button primary" href=(paths.home) { "Overview" } a class="button" href="" { "Try again" } }
            }
        }
    };
    shell::document(settings, &shell::head(&paths.base, title, None), &body)
}

/// Returns the title and the advice for a problem.
fn words(problem: &Problem) -> (&'static str, &'static str) {
    match problem.status {
        StatusCode::UNAUTHORIZED => (
            "You are not signed in",
            "Sign in where your application or your proxy asks for it.",
        ),
        StatusCode::FORBIDDEN => (
            "You may not see this",
            "Ask an admin of this server for the role that it needs.",
        ),
        StatusCode::NOT_FOUND => (
            "There is nothing here",
            "It may have been deleted: completed tasks go when their retention ends, and queues when they are removed.",
        ),
        StatusCode::BAD_REQUEST => (
            "The address of this page is wrong",
            "Go back, or begin again from the overview.",
        ),
        StatusCode::TOO_MANY_REQUESTS => ("Too many requests", "Wait a little, then try again."),
        StatusCode::SERVICE_UNAVAILABLE => (
            "The storage does not answer",
            "Tasks are safe where they are: servers try again until it is back. This page looks again every three seconds.",
        ),
        StatusCode::REQUEST_TIMEOUT => (
            "This took too long",
            "Ask for less: one queue, one state, a shorter time.",
        ),
        _ => ("Something went wrong", "The log of the web server has more."),
    }
}
