//! Acts on many tasks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use asynq::TaskOptions;
use asynq_web::access::{AuthError, Authenticate, Credentials, Role, User};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, ended, later, until};
use crate::support::users;

#[tokio::test]
async fn an_act_by_query_is_previewed_runs_and_is_recorded() {
    let api = Api::with_users().await;
    for n in 0..30 {
        api.enqueue("mail", &n.to_string(), format!(r#"{{"n":{n}}}"#).as_bytes(), later())
            .await;
    }
    api.enqueue("default", "1", br#"{"n":1}"#, later()).await;
    let query = "payload.n<20";
    let preview = json!({"query": query, "act": "delete"});
    // Only in the queues of which the user is an operator.
    let counted = api
        .ask("mail", Method::POST, "/acts/preview", Some(preview))
        .await
        .json();
    assert_eq!((&counted["tasks"], &counted["complete"]), (&json!(20), &json!(true)));
    let refused = api
        .ask(
            "mail",
            Method::POST,
            "/acts",
            Some(json!({"query": query, "act": "delete"})),
        )
        .await;
    refused.problem(StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["field"], "confirm");
    let start = json!({"query": query, "act": "delete", "confirm": 20, "reason": "ticket 7"});
    let started = api.ask("mail", Method::POST, "/acts", Some(start)).await;
    assert_eq!(started.status, StatusCode::ACCEPTED, "{started:?}");
    let record = ended(&api, "mail", &started.json()).await;
    assert_eq!(
        (&record["state"], &record["done"], &record["found"]),
        (&json!("limit_reached"), &json!(20), &json!(20))
    );
    assert_eq!(api.inspector.get_queue_stats("mail").await.unwrap().scheduled, 10);
    assert_eq!(api.state("default", "1").await, Some("scheduled"));
    assert_eq!(
        api.acts().await,
        ["ticket 7"; 2].map(|reason| ("delete_by_query".to_owned(), reason.to_owned()))
    );
    // Others do not see it, but for an admin.
    let path = format!("/acts/{}", record["id"].as_str().unwrap());
    api.ask("operator", Method::GET, &path, None)
        .await
        .problem(StatusCode::NOT_FOUND);
    api.ask("operator", Method::POST, &format!("{path}/stop"), None)
        .await
        .problem(StatusCode::NOT_FOUND);
    assert_eq!(api.ask("admin", Method::GET, &path, None).await.json()["user"], "mail");
    let listed = async |token: &str| {
        let list = api.ask(token, Method::GET, "/acts", None).await.json();
        list["acts"].as_array().unwrap().len()
    };
    assert_eq!(
        (listed("mail").await, listed("operator").await, listed("admin").await),
        (1, 0, 1)
    );
}

#[tokio::test]
async fn an_act_never_exceeds_what_was_confirmed() {
    let api = Api::open().await;
    for n in 0..10 {
        api.enqueue("q", &n.to_string(), b"", later()).await;
    }
    let started = api
        .post("/acts", json!({"query": "queue=q", "act": "delete", "confirm": 4}))
        .await;
    let record = ended(&api, "", &started).await;
    assert_eq!(
        (&record["state"], &record["done"]),
        (&json!("limit_reached"), &json!(4))
    );
    assert_eq!(api.inspector.get_queue_stats("q").await.unwrap().scheduled, 6);
    let none = api
        .post("/acts", json!({"query": "queue=q", "act": "delete", "confirm": 0}))
        .await;
    assert_eq!(ended(&api, "", &none).await["done"], 0);
    let all = api.post("/acts", json!({"query": "queue=q", "act": "archive"})).await;
    let all = ended(&api, "", &all).await;
    assert_eq!((&all["state"], &all["done"]), (&json!("complete"), &json!(6)));
}

#[tokio::test]
async fn an_act_that_is_stopped_tells_how_much_it_has_done() {
    let api = Api::open().await;
    for n in 0..50 {
        api.enqueue("q", &n.to_string(), b"", later()).await;
    }
    let act = api
        .post("/acts", json!({"query": "queue=q", "act": "run", "rate": 1}))
        .await;
    let path = format!("/acts/{}", act["id"].as_str().unwrap());
    until(async || match api.get(&path).await {
        record if record["done"].as_u64() > Some(0) => Ok(()),
        record => Err(record.to_string()),
    })
    .await;
    api.post(&format!("{path}/stop"), json!({"reason": "too many"})).await;
    let record = ended(&api, "", &act).await;
    assert!(
        api.acts()
            .await
            .contains(&("stop_act".to_owned(), "too many".to_owned()))
    );
    assert_eq!(record["state"], "stopped");
    let done = record["done"].as_u64().unwrap();
    assert!((1..50).contains(&done), "{record}");
    assert_eq!(api.inspector.get_queue_stats("q").await.unwrap().pending, done);
    let last = api
        .inspector
        .audit_trail(asynq::inspect::Cursor::default(), 1)
        .await
        .unwrap()
        .items
        .remove(0);
    assert_eq!(last.changed, Some(done));
    assert!(last.detail.unwrap().starts_with("stopped"));
}

#[tokio::test]
async fn who_stops_an_act_of_another_user_is_recorded() {
    let api = Api::with(|web| web.authenticate(users()).require_reason()).await;
    for n in 0..50 {
        api.enqueue("q", &n.to_string(), b"", later()).await;
    }
    let body = json!({"query": "queue=q", "act": "run", "rate": 1, "reason": "late"});
    let act = api.ask("operator", Method::POST, "/acts", Some(body)).await.json();
    let path = format!("/acts/{}/stop", act["id"].as_str().unwrap());
    let refused = api.ask("admin", Method::POST, &path, None).await;
    refused.problem(StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["field"], "reason");
    let stopped = api
        .ask("admin", Method::POST, &path, Some(json!({"reason": "too many"})))
        .await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    assert_eq!(ended(&api, "operator", &act).await["state"], "stopped");
    let of_admin = |acts: &Vec<(String, String)>| {
        let stops = acts.iter().filter(|(act, _)| act == "stop_act");
        stops.map(|(_, reason)| reason.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of_admin(&api.acts().await), ["too many"]);
    // Nothing is left to stop.
    let again = api.ask("admin", Method::POST, &path, None).await;
    assert_eq!(again.status, StatusCode::ACCEPTED);
    assert_eq!(of_admin(&api.acts().await).len(), 1);
}

/// Knows a user until they are dismissed.
struct Staff(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Authenticate for Staff {
    async fn recognize(&self, _: &Credentials<'_>) -> Result<Option<User>, AuthError> {
        match self.0.load(Ordering::Relaxed) {
            true => Ok(Some(User::new("ann", Role::Operator))),
            false => Err(AuthError::Refused),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_act_ends_with_the_rights_of_its_user() {
    let is_there = Arc::new(AtomicBool::new(true));
    let api = Api::with(|web| web.authenticate(Staff(Arc::clone(&is_there)))).await;
    let mut names = Vec::new();
    for n in 0..50 {
        api.enqueue("q", &n.to_string(), b"", later()).await;
        names.push(json!({"queue": "q", "id": n.to_string()}));
    }
    let by_query = json!({"query": "queue=q", "act": "run", "rate": 1});
    let on_list = json!({"tasks": names, "act": "archive", "rate": 1});
    for body in [by_query, on_list] {
        is_there.store(true, Ordering::Relaxed);
        let act = api.post("/acts", body).await;
        let path = format!("/acts/{}", act["id"].as_str().unwrap());
        until(async || match api.get(&path).await {
            record if record["done"].as_u64() > Some(0) => Ok(()),
            record => Err(record.to_string()),
        })
        .await;
        is_there.store(false, Ordering::Relaxed);
        // Long enough for some steps, and too short for all tasks.
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        is_there.store(true, Ordering::Relaxed);
        let record = api.get(&path).await;
        assert_eq!(record["state"], "forbidden");
        assert!((1..50).contains(&record["done"].as_u64().unwrap()), "{record}");
    }
}

#[tokio::test]
async fn a_list_of_tasks_is_acted_on_one_by_one() {
    let api = Api::with_users().await;
    for id in ["1", "2", "3"] {
        api.enqueue("mail", id, b"", later()).await;
    }
    let names = |ids: &[&str]| -> Value { ids.iter().map(|id| json!({"queue": "mail", "id": id})).collect() };
    let body = json!({"act": "archive", "tasks": names(&["1", "none", "3"])});
    let started = api.ask("mail", Method::POST, "/acts", Some(body)).await.json();
    let record = ended(&api, "mail", &started).await;
    assert_eq!(
        (&record["state"], &record["done"], &record["refused"]),
        (&json!("complete"), &json!(2), &json!(1))
    );
    assert_eq!(record["refusals"][0]["id"], "none");
    assert_eq!(api.state("mail", "1").await, Some("archived"));
    assert_eq!(api.state("mail", "2").await, Some("scheduled"));
    let other = json!({"act": "archive", "tasks": [{"queue": "default", "id": "1"}]});
    api.ask("mail", Method::POST, "/acts", Some(other))
        .await
        .problem(StatusCode::FORBIDDEN);
    for body in [
        json!({"act": "run"}),
        json!({"act": "run", "tasks": []}),
        json!({"act": "run", "tasks": names(&vec!["1"; 1001])}),
        json!({"act": "run", "tasks": names(&["1"]), "query": "state=retry"}),
        json!({"act": "run", "query": "state=retry", "rate": 0}),
        json!({"act": "run", "query": "state=retry", "rate": u64::MAX}),
        json!({"act": "run", "query": "state=retry", "limit": 0}),
        json!({"act": "burn", "query": "state=retry"}),
    ] {
        let answer = api.ask("mail", Method::POST, "/acts", Some(body.clone())).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), "invalid", "{body}");
    }
}

#[tokio::test]
async fn a_user_holds_two_slots_and_keeps_twenty_acts() {
    let api = Api::with_users().await;
    for n in 0..50 {
        api.enqueue("mail", &n.to_string(), b"", later()).await;
    }
    let slow = json!({"query": "queue=mail", "act": "archive", "rate": 1});
    let start = async |token: &str| api.ask(token, Method::POST, "/acts", Some(slow.clone())).await;
    let state = async |token: &str, act: &Value| {
        let path = format!("/acts/{}", act["id"].as_str().unwrap());
        api.ask(token, Method::GET, &path, None).await.json()["state"].clone()
    };
    let mut acts = Vec::new();
    for _ in 0..20 {
        let act = start("mail").await;
        assert_eq!(act.status, StatusCode::ACCEPTED, "{act:?}");
        acts.push(act.json());
    }
    let refused = start("mail").await;
    assert_eq!(refused.problem(StatusCode::TOO_MANY_REQUESTS), "too_many_requests");
    assert!(refused.text.contains("20 acts of this user"), "{}", refused.text);
    until(async || match state("mail", &acts[1]).await {
        state if state == "running" => Ok(()),
        state => Err(state.to_string()),
    })
    .await;
    // Another user has slots left, though these acts came first.
    let other = start("operator").await.json();
    until(async || match state("operator", &other).await {
        state if state == "running" => Ok(()),
        state => Err(state.to_string()),
    })
    .await;
    assert_eq!(state("mail", &acts[2]).await, "waiting");
    // The end of one makes room for another.
    let path = format!("/acts/{}/stop", acts[0]["id"].as_str().unwrap());
    api.ask("mail", Method::POST, &path, None).await;
    ended(&api, "mail", &acts[0]).await;
    assert_eq!(start("mail").await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_request_that_comes_again_starts_no_second_act() {
    let api = Api::with_users().await;
    for n in 0..50 {
        api.enqueue("mail", &n.to_string(), b"", later()).await;
    }
    let start = async |token: &str, key: &str, rate: u32| {
        let body = json!({"query": "queue=mail", "act": "archive", "rate": rate, "idempotency_key": key});
        api.ask(token, Method::POST, "/acts", Some(body)).await
    };
    let first = start("mail", "a", 1).await.json();
    let again = start("mail", "a", 1).await;
    assert_eq!(
        (again.status, &again.json()["id"]),
        (StatusCode::ACCEPTED, &first["id"])
    );
    assert_eq!(start("mail", "a", 2).await.problem(StatusCode::CONFLICT), "key_reused");
    assert_ne!(start("mail", "b", 1).await.json()["id"], first["id"]);
    // A key is that of one user.
    assert_ne!(start("operator", "a", 1).await.json()["id"], first["id"]);
    for key in [String::new(), "x".repeat(129)] {
        let refused = start("mail", &key, 1).await;
        refused.problem(StatusCode::BAD_REQUEST);
        assert_eq!(refused.json()["field"], "idempotency_key");
    }
    let list = api.ask("mail", Method::GET, "/acts", None).await.json();
    assert_eq!(list["acts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_end_of_the_server_stops_acts_and_waits_for_them() {
    let mut background = None;
    let api = Api::with(|web| {
        background = Some(web.background());
        web
    })
    .await;
    for n in 0..50 {
        api.enqueue("q", &n.to_string(), b"", TaskOptions::new()).await;
    }
    // Two run, and one waits.
    let mut acts = Vec::new();
    for _ in 0..3 {
        acts.push(
            api.post("/acts", json!({"query": "queue=q", "act": "archive", "rate": 1}))
                .await,
        );
    }
    until(async || match api.get("/acts").await {
        list if list["acts"][2]["done"].as_u64() > Some(0) => Ok(()),
        list => Err(list.to_string()),
    })
    .await;
    assert_eq!(api.get("/acts").await["acts"][0]["state"], "waiting");
    background.unwrap().stop().await;
    for act in api.get("/acts").await["acts"].as_array().unwrap() {
        assert_eq!(act["state"], "stopped", "{act}");
    }
    let ends = api.acts().await;
    assert_eq!(
        ends.iter().filter(|(act, _)| act == "archive_by_query").count() % 2,
        0,
        "{ends:?}"
    );
    let refused = api
        .ask(
            "",
            Method::POST,
            "/acts",
            Some(json!({"query": "queue=q", "act": "archive"})),
        )
        .await;
    assert_eq!(refused.problem(StatusCode::SERVICE_UNAVAILABLE), "unavailable");
}
