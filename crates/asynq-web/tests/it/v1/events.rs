//! Live updates.

use std::time::Duration;

use asynq::TaskOptions;
use asynq_web::access::{Users, hash_password};
use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Api, later};
use crate::support::{request, send};

/// Time within which an event must come.
const PATIENT: Duration = Duration::from_secs(60);

/// A stream of events.
pub(super) struct Stream {
    body: Body,
    read: String,
}

/// An event: its id, its name and its data. A comment has neither.
#[derive(Debug)]
pub(super) struct Event {
    id: String,
    name: String,
    pub(super) data: Value,
}

impl Stream {
    pub(super) async fn open(api: &Api, token: &str, last: Option<&str>) -> Self {
        let request = request(Method::GET, "/api/v1/events");
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        let request = last
            .into_iter()
            .fold(request, |request, last| request.header("last-event-id", last));
        Self::of(api, request.body(Body::empty()).unwrap()).await
    }

    async fn of(api: &Api, request: axum::http::Request<Body>) -> Self {
        let answer = api.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self {
            body: answer.into_body(),
            read: String::new(),
        }
    }

    /// The next block, without its end; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                return Some(block);
            }
            let frame = tokio::time::timeout(PATIENT, self.body.frame())
                .await
                .expect("no event comes")?;
            let data = frame.unwrap().into_data().unwrap();
            self.read.push_str(str::from_utf8(&data).unwrap());
        }
    }

    /// Waits for the end of the stream.
    async fn ends(&mut self) {
        let end = async { while self.block().await.is_some() {} };
        tokio::time::timeout(PATIENT, end)
            .await
            .expect("the stream does not end");
    }

    /// The next event with this name.
    pub(super) async fn event(&mut self, wanted: &str) -> Event {
        let event = self.next_event(wanted);
        tokio::time::timeout(PATIENT, event).await.expect("no such event comes")
    }

    async fn next_event(&mut self, wanted: &str) -> Event {
        loop {
            let block = self.block().await.expect("the stream has ended");
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
                    .to_owned()
            };
            if field("event: ") == wanted {
                return Event {
                    id: field("id: "),
                    name: wanted.to_owned(),
                    data: serde_json::from_str(&field("data: ")).unwrap(),
                };
            }
        }
    }

    /// The next event with numbers of this queue.
    pub(super) async fn queue(&mut self, name: &str) -> Value {
        loop {
            let event = self.event("queues").await;
            let queues = event.data["queues"].as_array().unwrap();
            if let Some(queue) = queues.iter().find(|queue| queue["queue"] == name) {
                return queue.clone();
            }
        }
    }
}

#[tokio::test]
async fn changes_come_to_all_who_listen_as_far_as_they_may_see_them() {
    let api = Api::with_users().await;
    for queue in ["mail", "default"] {
        api.enqueue(queue, "1", b"", later()).await;
    }
    let mut all = Stream::open(&api, "viewer", None).await;
    let mut own = Stream::open(&api, "mail", None).await;
    assert_eq!(all.block().await.unwrap(), "retry: 3000");
    assert_eq!(all.queue("default").await["scheduled"], 1);
    let seen = own.event("queues").await;
    let names: Vec<_> = seen.data["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["queue"])
        .collect();
    assert_eq!(names, [&json!("mail")], "{seen:?}");
    // A change.
    api.enqueue("mail", "2", b"", TaskOptions::new()).await;
    assert_eq!(all.queue("mail").await["pending"], 1);
    assert_eq!(own.queue("mail").await["pending"], 1);
    // One who comes later gets all that is known.
    let mut late = Stream::open(&api, "viewer", None).await;
    assert_eq!(late.queue("default").await["scheduled"], 1);
    // A queue goes.
    api.inspector.delete_queue("default", true).await.unwrap();
    assert_eq!(all.event("gone").await.data, json!({"queues": ["default"]}));
    drop((all, own, late));
}

#[tokio::test]
async fn one_who_has_seen_the_last_change_gets_no_snapshot() {
    let api = Api::with_users().await;
    api.enqueue("mail", "1", b"", later()).await;
    let mut first = Stream::open(&api, "viewer", None).await;
    // The last one of the first look.
    let last = first.event("findings").await;
    assert_eq!(last.name, "findings");
    let mut again = Stream::open(&api, "viewer", Some(&last.id)).await;
    let mut other = Stream::open(&api, "viewer", Some("1-1")).await;
    assert_eq!(other.queue("mail").await["scheduled"], 1);
    api.enqueue("new", "1", b"", later()).await;
    let event = again.event("queues").await;
    assert_eq!(event.data["queues"][0]["queue"], "new", "{event:?}");
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let mut background = None;
    let api = Api::with(|web| {
        background = Some(web.background());
        web.authenticate(crate::support::users())
    })
    .await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(Stream::open(&api, "viewer", None).await);
    }
    let refused = api.ask("viewer", Method::GET, "/events", None).await;
    assert_eq!(refused.problem(StatusCode::TOO_MANY_REQUESTS), "too_many_requests");
    // Another user has places of their own.
    streams.push(Stream::open(&api, "mail", None).await);
    background.unwrap().stop().await;
    for stream in &mut streams {
        stream.ends().await;
    }
    let refused = api.ask("viewer", Method::GET, "/events", None).await;
    assert_eq!(refused.problem(StatusCode::SERVICE_UNAVAILABLE), "unavailable");
}

