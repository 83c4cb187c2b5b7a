//! The pages: what people see of the queues in a browser. They show what `/api/v1` answers, and their acts are requests to it.

mod acts;
pub(crate) mod assets;
mod audit;
mod design;
mod doctor;
mod errors_by_signature;
mod fault;
mod find;
mod findings;
mod overview;
pub(crate) mod parts;
pub(crate) mod paths;
mod queue;
mod redis;
mod scheduler;
mod schedulers;
mod servers;
pub(crate) mod settings;
mod settings_page;
pub(crate) mod shell;
pub(crate) mod sign_in;
mod task;
mod tree;
mod types;
pub(crate) mod view;

use axum::{
    Router,
    http::request::Parts,
    middleware,
    response::{IntoResponse as _, Response},
};

use crate::{
    access::Role::{Operator, Viewer},
    app::App,
    problem::Problem,
    routes::{self, Route},
};

/// The routes. Their paths are relative to the router.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/", Viewer, overview::show).for_each_queue(),
        Route::get("/queues/{queue}", Viewer, queue::show),
        Route::get("/queues/{queue}/suggestions", Viewer, queue::suggest::show),
        Route::get("/acts", Operator, acts::list).for_each_queue(),
        Route::get("/acts/{act}", Operator, acts::show).for_each_queue(),
        Route::get("/findings", Viewer, findings::show).for_each_queue(),
        Route::get("/servers", Viewer, servers::show).for_each_queue(),
        Route::get("/tree", Viewer, tree::show),
        Route::get("/redis", Viewer, redis::show),
        Route::get("/queues/{queue}/tasks/{id}", Viewer, task::show),
        Route::get("/queues/{queue}/tasks/{id}/payload", Viewer, task::download::payload),
        Route::get("/queues/{queue}/tasks/{id}/result", Viewer, task::download::result),
        Route::get("/audit", Viewer, audit::show).for_each_queue(),
        Route::get("/schedulers", Viewer, schedulers::show).for_each_queue(),
        Route::get("/types", Viewer, types::show).for_each_queue(),
        Route::get("/find", Viewer, find::show).for_each_queue(),
        Route::get("/settings", Viewer, settings_page::show).for_the_session(),
    ];
    // It is for those who change the pages.
    if cfg!(debug_assertions) {
        routes.push(Route::get("/_design", Viewer, design::show).for_the_session());
    }
    routes
}

pub(crate) fn router(app: &App) -> Router<App> {
    routes::mount(routes(), app)
        .layer(middleware::from_fn_with_state(app.clone(), fault::as_page))
        .merge(assets::router())
}

/// Returns a problem as a page.
pub(crate) fn problem(parts: &Parts, problem: &Problem) -> Response {
    let document = fault::document(&view::paths(parts), &settings::Settings::of(&parts.headers), problem);
    (problem.status, document).into_response()
}
