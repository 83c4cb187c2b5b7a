//! Tasks.

use asynq::TaskOptions;
use asynq_web::access::{RedactionRule, Role};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, encoded, later, queues::NAMES};
use crate::support::users;

#[tokio::test]
async fn tasks_of_any_name_are_shown_and_acted_on() {
    let api = Api::open().await;
    for name in NAMES {
        let queue = format!("/queues/{}", encoded(name));
        let new = json!({
            "type": "mail:send",
            "payload": {"encoding": "json", "value": {"id": 1.50}},
            "options": {"id": name, "process_in_seconds": 60, "max_retry": 3, "headers": {"trace": "x"}},
        });
        let made = api.post(&format!("{queue}/tasks"), new).await;
        assert_eq!(
            (&made["id"], &made["state"], &made["max_retry"]),
            (&json!(name), &json!("scheduled"), &json!(3))
        );
        let path = format!("{queue}/tasks/{}", encoded(name));
        let shown = api.get(&path).await;
        assert_eq!(
            (&shown["type"], &shown["headers"]["trace"]),
            (&json!("mail:send"), &json!("x"))
        );
        api.change(
            Method::PUT,
            format!("{path}/payload"),
            Some(json!({"payload": {"encoding": "base64", "value": "/wA="}})),
        )
        .await;
        let edited = api.get(&path).await;
        assert_eq!(edited["payload"], json!({"encoding": "base64", "value": "/wA="}));
        let again = api
            .post(&format!("{path}/reschedule"), json!({"at": "2100-01-01T00:00:00Z"}))
            .await;
        assert_eq!(again["next_process_at"], "2100-01-01T00:00:00Z");
        let far = Some(json!({"at": "+10000-01-01T00:00:00Z"}));
        let far = api.ask("", Method::POST, &format!("{path}/reschedule"), far).await;
        far.problem(StatusCode::BAD_REQUEST);
        assert_eq!(far.json()["field"], "at");
        api.post(&format!("{path}/archive"), json!({})).await;
        assert_eq!(api.state(name, name).await, Some("archived"));
        let listed = api.get(&format!("{queue}/tasks?state=archived")).await;
        assert_eq!(listed["tasks"][0]["id"], name);
        api.post(&format!("{path}/run"), json!({})).await;
        assert_eq!(api.state(name, name).await, Some("pending"));
        let wrong = api
            .ask(
                "",
                Method::POST,
                &format!("{path}/cancel"),
                Some(json!({"then": "delete"})),
            )
            .await;
        assert_eq!(wrong.problem(StatusCode::CONFLICT), "wrong_state");
        let copy = api
            .post(
                &format!("{path}/copy"),
                json!({"type": "other", "options": {"id": "copy", "process_in_seconds": 9}}),
            )
            .await;
        assert_eq!(
            (&copy["type"], &copy["payload"]["value"], &copy["max_retry"]),
            (&json!("other"), &json!("/wA="), &json!(3))
        );
        api.change(Method::DELETE, path.clone(), None).await;
        let gone = api.ask("", Method::GET, &path, None).await;
        assert_eq!(gone.problem(StatusCode::NOT_FOUND), "task_not_found");
    }
}

