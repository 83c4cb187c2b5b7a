//! Proofs of rights that come from the tables of routes, so that a new route cannot be forgotten.

use std::{sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Connector as _, Error, Inspector, Task, TaskOptions, TaskState, broker::Storage, info::SchedulerEntry,
    inspect::Cursor, inspector::Then, memory::MemoryStore,
};
use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use chrono::{TimeDelta, Utc};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    Web,
    access::{Role, Users, hash_token},
    metrics, mon, pages,
    routes::{Reach, Route},
    v1,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A route with the path of its API.
struct Row {
    base: &'static str,
    route: Route,
}

fn table() -> Vec<Row> {
    let of = |base, routes: Vec<Route>| routes.into_iter().map(move |route| Row { base, route });
    of("/api/v1", v1::routes())
        .chain(of("/api", mon::routes()))
        .chain(of("", metrics::routes()))
        .chain(of("", pages::routes()))
        .collect()
}

/// A storage with a task in each state in the queue `mail`, whose id is that of its state, and an empty queue `empty`.
struct World {
    store: MemoryStore,
    storage: Arc<dyn Storage>,
    inspector: Inspector,
    system: AsynqSystem,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::new();
        let system = AsynqSystem::builder(store.clone())
            .config(asynq::ServerConfig::new().queues([("mail", 1)]))
            .handler(|task: Task| async move {
                match task.get_type() {
                    "active" => std::future::pending().await,
                    "completed" => Ok(()),
                    _ => Err(Error::other("it fails")),
                }
            })
            .spawn()
            .await
            .unwrap();
        let storage = store.connect(store.env()).await.unwrap();
        let inspector = Inspector::new(Arc::clone(&storage));
        let world = Self {
            store,
            storage,
            inspector,
            system,
        };
        for id in ["active", "completed", "retry"] {
            world.enqueue("mail", id, TaskOptions::new().retention(HOUR)).await;
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let states = ["active", "completed", "retry"].map(|id| world.state(id));
            let states = futures::future::join_all(states).await;
            if states == [TaskState::Active, TaskState::Completed, TaskState::Retry].map(Some) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{states:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.inspector.pause_queue("mail").await.unwrap();
        let later = || TaskOptions::new().process_in(HOUR);
        world.enqueue("mail", "pending", TaskOptions::new()).await;
        world.enqueue("mail", "scheduled", later()).await;
        world.enqueue("mail", "archived", later()).await;
        world.inspector.archive_task("mail", "archived").await.unwrap();
        world
            .enqueue("mail", "aggregating", TaskOptions::new().group("g"))
            .await;
        world.enqueue("empty", "gone", later()).await;
        world.inspector.delete_task("empty", "gone").await.unwrap();
        let entry = SchedulerEntry {
            id: "entry".to_owned(),
            spec: "@every 1h".to_owned(),
            task_type: "report".to_owned(),
            payload: "{}".into(),
            options: vec![r#"Queue("mail")"#.to_owned()],
            next: None,
            prev: None,
        };
        let written = world.storage.write_scheduler_entries("host:1:a", &[entry], HOUR).await;
        written.unwrap();
        world
    }

    async fn enqueue(&self, queue: &str, id: &str, options: TaskOptions) {
        let task = Task::new(id, b"{}").unwrap();
        let task = task.with_options(options.queue(queue).task_id(id));
        self.inspector.enqueue(task).await.unwrap();
    }

    async fn state(&self, id: &str) -> Option<TaskState> {
        Some(self.inspector.get_task_info("mail", id).await.ok()?.state)
    }

    async fn web(&self) -> Web {
        let users = Role::ALL.map(|role| {
            let (name, token) = (role.as_str(), hash_token(role.as_str()));
            format!("[[user]]\nname = '{name}'\ntoken = '{token}'\nrole = '{name}'\n")
        });
        let web = Web::connect(self.store.clone()).await.unwrap();
        web.authenticate(Users::parse(&users.concat()).unwrap())
    }

    /// The acts in the audit trail by an operator.
    async fn acts_of(&self, name: &str) -> Vec<String> {
        let trail = self.inspector.audit_trail(Cursor::default(), 1000).await.unwrap();
        let own = trail
            .items
            .into_iter()
            .filter(|entry| entry.actor.as_ref().is_some_and(|actor| actor.name == name));
        own.map(|entry| entry.act).collect()
    }

    async fn end(self) {
        let _ = self.inspector.cancel_task("mail", "active", Then::Delete).await;
        self.system.shutdown().await;
    }
}

impl Row {
    /// The path of a request that succeeds.
    fn path(&self) -> String {
        let path = self.route.path;
        let queue = match (&self.route.method, path) {
            (&Method::DELETE, "/queues/{queue}") | (_, "/queues/{queue}:pause") => "empty",
            _ => "mail",
        };
        let id = [
            "active",
            "pending",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "aggregating",
        ]
        .into_iter()
        .find(|state| path.contains(&format!("{state}_tasks")))
        .or_else(|| {
            let end = path.rsplit('/').next()?;
            Some(match end {
                "cancel" => "active",
                "payload" | "reschedule" => "scheduled",
                "run" => "retry",
                _ => "pending",
            })
        })
        .unwrap_or("pending");
        let path = path
            .replace("{queue}", queue)
            .replace("{id}", id)
            .replace("{group}", "g")
            .replace("{entry}", "entry");
        let query = match path.as_str() {
            "/queues/mail/tasks" => "?state=pending",
            _ => "",
        };
        format!("{}{path}{query}", self.base)
    }

    /// The body of a request that succeeds.
    fn body(&self) -> Option<Value> {
        let payload = json!({"encoding": "json", "value": {"a": 1}});
        let query = json!({"query": "queue=mail state=retry", "act": "run"});
        Some(match (self.base, self.route.path) {
            ("/api", path) if path.contains(":batch_") => {
                let states = [
                    "active",
                    "pending",
                    "scheduled",
                    "retry",
                    "archived",
                    "completed",
                    "aggregating",
                ];
                let id = states
                    .into_iter()
                    .find(|state| path.contains(&format!("{state}_tasks")));
                json!({"task_ids": [id.unwrap()]})
            }
            ("/api/v1", "/queues/{queue}/tasks") => json!({"type": "new", "payload": payload}),
            ("/api/v1", "/queues/{queue}/tasks/{id}/payload") => json!({"payload": payload}),
            ("/api/v1", "/queues/{queue}/tasks/{id}/reschedule") => json!({"at": Utc::now() + TimeDelta::hours(2)}),
            ("/api/v1", "/queues/{queue}/tasks/{id}/copy") => json!({"queue": "mail"}),
            ("/api/v1", "/tasks/search" | "/tasks/count") => json!({"query": "state=retry"}),
            ("/api/v1", "/acts" | "/acts/preview") => query,
            ("/api/v1", "/schedulers/{entry}/backfill") => json!({"ticks": [Utc::now() - TimeDelta::hours(2)]}),
            _ => return None,
        })
        .filter(|_| self.route.method != Method::GET)
    }

    /// The request, with this proof.
    fn request(&self, path: &str, token: Option<&str>) -> Request<Body> {
        let request = Request::builder()
            .method(self.route.method.clone())
            .uri(path)
            .header(header::HOST, "localhost:8080");
        let request = token.into_iter().fold(request, |request, token| {
            request.header(header::AUTHORIZATION, format!("Bearer {token}"))
        });
        match self.body() {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        }
        .unwrap()
    }

    fn name(&self) -> String {
        format!("{} {}{}", self.route.method, self.base, self.route.path)
    }
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    if parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "text/event-stream")
    {
        return (parts.status, String::new());
    }
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, String::from_utf8_lossy(&body).into_owned())
}

