//! Findings, the doctor, the audit trail, servers and trees.

use std::time::Duration;

use asynq::{AsynqSystem, ServerConfig, Task, memory::MemoryStore};
use asynq_web::access::RedactionRule;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Api, encoded, later, until};
use crate::support::{Site, users};

#[tokio::test]
async fn findings_are_those_of_the_queues_of_a_user() {
    let api = Api::with_users().await;
    for queue in ["mail", "default"] {
        api.enqueue(queue, "1", b"", later()).await;
        api.inspector.pause_queue(queue).await.unwrap();
    }
    // The clock of the storage cannot be moved from here, so the counts are of no finding.
    let all = api.ask("admin", Method::GET, "/findings", None).await.json();
    assert_eq!((&all["queues"], &all["queues_left_out"]), (&json!(2), &json!(0)));
    assert!(all["findings"].is_array());
    let own = api
        .ask("mail", Method::GET, "/findings?queue=mail&severity=critical", None)
        .await;
    assert_eq!(own.json()["findings"], json!([]));
    api.ask("mail", Method::GET, "/findings?queue=default", None)
        .await
        .problem(StatusCode::FORBIDDEN);
    api.ask("mail", Method::GET, "/findings?severity=loud", None)
        .await
        .problem(StatusCode::BAD_REQUEST);
}

/// Makes two queues with a task each whose data are gone.
async fn damaged() -> (Api, MemoryStore) {
    let site = Site::with_users().await;
    let store = site.storage.clone();
    let api = Api::from(site);
    for queue in ["default", "mail"] {
        api.enqueue(queue, "whole", b"", later()).await;
        api.enqueue(queue, "gone", b"", later()).await;
        store.plant(&format!("asynq:{{{queue}}}:t:gone"), None).unwrap();
    }
    (api, store)
}

