//! Queues.

use asynq::TaskOptions;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{Api, encoded, later};

/// Names with characters that mean something in a path.
pub(crate) const NAMES: [&str; 8] = ["a:b", "a/b", "..", "größe 100%", "%2F", "a?b#c", "\u{1f980}\0", "pause"];

#[tokio::test]
async fn queues_are_listed_in_parts() {
    let api = Api::open().await;
    for queue in ["mail:b", "mail:a", "other", "mail:c"] {
        api.enqueue(queue, "1", b"", TaskOptions::new()).await;
    }
    let names = |list: &serde_json::Value| -> Vec<String> {
        let queues = list["queues"].as_array().unwrap().iter();
        queues
            .map(|queue| queue["queue"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = api.get("/queues?pattern=mail*&limit=2").await;
    assert_eq!(names(&first), ["mail:a", "mail:b"]);
    assert_eq!((&first["total"], &first["next_after"]), (&json!(3), &json!("mail:b")));
    assert_eq!(first["queues"][0]["pending"], 1);
    let second = api.get("/queues?pattern=mail*&limit=2&after=mail:b").await;
    assert_eq!(
        (names(&second), &second["next_after"]),
        (vec!["mail:c".to_owned()], &json!(null))
    );
    assert_eq!(names(&api.get("/queues").await).len(), 4);
    assert_eq!(names(&api.get("/queues?after=zzz").await).len(), 0);
}

#[tokio::test]
async fn queues_of_any_name_are_paused_cleared_and_deleted() {
    let api = Api::open().await;
    for name in NAMES {
        api.enqueue(name, "1", b"", later()).await;
        let path = format!("/queues/{}", encoded(name));
        let shown = api.get(&format!("{path}?days=2")).await;
        assert_eq!(
            (&shown["queue"], &shown["scheduled"], &shown["paused"]),
            (&json!(name), &json!(1), &json!(false))
        );
        assert_eq!(shown["history"].as_array().unwrap().len(), 2);
        assert_eq!(api.post(&format!("{path}/pause"), json!({})).await["paused"], true);
        assert_eq!(api.get(&path).await["paused"], true);
        assert_eq!(api.post(&format!("{path}/resume"), json!({})).await["paused"], false);
        api.change(Method::DELETE, format!("{path}/counters"), None).await;
        let refused = api.ask("", Method::DELETE, &path, None).await;
        assert_eq!(refused.problem(StatusCode::CONFLICT), "queue_not_empty");
        api.change(Method::DELETE, format!("{path}?force=true"), None).await;
        let gone = api.ask("", Method::GET, &path, None).await;
        assert_eq!(gone.problem(StatusCode::NOT_FOUND), "queue_not_found");
    }
    assert_eq!(api.get("/queues").await["total"], 0);
}

#[tokio::test]
async fn a_reason_comes_in_three_ways() {
    let api = Api::open().await;
    api.enqueue("q", "1", b"", later()).await;
    api.post("/queues/q/pause", json!({"reason": "in the body"})).await;
    api.change(Method::POST, "/queues/q/resume?reason=in%20the%20path".to_owned(), None)
        .await;
    let acts = api.acts().await;
    assert_eq!(
        acts,
        [
            ("pause_queue".to_owned(), "in the body".to_owned()),
            ("unpause_queue".to_owned(), "in the path".to_owned())
        ]
    );
    let strict = Api::with(|web| web.require_reason()).await;
    strict.enqueue("q", "1", b"", later()).await;
    let refused = strict.ask("", Method::POST, "/queues/q/pause", None).await;
    assert_eq!(
        (
            refused.problem(StatusCode::BAD_REQUEST),
            refused.json()["field"].clone()
        ),
        ("invalid".to_owned(), json!("reason"))
    );
    let act = json!({"act": "run", "tasks": [{"queue": "q", "id": "1"}]});
    strict
        .ask("", Method::POST, "/acts", Some(act))
        .await
        .problem(StatusCode::BAD_REQUEST);
    strict.post("/queues/q/pause", json!({"reason": "r"})).await;
}

#[tokio::test]
async fn groups_and_errors_are_counted() {
    let api = Api::open().await;
    for (id, group) in [("1", "b"), ("2", "a"), ("3", "b")] {
        api.enqueue("q", id, b"", TaskOptions::new().group(group)).await;
    }
    let groups = api.get("/queues/q/groups").await;
    assert_eq!(
        groups,
        json!({"total": 2, "groups": [
            {"group": "a", "size": 1, "in_sets": 0}, {"group": "b", "size": 2, "in_sets": 0},
        ]})
    );
    assert_eq!(
        api.get("/queues/q/groups?limit=1").await["groups"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    api.enqueue("q", "4", b"", later()).await;
    api.inspector.archive_task("q", "4").await.unwrap();
    let errors = api.get("/queues/q/errors").await;
    assert_eq!((&errors["looked_at"], &errors["without_error"]), (&json!(1), &json!(1)));
    assert_eq!(api.get("/queues/q/errors?state=retry").await["looked_at"], 0);
    let place = api.get("/queues/q/place").await;
    assert_eq!(place, json!({"queue": "q", "slot": null, "nodes": []}));
}

#[tokio::test]
async fn a_user_sees_only_their_queues() {
    let api = Api::with_users().await;
    for queue in ["mail", "default"] {
        api.enqueue(queue, "1", b"", later()).await;
    }
    let list = api.ask("mail", Method::GET, "/queues", None).await.json();
    assert_eq!(
        (&list["total"], &list["queues"][0]["queue"]),
        (&json!(1), &json!("mail"))
    );
    // There is no difference between a queue that is there and one that is not.
    let hidden = api.ask("mail", Method::GET, "/queues/default", None).await;
    let absent = api.ask("mail", Method::GET, "/queues/nothing", None).await;
    assert_eq!(
        (
            hidden.problem(StatusCode::FORBIDDEN),
            absent.problem(StatusCode::FORBIDDEN)
        ),
        ("forbidden".to_owned(), "forbidden".to_owned())
    );
    for path in ["/trees", "/redis", "/queues/mail/place"] {
        api.ask("mail", Method::GET, path, None)
            .await
            .problem(StatusCode::FORBIDDEN);
    }
}
