//! The API of asynqmon, for the scripts of its users: the same paths, statuses, shapes and texts. `docs/asynqmon.md` lists the
//! differences.

mod acts;
mod answer;
mod batches;
mod fault;
mod lists;
mod metrics;
mod queues;
mod records;
mod redis_info;
mod rewrite;
mod servers;
mod shown;

use axum::{Router, http::StatusCode, middleware};
use tower::Layer as _;

use crate::{
    access::Role::{Admin, Operator, Viewer},
    app::App,
    routes::{self, Route},
};

/// The routes. Their paths are relative to `/api`.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        Route::get("/queues", Viewer, queues::list).for_each_queue(),
        Route::get("/queues/{queue}", Viewer, queues::show),
        Route::delete("/queues/{queue}", Admin, queues::delete),
        Route::post("/queues/{queue}:pause", Operator, queues::pause),
        Route::post("/queues/{queue}:resume", Operator, queues::resume),
        Route::get("/queue_stats", Viewer, queues::stats).for_each_queue(),
        Route::get("/queues/{queue}/groups", Viewer, queues::groups),
        Route::get("/queues/{queue}/tasks/{id}", Viewer, lists::task),
        Route::get("/servers", Viewer, servers::servers).for_each_queue(),
        Route::get("/scheduler_entries", Viewer, servers::entries).for_each_queue(),
        Route::get(
            "/scheduler_entries/{entry}/enqueue_events",
            Viewer,
            servers::enqueue_events,
        )
        .for_each_queue(),
        Route::get("/redis_info", Viewer, redis_info::show),
        Route::get("/metrics", Viewer, metrics::show).for_each_queue(),
    ];
    routes.extend(active());
    routes.extend(pending());
    routes.extend(scheduled());
    routes.extend(retry());
    routes.extend(archived());
    routes.extend(completed());
    routes.extend(aggregating());
    routes
}

fn active() -> [Route; 4] {
    [
        Route::get("/queues/{queue}/active_tasks", Viewer, lists::active),
        Route::post("/queues/{queue}/active_tasks/{id}:cancel", Operator, acts::cancel),
        Route::post("/queues/{queue}/active_tasks:cancel_all", Operator, acts::cancel_all),
        Route::post("/queues/{queue}/active_tasks:batch_cancel", Operator, batches::cancel),
    ]
}

fn pending() -> [Route; 7] {
    [
        Route::get("/queues/{queue}/pending_tasks", Viewer, lists::pending),
        Route::delete("/queues/{queue}/pending_tasks/{id}", Operator, acts::delete),
        Route::delete(
            "/queues/{queue}/pending_tasks:delete_all",
            Operator,
            acts::delete_all_pending,
        ),
        Route::post("/queues/{queue}/pending_tasks:batch_delete", Operator, batches::delete),
        Route::post("/queues/{queue}/pending_tasks/{id}:archive", Operator, acts::archive),
        Route::post(
            "/queues/{queue}/pending_tasks:archive_all",
            Operator,
            acts::archive_all_pending,
        ),
        Route::post(
            "/queues/{queue}/pending_tasks:batch_archive",
            Operator,
            batches::archive,
        ),
    ]
}

fn scheduled() -> [Route; 10] {
    [
        Route::get("/queues/{queue}/scheduled_tasks", Viewer, lists::scheduled),
        Route::delete("/queues/{queue}/scheduled_tasks/{id}", Operator, acts::delete),
        Route::delete(
            "/queues/{queue}/scheduled_tasks:delete_all",
            Operator,
            acts::delete_all_scheduled,
        ),
        Route::post(
            "/queues/{queue}/scheduled_tasks:batch_delete",
            Operator,
            batches::delete,
        ),
        Route::post("/queues/{queue}/scheduled_tasks/{id}:run", Operator, acts::run),
        Route::post(
            "/queues/{queue}/scheduled_tasks:run_all",
            Operator,
            acts::run_all_scheduled,
        ),
        Route::post("/queues/{queue}/scheduled_tasks:batch_run", Operator, batches::run),
        Route::post("/queues/{queue}/scheduled_tasks/{id}:archive", Operator, acts::archive),
        Route::post(
            "/queues/{queue}/scheduled_tasks:archive_all",
            Operator,
            acts::archive_all_scheduled,
        ),
        Route::post(
            "/queues/{queue}/scheduled_tasks:batch_archive",
            Operator,
            batches::archive,
        ),
    ]
}

