//! Paths and parameters.

use std::time::Duration;

use asynq_web::access::{AuthError, Authenticate, Credentials, User};
use axum::{
    body::Body,
    http::{StatusCode, header},
};
use tokio::time::timeout;

use super::{all, is_sound, site};
use crate::support::{Site, request};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names that are wrong, that nobody has, or that mean something to some program.
const NAMES: [&str; 22] = [
    "%",
    "%zz",
    "%f",
    "%ff",
    "%C3%28",
    "%00",
    "%0a%0dx",
    "..",
    ".",
    "%2e%2e",
    "%2F",
    "%2F..%2F",
    "a:b",
    "%3A",
    "~run",
    "%F0%9F%A6%80",
    "%E2%80%AE",
    "%7D",
    "%7Bqueue%7D",
    "'%22%3E%3Cscript%3E",
    "*",
    "%20",
];

#[tokio::test]
async fn names_of_any_kind_are_answered() {
    let site = site().await;
    let routes = all(&site).await;
    let long = "x".repeat(20_000);
    for route in &routes {
        for name in NAMES.into_iter().chain([long.as_str()]) {
            let path = route.with(name);
            let Ok(request) = request(route.method(), &path).body(Body::empty()) else {
                continue;
            };
            let answer = timeout(PATIENCE, site.send(request)).await;
            let answer = answer.unwrap_or_else(|_| panic!("{} {path:.200} is not answered", route.method));
            is_sound(&format!("{} {path:.200}", route.method), &answer);
            // No name is taken for the page of a browser.
            let kind = answer
                .headers
                .get(header::CONTENT_TYPE)
                .map(|kind| kind.to_str().unwrap());
            assert_ne!(kind, Some("text/html; charset=utf-8"), "{path:.200}");
        }
    }
    // All that nobody has was left alone.
    let stats = site.inspector.get_queue_stats("q").await.unwrap();
    assert_eq!((stats.size(), stats.pending, stats.archived), (4, 1, 1));
}

#[tokio::test]
async fn paths_of_any_form_are_answered() {
    let site = site().await;
    for (path, status) in [
        ("/api", StatusCode::NOT_FOUND),
        ("/api/", StatusCode::NOT_FOUND),
        ("/api//queues", StatusCode::NOT_FOUND),
        ("/api/queues/", StatusCode::NOT_FOUND),
        ("/api/queues//pending_tasks", StatusCode::NOT_FOUND),
        ("/api/queues/q//tasks/x", StatusCode::NOT_FOUND),
        ("/api/queues/q/pending_tasks/", StatusCode::NOT_FOUND),
        ("/api/queues/../queues", StatusCode::NOT_FOUND),
        ("/api/queues/q/tasks/a/b", StatusCode::NOT_FOUND),
        ("/api/queues/:pause", StatusCode::INTERNAL_SERVER_ERROR),
        ("/api/v1", StatusCode::NOT_FOUND),
        ("/api/v1/", StatusCode::NOT_FOUND),
        ("/api/v1//queues", StatusCode::NOT_FOUND),
        ("/api/v1/queues/", StatusCode::NOT_FOUND),
        ("/api/v1/queues/q/tasks/", StatusCode::NOT_FOUND),
        ("/api/v1/queues/q/tasks/a/b", StatusCode::NOT_FOUND),
        ("/api/v1/../../etc/passwd", StatusCode::NOT_FOUND),
        ("/api/v2/queues", StatusCode::NOT_FOUND),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        // A path that ends there belongs to the other API.
        if path.starts_with("/api/v1/") && path != "/api/v1/" {
            let kind = &answer.headers[header::CONTENT_TYPE];
            assert_eq!(kind, "application/problem+json", "{path}");
        }
    }
}

/// Numbers of pages, sizes and days, and texts that are none.
const NUMBERS: [&str; 16] = [
    "",
    "x",
    "-1",
    "0",
    "1",
    "1.5",
    "1e9",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775808",
    "%00",
    "%ff",
    "%zz",
];

#[tokio::test]
async fn parameters_of_any_kind_are_answered() {
    let site = site().await;
    let reads: Vec<_> = all(&site)
        .await
        .into_iter()
        .filter(|route| route.method == "GET")
        .collect();
    for route in &reads {
        let path = route
            .with("q")
            .replace("/tasks/q", "/tasks/pending")
            .replace("/groups/q/", "/groups/g/");
        // Without a Prometheus server it fails whatever is asked.
        if path == "/api/metrics" {
            continue;
        }
        for name in [
            "page", "size", "limit", "days", "cursor", "from", "state", "group", "duration", "reason",
        ] {
            for number in NUMBERS {
                let path = format!("{path}?{name}={number}");
                let answer = site.get(&path).await;
                is_sound(&path, &answer);
            }
        }
        for query in [
            "&&&",
            "=",
            "page",
            "page=1&page=2&page=x",
            "a[]=1&a[b]=2",
            "%",
            "%00=%00",
        ] {
            let path = format!("{path}?{query}");
            is_sound(&path, &site.get(&path).await);
        }
    }
}

