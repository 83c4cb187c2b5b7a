//! The API of asynqmon. `interop` compares it with the real one; here is what only ours has: names of any kind, roles, redaction,
//! read-only mode.

use asynq::{Task, TaskOptions, TaskState, inspect::Cursor};
use asynq_web::access::{RedactionRule, Role};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::{Value, json};

use crate::support::{Answer, Site, request, users};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Enqueues a task of the type `t`.
async fn enqueue(site: &Site, queue: &str, id: &str, options: TaskOptions) {
    let task = Task::new("t", b"payload").unwrap();
    let options = options.queue(queue).task_id(id);
    site.client.enqueue_with(task, options).await.unwrap();
}

async fn state(site: &Site, queue: &str, id: &str) -> Option<TaskState> {
    let info = site.inspector.get_task_info(queue, id).await;
    info.ok().map(|info| info.state)
}

/// Checks that this is an error in plain text, and returns the text.
#[track_caller]
fn plain(answer: &Answer, status: StatusCode) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    answer.text.strip_suffix('\n').unwrap().to_owned()
}

fn encoded(name: &str) -> String {
    let byte = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() || *byte == b':' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.as_bytes().iter().map(byte).collect()
}

/// Names with characters that mean something in a path, or to this API.
const NAMES: [&str; 12] = [
    "plain",
    "a:b",
    "a/b",
    "x:pause",
    "x:run",
    "~pause",
    "..",
    "größe 100%",
    "%2F",
    "a?b#c",
    "\u{1f980}\0",
    "delete_all",
];