#[tokio::test]
async fn a_place_is_free_again_when_a_listener_goes() {
    let api = Api::with_users().await;
    for _ in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..10 {
            let stream = super::until(async || {
                let answer = api.ask_raw("viewer", "/events").await;
                match answer.status() {
                    StatusCode::OK => Ok(answer.into_body()),
                    status => Err(status.to_string()),
                }
            });
            streams.push(stream.await);
        }
        drop(streams);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_comments_and_ends_with_its_session() {
    let hash = hash_password("secret").unwrap();
    let users = Users::parse(&format!(
        "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'viewer'\n"
    ))
    .unwrap();
    let api = Api::with(|web| web.authenticate(users)).await;
    let sign_in = request(Method::POST, "/api/v1/session")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"name": "ann", "password": "secret"}).to_string()))
        .unwrap();
    let answer = send(&api.router, sign_in).await;
    let (csrf, cookie) = (
        answer.json()["csrf_token"].clone(),
        answer.headers[header::SET_COOKIE].to_str().unwrap().to_owned(),
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let listen = request(Method::GET, "/api/v1/events").header(header::COOKIE, &cookie);
    let mut stream = Stream::of(&api, listen.body(Body::empty()).unwrap()).await;
    loop {
        // The heartbeat.
        if stream.block().await.unwrap() == ":" {
            break;
        }
    }
    let end = request(Method::DELETE, "/api/v1/session")
        .header(header::COOKIE, &cookie)
        .header("x-csrf-token", csrf.as_str().unwrap())
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(&api.router, end).await.status, StatusCode::NO_CONTENT);
    stream.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_who_does_not_read_is_left() {
    let api = Api::with_users().await;
    let mut slow = Stream::open(&api, "viewer", None).await;
    // The first bytes are here, so the stream runs.
    slow.block().await.unwrap();
    let mut changes = 0;
    loop {
        api.enqueue("q", &changes.to_string(), b"", later()).await;
        changes += 1;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Once it is left, its place is free, and what waits for it is bounded.
        let mut others = Vec::new();
        for _ in 0..10 {
            others.push(api.ask_raw("viewer", "/events").await.status());
        }
        if others.iter().all(|status| *status == StatusCode::OK) {
            break;
        }
        assert!(changes < 100);
    }
    let mut blocks = 0;
    while slow.block().await.is_some() {
        blocks += 1;
    }
    assert!(blocks < 40, "{blocks}");
}

/// The events before an id belong together, and the first ones are all that is known.
#[tokio::test]
async fn only_the_last_event_of_what_belongs_together_has_an_id() {
    let api = Api::with_users().await;
    // More than fits into one event.
    let names: Vec<_> = (0..1000).map(|nth| format!("{nth:03}{}", "q".repeat(180))).collect();
    for name in &names {
        api.enqueue(name, "1", b"", later()).await;
    }
    // Until a first listener has seen all of them.
    let mut first = Stream::open(&api, "viewer", None).await;
    let mut known = std::collections::BTreeSet::new();
    while known.len() < names.len() {
        let event = first.event("queues").await;
        let queues = event.data["queues"].as_array().unwrap();
        known.extend(queues.iter().map(|queue| queue["queue"].as_str().unwrap().to_owned()));
    }
    let mut second = Stream::open(&api, "viewer", None).await;
    assert_eq!(second.block().await.unwrap(), "retry: 3000");
    let (mut blocks, mut queues) = (Vec::new(), 0);
    loop {
        let block = second.block().await.unwrap();
        assert!(block.len() < 300 << 10, "{} bytes", block.len());
        let (id, name) = (
            block.starts_with("id: "),
            block.lines().find_map(|line| line.strip_prefix("event: ")),
        );
        let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        queues += data["queues"].as_array().map_or(0, Vec::len);
        blocks.push(name.unwrap().to_owned());
        if id {
            break;
        }
    }
    assert_eq!(queues, names.len());
    assert_eq!(blocks[..3], ["snapshot", "queues", "queues"], "{blocks:?}");
    assert!(blocks.iter().any(|name| name == "servers"), "{blocks:?}");
}

#[tokio::test]
async fn servers_come_without_the_tasks_that_run() {
    let site = crate::support::Site::with_users().await;
    let system = asynq::AsynqSystem::builder(site.storage.clone())
        .config(
            asynq::ServerConfig::new()
                .queues([("mail", 1)])
                .heartbeat_interval(Duration::from_millis(20)),
        )
        .handler(|_: asynq::Task| std::future::pending::<asynq::Result<()>>())
        .spawn()
        .await
        .unwrap();
    let api = Api::from(site);
    api.enqueue("mail", "1", b"secret payload", TaskOptions::new()).await;
    for token in ["viewer", "mail"] {
        let mut stream = Stream::open(&api, token, None).await;
        loop {
            let event = stream.event("servers").await;
            let server = &event.data["servers"][0];
            if server["active_workers"] == 1 {
                assert!(server.get("workers").is_none(), "{server}");
                assert_eq!(event.data["left_out"], 0);
                break;
            }
        }
    }
    system.shutdown().await;
}