/// The path of a row. That of an act needs one that was started.
async fn path(row: &Row, router: &Router) -> String {
    let path = row.path();
    if !path.contains("{act}") {
        return path;
    }
    let start = table()
        .into_iter()
        .find(|row| row.base == "/api/v1" && row.route.path == "/acts" && row.route.writes);
    let start = start.unwrap();
    let (_, act) = send(router, start.request("/api/v1/acts", Some("admin"))).await;
    let act: Value = serde_json::from_str(&act).unwrap();
    path.replace("{act}", act["id"].as_str().unwrap())
}

#[tokio::test]
async fn each_route_refuses_each_role_below_its_own_and_serves_the_others() {
    for row in table() {
        let world = World::new().await;
        let router = world.web().await.router();
        // A row that asks about an act can be asked about one of the admin only by the admin.
        let path = path(&row, &router).await;
        let name = row.name();
        assert_eq!(
            send(&router, row.request(&path, None)).await.0,
            StatusCode::UNAUTHORIZED,
            "{name}"
        );
        assert_eq!(
            send(&router, row.request(&path, Some("nobody"))).await.0,
            StatusCode::UNAUTHORIZED,
            "{name}"
        );
        if row.route.reach == Reach::Session {
            world.end().await;
            continue;
        }
        for role in Role::ALL {
            let (status, text) = send(&router, row.request(&path, Some(role.as_str()))).await;
            match role < row.route.needs {
                true => assert_eq!(status, StatusCode::FORBIDDEN, "{name} {role:?}: {text}"),
                false => assert!(
                    !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
                    "{name} {role:?}: {status} {text}"
                ),
            }
        }
        world.end().await;
    }
}

