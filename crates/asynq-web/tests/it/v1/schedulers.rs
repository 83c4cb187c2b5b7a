//! The entries of schedulers.

use std::sync::Arc;

use asynq::{
    Connector as _,
    broker::Storage,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    names::TaskId,
};
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{Api, HOUR};
use crate::support::Site;

async fn api() -> Api {
    let site = Site::with_users().await;
    let storage: Arc<dyn Storage> = site.storage.connect(site.storage.env()).await.unwrap();
    let entry = |id: &str, queue: &str| SchedulerEntry {
        id: id.to_owned(),
        spec: "@every 1h".to_owned(),
        task_type: "report".to_owned(),
        payload: "{}".into(),
        options: vec![format!("Queue({queue:?})")],
        next: None,
        prev: None,
    };
    // Go's own reader stops at the first parenthesis.
    let entries = [entry("m/1", "mail"), entry("d", "default"), entry("u", "mail) low")];
    storage
        .write_scheduler_entries("host:1:a", &entries, HOUR)
        .await
        .unwrap();
    for n in 0..3 {
        let event = SchedulerEnqueueEvent {
            task_id: TaskId::new(n.to_string()).unwrap(),
            enqueued_at: chrono::DateTime::from_timestamp(1_800_000_000 + n, 0).unwrap(),
        };
        storage.record_enqueue_event("m/1", &event).await.unwrap();
    }
    site.into()
}

#[tokio::test]
async fn entries_are_listed_with_their_history() {
    let api = api().await;
    let entries = api.ask("viewer", Method::GET, "/schedulers", None).await.json();
    assert_eq!(entries["entries"].as_array().unwrap().len(), 3);
    let unknown = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == "u");
    assert_eq!(unknown.unwrap()["queue"], json!(null));
    let own = api.ask("mail", Method::GET, "/schedulers", None).await.json();
    assert_eq!(
        (own["entries"].as_array().unwrap().len(), &own["entries"][0]["queue"]),
        (1, &json!("mail"))
    );
    let history = api
        .ask("mail", Method::GET, "/schedulers/m%2F1/history?size=2", None)
        .await
        .json();
    assert_eq!(
        (
            history["events"].as_array().unwrap().len(),
            &history["events"][0]["task"]
        ),
        (2, &json!("2"))
    );
    let next = api
        .ask("mail", Method::GET, "/schedulers/m%2F1/history?size=2&page=2", None)
        .await
        .json();
    assert_eq!(next["events"].as_array().unwrap().len(), 1);
    for path in ["/schedulers/d/history", "/schedulers/x/history"] {
        api.ask("mail", Method::GET, path, None)
            .await
            .problem(StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn entries_are_run_and_backfilled_by_operators_of_their_queue() {
    let api = api().await;
    let run = api
        .ask(
            "mail",
            Method::POST,
            "/schedulers/m%2F1/run",
            Some(json!({"reason": "now"})),
        )
        .await;
    assert_eq!(
        (run.status, &run.json()["queue"]),
        (StatusCode::CREATED, &json!("mail"))
    );
    let ticks = json!({"ticks": ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"], "reason": "lost"});
    let filled = api
        .ask("mail", Method::POST, "/schedulers/m%2F1/backfill", Some(ticks.clone()))
        .await;
    assert_eq!(filled.json(), json!({"enqueued": 2, "decided_before": 0, "refused": 0}));
    let again = api
        .ask("mail", Method::POST, "/schedulers/m%2F1/backfill", Some(ticks.clone()))
        .await;
    assert_eq!(again.json()["decided_before"], 2);
    assert_eq!(api.inspector.get_queue_stats("mail").await.unwrap().pending, 3);
    api.ask("mail", Method::POST, "/schedulers/d/run", None)
        .await
        .problem(StatusCode::NOT_FOUND);
    api.ask("viewer", Method::POST, "/schedulers/m%2F1/run", None)
        .await
        .problem(StatusCode::FORBIDDEN);
    for (act, body) in [("run", None), ("backfill", Some(ticks))] {
        let path = format!("/schedulers/u/{act}");
        let answer = api.ask("operator", Method::POST, &path, body.clone()).await;
        assert_eq!(answer.problem(StatusCode::CONFLICT), "unknown_queue");
        api.ask("mail", Method::POST, &path, body)
            .await
            .problem(StatusCode::NOT_FOUND);
    }
    for body in [
        json!({"ticks": []}),
        json!({"ticks": ["2100-01-01T00:00:00Z"]}),
        json!({"ticks": ["yesterday"]}),
        json!({"ticks": vec!["2026-01-01T00:00:00Z"; 1001]}),
    ] {
        api.ask("mail", Method::POST, "/schedulers/m%2F1/backfill", Some(body))
            .await
            .problem(StatusCode::BAD_REQUEST);
    }
    assert_eq!(api.acts().await[0], ("run_entry".to_owned(), "now".to_owned()));
}
