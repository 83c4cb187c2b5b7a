//! The API under `/api/v1`.

pub(crate) mod act;
pub(crate) mod acts;
pub(crate) mod common;
pub(crate) mod enqueue;
pub(crate) mod events;
pub(crate) mod openapi;
pub(crate) mod payload;
pub(crate) mod queues;
pub(crate) mod schedulers;
pub(crate) mod search;
pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod statistics;
pub(crate) mod tasks;
pub(crate) mod upkeep;

use axum::{Router, routing::get};

use crate::{
    access::Role::{Admin, Operator, Viewer},
    app::App,
    problem::Problem,
    routes::{self, Route},
};

/// The routes. Their paths are relative to `/api/v1`.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/session", Viewer, session::show).for_the_session(),
        Route::delete("/session", Viewer, session::end).for_the_session(),
        Route::get("/queues", Viewer, queues::list).for_each_queue(),
        Route::get("/queues/{queue}", Viewer, queues::show),
        Route::delete("/queues/{queue}", Admin, queues::delete),
        Route::post("/queues/{queue}/pause", Operator, queues::pause),
        Route::post("/queues/{queue}/resume", Operator, queues::resume),
        Route::delete("/queues/{queue}/counters", Admin, queues::clear_counters),
        Route::get("/queues/{queue}/groups", Viewer, queues::groups),
        Route::get("/queues/{queue}/errors", Viewer, queues::errors),
        Route::get("/queues/{queue}/statistics", Viewer, statistics::show),
        Route::get("/queues/{queue}/place", Viewer, queues::place),
        Route::get("/queues/{queue}/tasks", Viewer, tasks::list),
        Route::post("/queues/{queue}/tasks", Operator, enqueue::enqueue),
        Route::get("/queues/{queue}/tasks/{id}", Viewer, tasks::show),
        Route::delete("/queues/{queue}/tasks/{id}", Operator, act::delete),
        Route::get("/queues/{queue}/tasks/{id}/life", Viewer, tasks::life),
        Route::post("/queues/{queue}/tasks/{id}/run", Operator, act::run),
        Route::post("/queues/{queue}/tasks/{id}/archive", Operator, act::archive),
        Route::post("/queues/{queue}/tasks/{id}/cancel", Operator, act::cancel),
        Route::put("/queues/{queue}/tasks/{id}/payload", Operator, act::edit),
        Route::post("/queues/{queue}/tasks/{id}/reschedule", Operator, act::reschedule),
        Route::post("/queues/{queue}/tasks/{id}/copy", Operator, enqueue::copy),
        Route::post("/tasks/search", Viewer, search::search)
            .that_reads()
            .for_each_queue(),
        Route::post("/tasks/count", Viewer, search::count)
            .that_reads()
            .for_each_queue(),
        Route::get("/acts", Operator, acts::list).for_each_queue(),
        Route::post("/acts", Operator, acts::start).for_each_queue(),
        Route::post("/acts/preview", Operator, acts::preview)
            .that_reads()
            .for_each_queue(),
        Route::get("/acts/{act}", Operator, acts::show).for_each_queue(),
        Route::post("/acts/{act}/stop", Operator, acts::stop).for_each_queue(),
        Route::get("/findings", Viewer, upkeep::findings).for_each_queue(),
        Route::post("/doctor/check", Viewer, upkeep::check)
            .that_reads()
            .for_each_queue(),
        Route::post("/doctor/fix", Admin, upkeep::fix).for_each_queue(),
        Route::get("/audit", Viewer, upkeep::audit).for_each_queue(),
        Route::get("/servers", Viewer, servers::servers).for_each_queue(),
        Route::get("/trees", Viewer, servers::trees).for_each_queue(),
        Route::get("/redis", Viewer, servers::redis),
        Route::get("/schedulers", Viewer, schedulers::list).for_each_queue(),
        Route::get("/schedulers/{entry}/history", Viewer, schedulers::history).for_each_queue(),
        Route::post("/schedulers/{entry}/run", Operator, schedulers::run).for_each_queue(),
        Route::post("/schedulers/{entry}/backfill", Operator, schedulers::backfill).for_each_queue(),
        Route::get("/events", Viewer, events::events).for_each_queue(),
    ]
}

pub(crate) fn router(app: &App) -> Router<App> {
    routes::mount(routes(), app)
        .route("/openapi.json", get(openapi::describe))
        .fallback(async || Problem::not_found("there is nothing at this path"))
}