#[tokio::test]
async fn the_doctor_checks_what_a_user_sees_and_an_admin_repairs() {
    let (api, _store) = damaged().await;
    let queues = |checked: &Value| -> Vec<String> {
        let breaches = checked["breaches"].as_array().unwrap().iter();
        breaches
            .map(|breach| breach["queue"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = api.ask("viewer", Method::POST, "/doctor/check", None).await.json();
    assert_eq!(
        (queues(&all), &all["complete"]),
        (vec!["default".to_owned(), "mail".to_owned()], &json!(true))
    );
    assert_eq!(all["breaches"][0]["result"], "can_be_repaired");
    let own = api
        .ask("mail", Method::POST, "/doctor/check", Some(json!({})))
        .await
        .json();
    assert_eq!((queues(&own), &own["queues"]), (vec!["mail".to_owned()], &json!(1)));
    let one = api
        .ask(
            "viewer",
            Method::POST,
            "/doctor/check",
            Some(json!({"queue": "default"})),
        )
        .await
        .json();
    assert_eq!(queues(&one), ["default"]);
    api.ask("mail", Method::POST, "/doctor/check", Some(json!({"queue": "default"})))
        .await
        .problem(StatusCode::FORBIDDEN);
    api.ask("viewer", Method::POST, "/doctor/check", Some(json!({"queue": "none"})))
        .await
        .problem(StatusCode::NOT_FOUND);
    for body in [
        json!({"place": "x"}),
        json!({"place": "e30", "queue": "mail"}),
        json!({"x": 1}),
    ] {
        api.ask("viewer", Method::POST, "/doctor/check", Some(body))
            .await
            .problem(StatusCode::BAD_REQUEST);
    }
    api.ask("operator", Method::POST, "/doctor/fix", None)
        .await
        .problem(StatusCode::FORBIDDEN);
    let fixed = api
        .ask(
            "admin",
            Method::POST,
            "/doctor/fix",
            Some(json!({"reason": "after the outage"})),
        )
        .await
        .json();
    assert_eq!(
        (queues(&fixed).len(), &fixed["breaches"][0]["result"]),
        (2, &json!("repaired"))
    );
    assert_eq!(
        api.acts().await,
        ["doctor_fix"; 2].map(|act| (act.to_owned(), "after the outage".to_owned()))
    );
    let after = api.ask("viewer", Method::POST, "/doctor/check", None).await.json();
    assert_eq!(after["breaches"], json!([]));
}

#[tokio::test]
async fn a_long_check_goes_on_in_another_request() {
    let (api, store) = damaged().await;
    for n in 0..150 {
        let id = format!("gone{n}");
        api.enqueue("default", &id, b"", later()).await;
        store.plant(&format!("asynq:{{default}}:t:{id}"), None).unwrap();
    }
    let (mut body, mut breaches, mut parts) = (json!({}), 0, 0);
    loop {
        let checked = api
            .ask("viewer", Method::POST, "/doctor/check", Some(body))
            .await
            .json();
        breaches += checked["breaches"].as_array().unwrap().len();
        parts += 1;
        assert_eq!(checked["complete"], checked["next_place"].is_null());
        match checked["next_place"].as_str() {
            Some(place) => body = json!({"place": place}),
            None => break,
        }
    }
    assert_eq!(breaches, 152);
    assert!(parts > 1);
    // A place of a queue that is not theirs: {"q":"default","c":null,"all":true}.
    let place = json!({"place": "eyJxIjoiZGVmYXVsdCIsImMiOm51bGwsImFsbCI6dHJ1ZX0"});
    api.ask("mail", Method::POST, "/doctor/check", Some(place.clone()))
        .await
        .problem(StatusCode::FORBIDDEN);
    let own = api.ask("viewer", Method::POST, "/doctor/check", Some(place)).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn the_audit_trail_is_read_in_parts_and_shows_each_user_their_queues() {
    let api = Api::with_users().await;
    for queue in ["mail", "default"] {
        api.enqueue(queue, "1", b"", later()).await;
    }
    for n in 0..5 {
        for (queue, act) in [("mail", "pause"), ("default", "pause"), ("mail", "resume")] {
            let body = json!({"reason": format!("{act} {n}")});
            let path = format!("/queues/{queue}/{act}");
            assert_eq!(
                api.ask("operator", Method::POST, &path, Some(body)).await.status,
                StatusCode::OK
            );
        }
    }
    let read = async |token: &str, filter: &str| {
        let (mut path, mut acts) = (format!("/audit?limit=3{filter}"), Vec::new());
        loop {
            let part = api.ask(token, Method::GET, &path, None).await.json();
            let entries = part["acts"].as_array().unwrap().clone();
            assert!(entries.len() <= 3);
            acts.extend(entries);
            match part["next_cursor"].as_str() {
                Some(cursor) => path = format!("/audit?limit=3{filter}&cursor={}", encoded(cursor)),
                None => return acts,
            }
        }
    };
    let all = read("viewer", "").await;
    assert_eq!(all.len(), 15);
    assert_eq!(
        (&all[0]["act"], &all[0]["actor"], &all[0]["reason"]),
        (&json!("unpause_queue"), &json!("operator"), &json!("resume 4"))
    );
    let own = read("mail", "").await;
    assert_eq!(own.len(), 10);
    assert!(own.iter().all(|act| act["queue"] == "mail"));
    assert_eq!(read("viewer", "&queue=default").await.len(), 5);
    assert_eq!(read("viewer", "&actor=nobody").await.len(), 0);
    for cursor in ["x", "-1", "1-", "1-2-3", "99999999999999999999"] {
        let answer = api
            .ask("viewer", Method::GET, &format!("/audit?cursor={cursor}"), None)
            .await;
        answer.problem(StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["field"], "cursor", "{cursor}");
    }
}

#[tokio::test]
async fn servers_and_trees_are_shown() {
    let site = Site::with(|web| {
        web.authenticate(users())
            .redact(RedactionRule::from_everybody(["secret"]))
    })
    .await;
    let system = AsynqSystem::builder(site.storage.clone())
        .config(ServerConfig::new().queues([("mail", 2), ("default", 1)]))
        .handler(|_: Task| std::future::pending())
        .spawn()
        .await
        .unwrap();
    let api = Api::from(site);
    for queue in ["mail", "default"] {
        let task = Task::new("secret", b"4111").unwrap().with_queue(queue);
        api.client.enqueue(task).await.unwrap();
    }
    let servers = until(async || {
        let servers = api.ask("viewer", Method::GET, "/servers", None).await.json();
        match servers["servers"][0]["workers"].as_array().map(Vec::len) {
            Some(2) => Ok(servers),
            _ => Err(servers.to_string()),
        }
    })
    .await;
    assert_eq!(servers["servers"][0]["queues"], json!({"default": 1, "mail": 2}));
    assert!(!servers.to_string().contains("4111"));
    let own = api.ask("mail", Method::GET, "/servers", None).await.json();
    assert_eq!(own["servers"][0]["queues"], json!({"mail": 2}));
    assert_eq!(own["servers"][0]["workers"].as_array().unwrap().len(), 1);
    let trees = until(
        async || match api.ask("viewer", Method::GET, "/trees", None).await.json() {
            trees if trees["trees"][0]["tree"]["children"].is_array() => Ok(trees),
            trees => Err(trees.to_string()),
        },
    )
    .await;
    assert_eq!(trees["trees"][0]["server_id"], servers["servers"][0]["id"]);
    for task in api
        .inspector
        .list_tasks("mail", asynq::TaskState::Active, 1, 10)
        .await
        .unwrap()
    {
        let path = format!("/queues/mail/tasks/{}/cancel", task.id);
        let answer = api
            .ask("mail", Method::POST, &path, Some(json!({"then": "archive"})))
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (StatusCode::ACCEPTED, json!({"kept": true}))
        );
        until(async || match api.state("mail", task.id.as_str()).await {
            Some("archived") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let life = api
            .ask(
                "viewer",
                Method::GET,
                &format!("/queues/mail/tasks/{}/life", task.id),
                None,
            )
            .await
            .json();
        assert_eq!(
            (&life["events"][0]["event"], &life["events"][0]["run"]["outcome"]),
            (&json!("run"), &json!("archived")),
            "{life}"
        );
    }
    system.shutdown_within(Duration::from_secs(1)).await;
}
