//! Bodies.

use axum::{
    body::Body,
    http::{StatusCode, header},
};

use super::{Known, all, is_sound, ours, site};
use crate::support::{Answer, Site, request};

async fn send(site: &Site, route: &Known, kind: Option<&str>, body: Vec<u8>) -> Answer {
    let path = route.with("q").replace("/tasks/q", "/tasks/nobody");
    let request = request(route.method(), &path);
    let request = match kind {
        Some(kind) => request.header(header::CONTENT_TYPE, kind),
        None => request,
    };
    let answer = site.send(request.body(Body::from(body)).unwrap()).await;
    is_sound(&format!("{} {path}", route.method), &answer);
    answer
}

async fn with_bodies(site: &Site) -> Vec<Known> {
    let routes: Vec<_> = all(site).await.into_iter().filter(|route| route.has_body).collect();
    assert!(routes.len() > 25, "{routes:?}");
    routes
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 400 | 413 | 415 | 422)
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let site = site().await;
    for route in with_bodies(&site).await {
        for body in [
            "{",
            "}",
            "{\"task_ids\":[",
            "{'a':1}",
            "{\"a\":\"\u{1}\"}",
            "NaN",
            "\u{feff}{}",
            "{\"a\":1,}",
        ] {
            let answer = send(&site, &route, Some("application/json"), body.as_bytes().to_vec()).await;
            assert!(is_refused(&answer), "{route:?} {body}: {answer:?}");
        }
        for body in [vec![0xff], vec![0; 1000], b"{\"task_ids\":[\"\xff\"]}".to_vec()] {
            let answer = send(&site, &route, Some("application/json"), body).await;
            assert!(is_refused(&answer), "{route:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn bodies_of_another_shape_are_refused() {
    let site = site().await;
    for route in with_bodies(&site).await {
        let shapes = [
            "\"x\"",
            "1",
            "[1]",
            "true",
            r#"{"no_such_field":1}"#,
            r#"{"task_ids":{},"query":[],"reason":1,"name":{},"payload":true,"at":[],"type":1}"#,
            r#"{"task_ids":[{}],"reason":"x","limit":-1}"#,
        ];
        for body in shapes {
            let answer = send(&site, &route, Some("application/json"), body.as_bytes().to_vec()).await;
            assert!(is_refused(&answer), "{route:?} {body}: {answer:?}");
        }
        // Whether an absent body, or none of the fields, will do depends on the route.
        for body in ["", "null", "{}", r#"{"reason":"a","reason":"b"}"#] {
            send(&site, &route, Some("application/json"), body.as_bytes().to_vec()).await;
        }
    }
}

#[tokio::test]
async fn deep_and_large_bodies_are_refused() {
    let site = site().await;
    for route in with_bodies(&site).await {
        for (open, close) in [
            ("[", "]"),
            ("{\"a\":", "}"),
            ("{\"payload\":{\"value\":", "}}"),
            ("{\"task_ids\":[", "]}"),
        ] {
            let deep = open.repeat(50_000) + "1" + &close.repeat(50_000);
            let answer = send(&site, &route, Some("application/json"), deep.into_bytes()).await;
            assert!(is_refused(&answer), "{route:?} {open}: {answer:?}");
        }
        let blank = vec![b' '; 3 << 20];
        let answer = send(&site, &route, Some("application/json"), blank).await;
        let is_ours = route.path.starts_with("/api/v1/");
        let expected = if is_ours {
            StatusCode::PAYLOAD_TOO_LARGE
        } else {
            StatusCode::BAD_REQUEST
        };
        assert_eq!(answer.status, expected, "{route:?}: {answer:?}");
    }
}

#[tokio::test]
async fn bodies_of_another_kind_are_refused() {
    let site = site().await;
    for route in ours(&site).await.into_iter().filter(|route| route.has_body) {
        for kind in [
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("x"),
            Some("multipart/form-data; boundary=x"),
        ] {
            let answer = send(&site, &route, kind, b"{}".to_vec()).await;
            assert!(is_refused(&answer), "{route:?} {kind:?}: {answer:?}");
        }
    }
}

/// A reason that cannot stand in the audit trail.
#[tokio::test]
async fn reasons_are_bounded() {
    let site = site().await;
    let long = "x".repeat(1025);
    for path in ["/api/queues/q:pause", "/api/v1/queues/q/pause"] {
        let request = request(axum::http::Method::POST, path).header("asynq-reason", &long);
        let answer = site.send(request.body(Body::empty()).unwrap()).await;
        is_sound(path, &answer);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(
            answer.text.contains("reason") && answer.text.contains("1024"),
            "{answer:?}"
        );
    }
    assert!(!site.inspector.get_queue_stats("q").await.unwrap().paused);
}
