//! Bad input: whatever is sent, the answer is an error that says what is wrong, nothing panics, and nothing is changed.

mod bodies;
mod clients;
mod paths;

use std::collections::BTreeSet;

use asynq::{Task, TaskOptions};
use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::Value;

use crate::support::{Answer, Site, request, send};

/// A site with a queue that has a task of each kind that needs no server.
async fn site() -> Site {
    let site = Site::open().await;
    fill(&site).await;
    site
}

async fn fill(site: &Site) {
    let task = || Task::new("<t>", b"<script>alert(1)</script>").unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let options = |id: &str| TaskOptions::new().queue("q").task_id(id);
    for (id, options) in [
        ("pending", options("pending")),
        ("scheduled", options("scheduled").process_in(hour)),
        ("grouped", options("grouped").group("g")),
        ("archived", options("archived")),
    ] {
        site.client.enqueue_with(task(), options).await.unwrap();
        if id == "archived" {
            site.inspector.archive_task("q", id).await.unwrap();
        }
    }
}

/// Checks that an answer is a success, or an error of the client that says what is wrong, in the form of its API.
#[track_caller]
fn is_sound(request: &str, answer: &Answer) {
    let status = answer.status;
    let is_ours = request.contains("/api/v1/");
    // asynqmon has the status 500 for a queue that is not there, and for much else. A panic is no plain text.
    assert!(!status.is_server_error() || !is_ours, "{request}: {answer:?}");
    if status.is_success() {
        return;
    }
    let is_wordless = status == StatusCode::METHOD_NOT_ALLOWED && answer.text.is_empty();
    if is_ours {
        answer.problem(status);
    } else if !is_wordless {
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "text/plain; charset=utf-8",
            "{request}"
        );
        // It may repeat the name.
        let length = answer.text.len();
        assert!((4..21_000).contains(&length), "{request}: {length}");
    }
    assert!(!answer.text.contains("panick"), "{request}: {answer:?}");
}

/// A route of one of the two APIs, with the notation of OpenAPI.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Known {
    pub(crate) method: String,
    pub(crate) path: String,
    has_body: bool,
}

impl Known {
    fn method(&self) -> Method {
        self.method.parse().unwrap()
    }

    /// The path with names in the place of its parameters.
    fn with(&self, name: &str) -> String {
        let mut path = self.path.clone();
        while let (Some(start), Some(end)) = (path.find('{'), path.find('}')) {
            path.replace_range(start..=end, name);
        }
        path
    }
}

/// All routes of `/api/v1` that its document describes, without live updates.
async fn ours(site: &Site) -> BTreeSet<Known> {
    ours_of(&site.router).await
}

pub(crate) async fn ours_of(router: &Router) -> BTreeSet<Known> {
    let request = request(Method::GET, "/api/v1/openapi.json").body(Body::empty());
    let document = send(router, request.unwrap()).await.json();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| Known {
            method: method.to_uppercase(),
            path: format!("/api/v1{path}"),
            has_body: operation["requestBody"] != Value::Null,
        })
    });
    let routes: BTreeSet<_> = routes.filter(|route| !route.path.ends_with("/events")).collect();
    assert!(routes.len() > 30, "{routes:?}");
    routes
}

/// The routes of the API of asynqmon.
pub(crate) fn asynqmons() -> BTreeSet<Known> {
    let mut routes = BTreeSet::new();
    let mut add = |method: &str, path: String, has_body: bool| {
        routes.insert(Known {
            method: method.to_owned(),
            path: format!("/api{path}"),
            has_body,
        });
    };
    for path in [
        "/queues",
        "/queue_stats",
        "/servers",
        "/scheduler_entries",
        "/redis_info",
        "/metrics",
    ] {
        add("GET", path.to_owned(), false);
    }
    add("GET", "/scheduler_entries/{entry}/enqueue_events".to_owned(), false);
    for path in ["", "/groups", "/tasks/{id}"] {
        add("GET", format!("/queues/{{queue}}{path}"), false);
    }
    add("DELETE", "/queues/{queue}".to_owned(), false);
    for verb in ["pause", "resume"] {
        add("POST", format!("/queues/{{queue}}:{verb}"), false);
    }
    for (state, acts) in [
        ("active", &["cancel"][..]),
        ("pending", &["delete", "archive"]),
        ("scheduled", &["delete", "run", "archive"]),
        ("retry", &["delete", "run", "archive"]),
        ("archived", &["delete", "run"]),
        ("completed", &["delete"]),
        ("groups/{group}/aggregating", &["delete", "run", "archive"]),
    ] {
        let list = format!("/queues/{{queue}}/{state}_tasks");
        for act in acts {
            match *act {
                "delete" => {
                    add("DELETE", format!("{list}/{{id}}"), false);
                    add("DELETE", format!("{list}:delete_all"), false);
                }
                act => {
                    add("POST", format!("{list}/{{id}}:{act}"), false);
                    add("POST", format!("{list}:{act}_all"), false);
                }
            }
            add("POST", format!("{list}:batch_{act}"), true);
        }
        add("GET", list, false);
    }
    routes
}

async fn all(site: &Site) -> BTreeSet<Known> {
    ours(site).await.into_iter().chain(asynqmons()).collect()
}