#[tokio::test]
async fn each_change_is_in_the_audit_trail_with_the_name_of_its_user() {
    // These change nothing that is stored.
    let silent = ["DELETE /api/v1/session", "POST /api/v1/acts/{act}/stop"];
    let mut changes = 0;
    for row in table().into_iter().filter(|row| row.route.writes) {
        let world = World::new().await;
        let router = world.web().await.router();
        let (name, path) = (row.name(), path(&row, &router).await);
        let before = world.acts_of("admin").await.len();
        let (status, text) = send(&router, row.request(&path, Some("admin"))).await;
        // What is tested here must have happened.
        assert!(status.is_success(), "{name}: {status} {text}");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !silent.contains(&name.as_str()) && world.acts_of("admin").await.len() == before {
            // The doctor finds nothing to repair.
            if name.ends_with("/doctor/fix") {
                break;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name}: nothing in the audit trail"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        changes += 1;
        world.end().await;
    }
    assert!(changes > 50, "{changes}");
}

#[tokio::test]
async fn no_change_is_made_in_read_only_mode_or_for_another_site() {
    let world = World::new().await;
    let (open, closed) = (world.web().await.router(), world.web().await.read_only().router());
    for row in table().into_iter().filter(|row| row.route.writes) {
        let (name, path) = (row.name(), row.path().replace("{act}", "1"));
        if row.route.reach != Reach::Session {
            let (status, text) = send(&closed, row.request(&path, Some("admin"))).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{name}: {text}");
        }
        for (header, value) in [
            ("origin", "https://evil.example.com"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let mut request = row.request(&path, Some("admin"));
            request.headers_mut().insert(header, value.parse().unwrap());
            let (status, text) = send(&open, request).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{name} {header}: {text}");
        }
    }
    assert_eq!(world.acts_of("admin").await, Vec::<String>::new());
    world.end().await;
}

#[tokio::test]
async fn an_admin_of_other_queues_cannot_use_a_route_of_a_queue_or_of_everything() {
    let world = World::new().await;
    let token = hash_token("other");
    let users = format!("[[user]]\nname = 'other'\ntoken = '{token}'\nrole = 'admin'\nqueues = ['other*']\n");
    let web = Web::connect(world.store.clone()).await.unwrap();
    let router = web.authenticate(Users::parse(&users).unwrap()).router();
    let closed = |row: &Row| matches!(row.route.reach, Reach::Queue | Reach::Everything);
    for row in table().into_iter().filter(closed) {
        let (status, text) = send(&router, row.request(&row.path(), Some("other"))).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{}: {text}", row.name());
    }
    world.end().await;
}