#[tokio::test]
async fn a_json_payload_keeps_its_digits() {
    let api = Api::open().await;
    let body = r#"{"type":"t","payload":{"encoding":"json","value":{"id":12345678901234567890123,"b":1.10}},"options":{"id":"1"}}"#;
    let request = crate::support::request(Method::POST, "/api/v1/queues/q/tasks")
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap();
    let made = crate::support::send(&api.router, request).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let info = api.inspector.get_task_info("q", "1").await.unwrap();
    assert_eq!(info.payload, br#"{"id":12345678901234567890123,"b":1.10}"#[..]);
    // Readers of JSON would lose digits, so it is shown as a text.
    assert_eq!(made.json()["payload"]["encoding"], "text");
}

#[tokio::test]
async fn a_list_goes_on_behind_its_cursor_while_tasks_go() {
    let api = Api::open().await;
    for n in 0..7 {
        api.enqueue("q", &n.to_string(), b"x", TaskOptions::new()).await;
    }
    let ids = |list: &Value| -> Vec<String> {
        let tasks = list["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.get("/queues/q/tasks?state=pending&size=3").await;
    assert_eq!(ids(&first), ["0", "1", "2"]);
    // Pages would skip tasks now.
    for id in ["0", "1"] {
        api.change(Method::DELETE, format!("/queues/q/tasks/{id}"), None).await;
    }
    let cursor = encoded(first["next_cursor"].as_str().unwrap());
    let second = api
        .get(&format!("/queues/q/tasks?state=pending&size=10&cursor={cursor}"))
        .await;
    assert_eq!(
        (ids(&second), &second["next_cursor"]),
        (["3", "4", "5", "6"].map(str::to_owned).to_vec(), &json!(null))
    );
    let page = api.get("/queues/q/tasks?state=pending&page=2&size=2").await;
    assert_eq!(ids(&page), ["4", "5"]);
    // A cursor of another list.
    for path in [
        format!("/queues/q/tasks?state=archived&cursor={cursor}"),
        format!("/queues/p/tasks?state=pending&cursor={cursor}"),
        "/queues/q/tasks?state=pending&cursor=x".to_owned(),
        format!("/queues/q/tasks?state=pending&cursor={cursor}&page=1"),
        "/queues/q/tasks?state=aggregating".to_owned(),
        "/queues/q/tasks?state=pending&group=g".to_owned(),
        "/queues/q/tasks?state=pending&page=1&size=101".to_owned(),
        "/queues/q/tasks?state=pending&page=9223372036854775808".to_owned(),
        "/queues/q/tasks?state=pending&size=0".to_owned(),
        "/queues/q/tasks?state=nothing".to_owned(),
        "/queues/q/tasks".to_owned(),
    ] {
        let answer = api.ask("", Method::GET, &path, None).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), "invalid", "{path}");
    }
    api.enqueue("q", "in", b"", TaskOptions::new().group("g/1")).await;
    assert_eq!(
        ids(&api.get("/queues/q/tasks?state=aggregating&group=g%2F1").await),
        ["in"]
    );
}

#[tokio::test]
async fn the_life_of_a_task_is_told_in_its_order() {
    let api = Api::open().await;
    api.enqueue("q", "1", b"", later().deadline("2100-01-01T00:00:00Z".parse().unwrap()))
        .await;
    let life = api.get("/queues/q/tasks/1/life").await;
    let events: Vec<&str> = life["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!((events, &life["state"]), (vec!["due", "deadline"], &json!("scheduled")));
}

#[tokio::test]
async fn hidden_data_stay_hidden() {
    let api = Api::with(|web| web.authenticate(users()).redact(RedactionRule::new(["t"], Role::Admin))).await;
    api.enqueue("mail", "1", br#"{"card":4111}"#, later()).await;
    for (token, encoding) in [("viewer", "redacted"), ("operator", "redacted"), ("admin", "json")] {
        let shown = api.ask(token, Method::GET, "/queues/mail/tasks/1", None).await;
        assert_eq!(shown.json()["payload"]["encoding"], encoding, "{token}");
        let listed = api
            .ask(token, Method::GET, "/queues/mail/tasks?state=scheduled", None)
            .await;
        assert_eq!(listed.json()["tasks"][0]["payload"]["encoding"], encoding, "{token}");
        assert_eq!(listed.text.contains("4111"), token == "admin");
        // A query cannot find out what they hold.
        for (query, undecided) in [
            ("payload.card=4111", 1),
            ("not payload.card=4111", 1),
            ("payload~4111", 1),
            ("state=scheduled", 0),
        ] {
            let body = json!({"query": query});
            let found = api.ask(token, Method::POST, "/tasks/search", Some(body)).await.json();
            let expected = match (token, query) {
                ("admin", _) => (0, usize::from(!query.starts_with("not"))),
                (_, "state=scheduled") => (0, 1),
                _ => (undecided, 0),
            };
            let got = (
                found["undecided"].as_u64().unwrap(),
                found["tasks"].as_array().unwrap().len(),
            );
            assert_eq!(got, expected, "{token}: {query}");
            assert_eq!(found.to_string().contains("4111"), token == "admin" && expected.1 == 1);
        }
    }
    // A copy under another type would show them.
    let copy = json!({"type": "open", "options": {"id": "2"}});
    let refused = api
        .ask(
            "operator",
            Method::POST,
            "/queues/mail/tasks/1/copy",
            Some(copy.clone()),
        )
        .await;
    assert_eq!(refused.problem(StatusCode::FORBIDDEN), "forbidden");
    assert_eq!(api.state("mail", "2").await, None);
    let own = json!({"type": "open", "payload": {"encoding": "text", "value": "x"}});
    assert_eq!(
        api.ask("operator", Method::POST, "/queues/mail/tasks/1/copy", Some(own))
            .await
            .status,
        StatusCode::CREATED
    );
    assert_eq!(
        api.ask("operator", Method::POST, "/queues/mail/tasks/1/copy", Some(json!({})))
            .await
            .status,
        StatusCode::CREATED
    );
    assert_eq!(
        api.ask("admin", Method::POST, "/queues/mail/tasks/1/copy", Some(copy))
            .await
            .status,
        StatusCode::CREATED
    );
    // Another queue needs its role.
    let elsewhere = json!({"queue": "default"});
    api.ask("mail", Method::POST, "/queues/mail/tasks/1/copy", Some(elsewhere))
        .await
        .problem(StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn wrong_tasks_are_refused_with_their_field() {
    let api = Api::open().await;
    for (body, field) in [
        (json!({}), "body"),
        (json!({"type": ""}), ""),
        (json!({"type": "t", "nothing": 1}), "body"),
        (
            json!({"type": "t", "payload": {"encoding": "text", "value": 1}}),
            "payload.value",
        ),
        (
            json!({"type": "t", "payload": {"encoding": "base64", "value": "*"}}),
            "payload.value",
        ),
        (json!({"type": "t", "options": {"max_retry": -1}}), "body"),
        (json!({"type": "t", "options": {"timeout_seconds": u64::MAX}}), ""),
        (json!({"type": "t", "options": {"process_in_seconds": u64::MAX}}), ""),
        (json!({"type": "t", "options": {"retention_seconds": u64::MAX}}), ""),
        (
            json!({"type": "t", "options": {"process_in_seconds": 1, "process_at": "2100-01-01T00:00:00Z"}}),
            "process_at",
        ),
        (json!({"type": "t", "options": {"id": " "}}), ""),
    ] {
        let answer = api.ask("", Method::POST, "/queues/q/tasks", Some(body.clone())).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), "invalid", "{body}");
        if !field.is_empty() {
            assert_eq!(answer.json()["field"], field, "{body}");
        }
    }
    assert_eq!(api.get("/queues").await["total"], 0);
    let twice = json!({"type": "t", "options": {"id": "1"}});
    api.post("/queues/q/tasks", twice.clone()).await;
    let answer = api.ask("", Method::POST, "/queues/q/tasks", Some(twice)).await;
    assert_eq!(answer.problem(StatusCode::CONFLICT), "id_conflict");
}