fn retry() -> [Route; 10] {
    [
        Route::get("/queues/{queue}/retry_tasks", Viewer, lists::retry),
        Route::delete("/queues/{queue}/retry_tasks/{id}", Operator, acts::delete),
        Route::delete(
            "/queues/{queue}/retry_tasks:delete_all",
            Operator,
            acts::delete_all_retry,
        ),
        Route::post("/queues/{queue}/retry_tasks:batch_delete", Operator, batches::delete),
        Route::post("/queues/{queue}/retry_tasks/{id}:run", Operator, acts::run),
        Route::post("/queues/{queue}/retry_tasks:run_all", Operator, acts::run_all_retry),
        Route::post("/queues/{queue}/retry_tasks:batch_run", Operator, batches::run),
        Route::post("/queues/{queue}/retry_tasks/{id}:archive", Operator, acts::archive),
        Route::post(
            "/queues/{queue}/retry_tasks:archive_all",
            Operator,
            acts::archive_all_retry,
        ),
        Route::post("/queues/{queue}/retry_tasks:batch_archive", Operator, batches::archive),
    ]
}

fn archived() -> [Route; 7] {
    [
        Route::get("/queues/{queue}/archived_tasks", Viewer, lists::archived),
        Route::delete("/queues/{queue}/archived_tasks/{id}", Operator, acts::delete),
        Route::delete(
            "/queues/{queue}/archived_tasks:delete_all",
            Operator,
            acts::delete_all_archived,
        ),
        Route::post("/queues/{queue}/archived_tasks:batch_delete", Operator, batches::delete),
        Route::post("/queues/{queue}/archived_tasks/{id}:run", Operator, acts::run),
        Route::post(
            "/queues/{queue}/archived_tasks:run_all",
            Operator,
            acts::run_all_archived,
        ),
        Route::post("/queues/{queue}/archived_tasks:batch_run", Operator, batches::run),
    ]
}

fn completed() -> [Route; 4] {
    [
        Route::get("/queues/{queue}/completed_tasks", Viewer, lists::completed),
        Route::delete("/queues/{queue}/completed_tasks/{id}", Operator, acts::delete),
        Route::delete(
            "/queues/{queue}/completed_tasks:delete_all",
            Operator,
            acts::delete_all_completed,
        ),
        Route::post(
            "/queues/{queue}/completed_tasks:batch_delete",
            Operator,
            batches::delete,
        ),
    ]
}

fn aggregating() -> [Route; 10] {
    [
        Route::get(
            "/queues/{queue}/groups/{group}/aggregating_tasks",
            Viewer,
            lists::aggregating,
        ),
        Route::delete(
            "/queues/{queue}/groups/{group}/aggregating_tasks/{id}",
            Operator,
            acts::delete,
        ),
        Route::delete(
            "/queues/{queue}/groups/{group}/aggregating_tasks:delete_all",
            Operator,
            acts::delete_all_aggregating,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks:batch_delete",
            Operator,
            batches::delete,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks/{id}:run",
            Operator,
            acts::run,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks:run_all",
            Operator,
            acts::run_all_aggregating,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks:batch_run",
            Operator,
            batches::run,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks/{id}:archive",
            Operator,
            acts::archive,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks:archive_all",
            Operator,
            acts::archive_all_aggregating,
        ),
        Route::post(
            "/queues/{queue}/groups/{group}/aggregating_tasks:batch_archive",
            Operator,
            batches::archive,
        ),
    ]
}

pub(crate) fn router(app: &App) -> Router<App> {
    let table = routes();
    let verbs = rewrite::Verbs::of(table.iter().map(|route| route.path));
    let inner = routes::mount_as(table, app, rewrite::mounted)
        .fallback(async || fault::Fault::new(StatusCode::NOT_FOUND, "404 page not found"))
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .layer(middleware::from_fn(answer::in_plain_text))
        .with_state(app.clone());
    let rewritten = tower::util::MapRequestLayer::new(move |request| verbs.rewrite(request)).layer(inner);
    Router::new().fallback_service(rewritten)
}