#[tokio::test]
async fn queues_and_tasks_of_any_name_are_reached() {
    let site = Site::open().await;
    let send = async |method: Method, path: &str| {
        let answer = site.send(request(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}: {answer:?}");
    };
    for name in NAMES {
        enqueue(&site, name, name, TaskOptions::new().process_in(HOUR)).await;
        let path = format!("/api/queues/{}", encoded(name));
        assert_eq!(site.get(&path).await.json()["current"]["queue"], name);
        send(Method::POST, &format!("{path}:pause")).await;
        assert!(site.inspector.get_queue_stats(name).await.unwrap().paused, "{name}");
        send(Method::POST, &format!("{path}:resume")).await;
        assert!(!site.inspector.get_queue_stats(name).await.unwrap().paused, "{name}");
        let tasks = site.get(&format!("{path}/scheduled_tasks")).await.json();
        assert_eq!(
            (&tasks["tasks"][0]["id"], &tasks["tasks"][0]["queue"]),
            (&json!(name), &json!(name))
        );
        let task = format!("{path}/scheduled_tasks/{}", encoded(name));
        send(Method::POST, &format!("{task}:run")).await;
        assert_eq!(state(&site, name, name).await, Some(TaskState::Pending));
        send(Method::POST, &format!("{task}:archive")).await;
        assert_eq!(state(&site, name, name).await, Some(TaskState::Archived));
        send(Method::DELETE, &task).await;
        assert_eq!(state(&site, name, name).await, None);
        enqueue(&site, name, name, TaskOptions::new().group(name)).await;
        let group = format!("{path}/groups/{}/aggregating_tasks", encoded(name));
        assert_eq!(
            site.get(&group).await.json()["groups"],
            json!([{"group": name, "size": 1}])
        );
        send(Method::POST, &format!("{group}/{}:run", encoded(name))).await;
        send(Method::DELETE, &format!("{path}/pending_tasks/{}", encoded(name))).await;
        send(Method::DELETE, &path).await;
    }
    assert_eq!(site.get("/api/queues").await.json(), json!({"queues": []}));
}

#[tokio::test]
async fn no_name_is_taken_for_a_verb() {
    let site = Site::open().await;
    // The segment that a verb becomes before the router sees the path.
    for id in ["~run", "x:run", "~delete_all"] {
        enqueue(&site, "q", id, TaskOptions::new().process_in(HOUR)).await;
    }
    enqueue(&site, "q:pause", "x", TaskOptions::new()).await;
    for (method, path, status) in [
        (
            Method::POST,
            "/api/queues/q/scheduled_tasks/x/~run",
            StatusCode::NOT_FOUND,
        ),
        (Method::POST, "/api/queues/q/~pause", StatusCode::NOT_FOUND),
        (Method::POST, "/api/queues/q%3Apause", StatusCode::METHOD_NOT_ALLOWED),
        (
            Method::POST,
            "/api/queues/q/pending_tasks/x:run",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (Method::GET, "/api/queues/q:pause", StatusCode::OK),
        (Method::GET, "/api/queues/q/tasks/x:run", StatusCode::OK),
        (
            Method::DELETE,
            "/api/queues/q/scheduled_tasks/x:run",
            StatusCode::NO_CONTENT,
        ),
        (
            Method::DELETE,
            "/api/queues/q/scheduled_tasks/~delete_all",
            StatusCode::NO_CONTENT,
        ),
        (
            Method::POST,
            "/api/queues/q/scheduled_tasks/~run:run",
            StatusCode::NO_CONTENT,
        ),
    ] {
        let answer = site.send(request(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    assert_eq!(state(&site, "q", "~run").await, Some(TaskState::Pending));
    assert_eq!(state(&site, "q", "x:run").await, None);
    assert_eq!(state(&site, "q", "~delete_all").await, None);
    assert!(!site.inspector.get_queue_stats("q").await.unwrap().paused);
}

#[tokio::test]
async fn refusals_of_the_guard_are_plain_text() {
    let site = Site::with_users().await;
    let nobody = site.get("/api/queues").await;
    assert_eq!(plain(&nobody, StatusCode::UNAUTHORIZED), "sign in, or send a token");
    assert_eq!(nobody.headers[header::WWW_AUTHENTICATE], "Bearer");
    let viewer = site.ask("viewer", Method::POST, "/api/queues/mail:pause", None).await;
    assert_eq!(
        plain(&viewer, StatusCode::FORBIDDEN),
        "this needs the role operator for queue \"mail\""
    );
    let operator = site.ask("operator", Method::DELETE, "/api/queues/mail", None).await;
    plain(&operator, StatusCode::FORBIDDEN);
    let nothing = site.get("/api/nothing").await;
    assert_eq!(plain(&nothing, StatusCode::NOT_FOUND), "404 page not found");
    let name = site.ask("admin", Method::GET, "/api/queues/%ff", None).await;
    plain(&name, StatusCode::BAD_REQUEST);

    let site = Site::with(|web| web.read_only()).await;
    for (method, path) in [
        (Method::POST, "/api/queues/q:pause"),
        (Method::DELETE, "/api/queues/q"),
        (Method::DELETE, "/api/queues/q/retry_tasks:delete_all"),
    ] {
        let answer = site
            .send(request(method.clone(), path).body(Body::empty()).unwrap())
            .await;
        assert_eq!(
            plain(&answer, StatusCode::METHOD_NOT_ALLOWED),
            format!("API Server is running in read-only mode: {method} request is not allowed")
        );
    }
    assert_eq!(site.get("/api/queues").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_user_of_some_queues_learns_nothing_of_others() {
    let site = Site::with_users().await;
    for queue in ["mail", "mail:low", "secret"] {
        enqueue(&site, queue, "id", TaskOptions::new().group("g")).await;
    }
    let get = async |path: &str| site.ask("mail", Method::GET, path, None).await;
    let queues = get("/api/queues").await.json();
    let names: Vec<_> = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["queue"])
        .collect();
    assert_eq!(names, ["mail", "mail:low"]);
    let stats = get("/api/queue_stats").await.json();
    assert_eq!(
        stats["stats"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["mail", "mail:low"]
    );
    // Whether a queue exists is not told either.
    for path in [
        "",
        "/groups",
        "/tasks/id",
        "/pending_tasks",
        "/groups/g/aggregating_tasks",
    ] {
        let (there, nowhere) = (
            get(&format!("/api/queues/secret{path}")).await,
            get(&format!("/api/queues/nowhere{path}")).await,
        );
        assert_eq!(
            plain(&there, StatusCode::FORBIDDEN).replace("secret", "nowhere"),
            plain(&nowhere, StatusCode::FORBIDDEN)
        );
    }
    for path in [
        "/api/servers",
        "/api/scheduler_entries",
        "/api/scheduler_entries/x/enqueue_events",
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text.contains("secret"), "{answer:?}");
    }
    // The guard lets them pass, and no server with metrics is set.
    let metrics = get("/api/metrics?queues=secret").await;
    assert!(metrics.text.contains("no Prometheus server"), "{metrics:?}");
}

#[tokio::test]
async fn data_are_hidden_and_long_ones_cut() {
    let site = Site::with(|web| {
        web.authenticate(users())
            .redact(RedactionRule::new(["t"], Role::Admin))
            .max_payload_length(3)
    })
    .await;
    enqueue(&site, "mail", "id", TaskOptions::new()).await;
    for (user, payload) in [("viewer", "(redacted)"), ("operator", "(redacted)"), ("admin", "pay…")] {
        let task = site
            .ask(user, Method::GET, "/api/queues/mail/tasks/id", None)
            .await
            .json();
        assert_eq!(task["payload"], payload);
        let tasks = site
            .ask(user, Method::GET, "/api/queues/mail/pending_tasks", None)
            .await
            .json();
        assert_eq!(tasks["tasks"][0]["payload"], payload);
    }
}

#[tokio::test]
async fn acts_are_in_the_audit_trail_with_the_name_of_the_user() {
    let site = Site::with(|web| web.authenticate(users()).require_reason()).await;
    enqueue(&site, "mail", "id", TaskOptions::new()).await;
    let path = "/api/queues/mail/pending_tasks:batch_archive";
    let body = || Some(json!({"task_ids": ["id", "nobody"]}));
    let refused = site.ask("mail", Method::POST, path, body()).await;
    assert!(
        plain(&refused, StatusCode::BAD_REQUEST).contains("reason"),
        "{refused:?}"
    );
    let done = site
        .ask("mail", Method::POST, &format!("{path}?reason=a%20test"), body())
        .await;
    assert_eq!(done.json(), json!({"archived_ids": ["id"], "error_ids": ["nobody"]}));
    let trail = site.inspector.audit_trail(Cursor::default(), 10).await.unwrap();
    let acts: Vec<_> = trail
        .items
        .iter()
        .map(|entry| (entry.act.as_str(), entry.actor.clone().unwrap()))
        .collect();
    let [(act, actor)] = acts.as_slice() else {
        panic!("{acts:?}");
    };
    assert_eq!(
        (*act, actor.name.as_str(), actor.reason.as_str()),
        ("archive_task", "mail", "a test")
    );
}

#[tokio::test]
async fn bodies_are_bounded() {
    let site = Site::open().await;
    let send = async |body: String| {
        let request = request(Method::POST, "/api/queues/q/retry_tasks:batch_run").body(Body::from(body));
        site.send(request.unwrap()).await
    };
    let ids = |count: usize| json!({"task_ids": vec!["x"; count]}).to_string();
    for body in [
        ids(10_001),
        format!("{{\"task_ids\":[]{}}}", " ".repeat(1_000_000)),
        "{".repeat(500_000),
    ] {
        plain(&send(body).await, StatusCode::BAD_REQUEST);
    }
    let most = send(ids(10_000)).await.json();
    assert_eq!(most["error_ids"].as_array().map(Vec::len), Some(10_000));
}

#[tokio::test]
async fn only_the_run_in_the_named_queue_is_cancelled() {
    let site = Site::open().await;
    enqueue(&site, "q", "id", TaskOptions::new()).await;
    for path in [
        "q/active_tasks/id:cancel",
        "q/active_tasks:cancel_all",
        "q/active_tasks/nobody:cancel",
    ] {
        let path = format!("/api/queues/{path}");
        let answer = site
            .send(request(Method::POST, &path).body(Body::empty()).unwrap())
            .await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{path}");
    }
    let trail = site.inspector.audit_trail(Cursor::default(), 10).await.unwrap();
    assert_eq!(trail.items, []);
}

#[tokio::test]
async fn a_list_that_is_longer_than_the_first_bytes_is_whole() {
    let site = Site::open().await;
    for number in 0..300 {
        enqueue(
            &site,
            &format!("{number:03} <{}>", "x".repeat(100)),
            "id",
            TaskOptions::new(),
        )
        .await;
    }
    let answer = site.get("/api/queues").await;
    assert!(answer.text.len() > 100_000);
    let queues = answer.json();
    let sizes = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| queue["size"].clone());
    assert_eq!(sizes.collect::<Vec<Value>>(), vec![json!(1); 300]);
    assert_eq!(
        site.get("/api/queue_stats").await.json()["stats"]
            .as_object()
            .unwrap()
            .len(),
        300
    );
}
