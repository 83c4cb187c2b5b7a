//! Statistics.

use asynq::{AsynqSystem, Error, ServerConfig, Task};
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{Api, until};
use crate::support::Site;

#[tokio::test]
async fn runs_are_counted_by_type_and_time() {
    let site = Site::open().await;
    let system = AsynqSystem::builder(site.storage.clone())
        .config(ServerConfig::new().queues([("q/1", 1)]))
        .handler(|task: Task| async move {
            match task.get_type() {
                "good" => Ok(()),
                _ => Err(Error::other("it fails")),
            }
        })
        .spawn()
        .await
        .unwrap();
    let api = Api::from(site);
    for (n, task_type) in ["good", "good", "bad"].into_iter().enumerate() {
        let task = Task::new(task_type, b"")
            .unwrap()
            .with_queue("q/1")
            .with_task_id(n.to_string());
        api.client.enqueue(task).await.unwrap();
    }
    until(async || match api.inspector.get_queue_stats("q/1").await.unwrap() {
        stats if stats.processed == 3 => Ok(()),
        stats => Err(format!("{stats:?}")),
    })
    .await;
    // The end of a server writes what it has counted.
    system.shutdown().await;
    let shown = api.get("/queues/q%2F1/statistics").await;
    let types: Vec<_> = shown["types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (&of["type"], &of["runs"]["total"]))
        .collect();
    assert_eq!(
        types,
        [(&json!("bad"), &json!(1)), (&json!("good"), &json!(2))],
        "{shown}"
    );
    assert_eq!(
        (
            &shown["types"][0]["runs"]["failed"],
            &shown["types"][0]["run_seconds"]["count"]
        ),
        (&json!(1), &json!(1))
    );
    let total = |shown: &serde_json::Value| -> u64 {
        shown["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["runs"]["total"].as_u64().unwrap())
            .sum()
    };
    assert_eq!(total(&shown), 3);
    let good = api.get("/queues/q%2F1/statistics?type=good&step=hour").await;
    assert_eq!((total(&good), good["types"].as_array().unwrap().len()), (2, 1));
    let past = api
        .get("/queues/q%2F1/statistics?to=2026-01-01T00:00:00Z&step=day")
        .await;
    assert_eq!((total(&past), &past["to"]), (0, &json!("2026-01-01T00:00:00Z")));
    for query in [
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "from=2020-01-02T00:00:00Z",
        "from=yesterday",
        "step=second",
        "to=-100000-01-01T00:00:00Z",
    ] {
        let answer = api
            .ask("", Method::GET, &format!("/queues/q%2F1/statistics?{query}"), None)
            .await;
        answer.problem(StatusCode::BAD_REQUEST);
    }
    api.ask("", Method::GET, "/queues/none/statistics", None)
        .await
        .problem(StatusCode::NOT_FOUND);
}
