//! Tasks by query.

use asynq::TaskOptions;
use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Api, later};

#[tokio::test]
async fn a_search_goes_on_behind_its_cursor() {
    let api = Api::open().await;
    for n in 0..5 {
        api.enqueue(
            "q",
            &n.to_string(),
            format!(r#"{{"n":{n}}}"#).as_bytes(),
            TaskOptions::new(),
        )
        .await;
    }
    let (mut body, mut ids) = (json!({"query": "payload.n>0", "limit": 2}), Vec::new());
    loop {
        let found = api.post("/tasks/search", body.clone()).await;
        let tasks = found["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 2);
        ids.extend(tasks.iter().map(|task| task["id"].as_str().unwrap().to_owned()));
        assert_eq!(found["complete"], found["cursor"].is_null());
        match found["cursor"].as_str() {
            Some(cursor) => body["cursor"] = json!(cursor),
            None => break,
        }
    }
    assert_eq!(ids, ["1", "2", "3", "4"]);
    let count = api.post("/tasks/count", json!({"query": "payload.n>0"})).await;
    assert_eq!(
        count,
        json!({"tasks": 4, "looked_at": 5, "undecided": 0, "complete": true})
    );
}

#[tokio::test]
async fn a_search_finds_only_what_its_user_may_see() {
    let api = Api::with_users().await;
    for queue in ["mail", "default"] {
        api.enqueue(queue, queue, b"", later()).await;
    }
    let search = async |query: &str| {
        let body = Some(json!({"query": query}));
        let found = api.ask("mail", Method::POST, "/tasks/search", body).await.json();
        let tasks = found["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(search("state=scheduled").await, ["mail"]);
    assert_eq!(search("queue=default or state=scheduled").await, ["mail"]);
    assert!(search("queue!=mail").await.is_empty());
    let count = api
        .ask(
            "mail",
            Method::POST,
            "/tasks/count",
            Some(json!({"query": "state=scheduled"})),
        )
        .await;
    assert_eq!(count.json()["tasks"], 1);
}

#[tokio::test]
async fn wrong_queries_are_refused_with_their_place() {
    let api = Api::open().await;
    for body in [
        json!({"query": "state="}),
        json!({"query": ""}),
        json!({"query": "x".repeat(5000)}),
        json!({"query": "state=retry", "cursor": "x"}),
        json!({"query": "state=retry", "limit": 0}),
        json!({"query": "state=retry", "limit": 1001}),
        json!({"query": "state=retry", "look_at": u64::MAX}),
        json!({"query": 1}),
        json!(["state=retry"]),
    ] {
        let answer = api.ask("", Method::POST, "/tasks/search", Some(body.clone())).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), "invalid", "{body}");
        assert!(answer.json()["field"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn a_budget_that_is_used_up_gives_the_place_to_go_on_from() {
    let api = Api::with(|web| web.search_budget(300)).await;
    for n in 0..500 {
        api.enqueue("q", &n.to_string(), b"", TaskOptions::new()).await;
    }
    let search = async |cursor: &Value| {
        let mut body = json!({"query": "type=nothing"});
        if cursor.is_string() {
            body["cursor"] = cursor.clone();
        }
        api.ask("", Method::POST, "/tasks/search", Some(body)).await
    };
    let first = search(&Value::Null).await.json();
    assert_eq!((&first["complete"], &first["looked_at"]), (&json!(false), &json!(200)));
    let second = search(&first["cursor"]).await;
    assert_eq!(second.problem(StatusCode::TOO_MANY_REQUESTS), "too_many_requests");
    assert_eq!(second.json()["cursor"], first["cursor"]);
    let wait: u64 = second.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(second.json()["retry_after"], wait);
}