#[tokio::test]
async fn asynqmons_lists_take_pages_up_to_any_number() {
    let site = site().await;
    for number in ["9223372036854775807", "4294967296", "1000000"] {
        for state in ["pending", "scheduled", "archived"] {
            let list = format!("/api/queues/q/{state}_tasks");
            let far = site.get(&format!("{list}?page={number}&size={number}")).await.json();
            assert_eq!(far["tasks"].as_array().map(Vec::len), Some(0), "{number}");
            let wide = site.get(&format!("{list}?size={number}")).await.json();
            assert_eq!(wide["tasks"].as_array().map(Vec::len), Some(1), "{number}");
        }
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let site = site().await;
    for route in all(&site).await {
        let path = route.with("q");
        for method in ["PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND"] {
            let request = request(method.parse().unwrap(), &path).body(Body::empty());
            let answer = site.send(request.unwrap()).await;
            // The verb behind a colon is part of a name for other methods, and not all of these names have a route.
            let is_part = path.ends_with(":cancel") && answer.status == StatusCode::NOT_FOUND;
            assert!(
                is_part || answer.status == StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn without_a_right_proof_nothing_is_answered() {
    let site = Site::with_users().await;
    let routes = all(&site).await;
    for route in &routes {
        let path = route.with("q");
        if path.ends_with("/openapi.json") || (path.ends_with("/session") && route.method == "POST") {
            continue;
        }
        for (name, value) in [
            ("accept", "*/*"),
            ("authorization", "Bearer nobody"),
            ("authorization", "Bearer"),
            ("authorization", "Basic YWRtaW46YWRtaW4="),
            ("cookie", "asynq_session=x"),
            ("cookie", "asynq_session=; asynq_session=\"\""),
        ] {
            let request = request(route.method(), &path).header(name, value).body(Body::empty());
            let answer = site.send(request.unwrap()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}: {value} {route:?}");
            is_sound(&path, &answer);
        }
        if route.method != "GET" {
            // The proof is right, but a page of another site has sent it.
            let request = request(route.method(), &path).header("authorization", "Bearer admin");
            let request = request.header("origin", "https://evil.example.com").body(Body::empty());
            let answer = site.send(request.unwrap()).await;
            is_sound(&path, &answer);
            let reads = ["/search", "/count", "/preview", "/check"]
                .iter()
                .any(|end| path.ends_with(end));
            assert!(reads || answer.status == StatusCode::FORBIDDEN, "{route:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn html_is_data() {
    let site = site().await;
    for path in [
        "/api/queues/q/tasks/pending",
        "/api/queues/q/pending_tasks",
        "/api/v1/queues/q/tasks/pending",
        "/api/v1/queues/q/tasks?state=pending",
        "/api/queues/%3Cscript%3E/tasks/x",
        "/api/v1/queues/%3Cscript%3E",
    ] {
        let answer = site.get(path).await;
        let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        let is_data = kind.starts_with("application/") || kind.starts_with("text/plain");
        assert!(is_data, "{path}: {kind}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let policy = answer.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
    }
    let old = site.get("/api/queues/q/tasks/pending").await;
    assert!(!old.text.contains('<'), "{old:?}");
}

/// Fails for whoever asks.
struct Broken;

#[async_trait::async_trait]
impl Authenticate for Broken {
    async fn recognize(&self, _: &Credentials<'_>) -> Result<Option<User>, AuthError> {
        panic!("on purpose")
    }
}

/// The other tests take a status of 500 for a panic: this is how one looks.
#[tokio::test]
async fn a_panic_would_be_seen() {
    let site = Site::with(|web| web.authenticate(Broken)).await;
    let answer = site.get("/api/v1/queues").await;
    assert_eq!(answer.problem(StatusCode::INTERNAL_SERVER_ERROR), "internal");
    // In the API of asynqmon, where 500 is nothing special, by its form.
    let answer = site.get("/api/queues").await;
    assert_eq!(answer.problem(StatusCode::INTERNAL_SERVER_ERROR), "internal");
}
