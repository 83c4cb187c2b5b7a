//! Bad input, and bounds of what one may ask for.

use axum::{
    body::Body,
    http::{Method, StatusCode, header},
};
use serde_json::json;

use super::{Api, later};
use crate::support::{request, send};

#[tokio::test]
async fn bad_requests_get_a_typed_error() {
    let api = Api::open().await;
    api.enqueue("q", "1", b"", later()).await;
    for (method, path, kind, body, status) in [
        (Method::GET, "/nothing", "", "", StatusCode::NOT_FOUND),
        (Method::PATCH, "/queues", "", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/queues/%FF", "", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/queues/%20", "", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/queues/q?days=0", "", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/queues/q?days=x", "", "", StatusCode::BAD_REQUEST),
        (
            Method::GET,
            "/queues?limit=18446744073709551616",
            "",
            "",
            StatusCode::BAD_REQUEST,
        ),
        (Method::GET, "/queues/q/tasks/%20", "", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/queues/q/tasks/1%00", "", "", StatusCode::NOT_FOUND),
        (
            Method::POST,
            "/queues/q/pause",
            "text/plain",
            "{}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            Method::POST,
            "/queues/q/pause",
            "application/json",
            "{",
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/queues/q/pause",
            "application/json",
            "[1]",
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/queues/q/pause",
            "application/json",
            r#"{"x":1}"#,
            StatusCode::BAD_REQUEST,
        ),
        (
            Method::POST,
            "/tasks/search",
            "",
            r#"{"query":"state=retry"}"#,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            Method::POST,
            "/tasks/search",
            "application/json",
            "\u{1}",
            StatusCode::BAD_REQUEST,
        ),
        (Method::DELETE, "/queues/q?force=maybe", "", "", StatusCode::BAD_REQUEST),
        (Method::DELETE, "/queues/none", "", "", StatusCode::NOT_FOUND),
        (Method::POST, "/queues/none/pause", "", "", StatusCode::NOT_FOUND),
        (Method::POST, "/queues/q/tasks/none/run", "", "", StatusCode::NOT_FOUND),
        (Method::GET, "/acts/none", "", "", StatusCode::NOT_FOUND),
        (Method::GET, "/redis", "", "", StatusCode::NOT_FOUND),
    ] {
        let mut request = request(method.clone(), &format!("/api/v1{path}"));
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let answer = send(&api.router, request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {answer:?}");
        answer.problem(status);
    }
    assert_eq!(api.inspector.queues().await.unwrap().len(), 1);
    assert!(!api.inspector.get_queue_stats("q").await.unwrap().paused);
}

#[tokio::test]
async fn a_large_body_is_refused() {
    let api = Api::with(|web| web.max_body(1000)).await;
    let long = "x".repeat(2000);
    for path in ["/queues/q/pause", "/queues/q/tasks", "/tasks/search", "/acts"] {
        let body = json!({"query": long});
        let answer = api.ask("", Method::POST, path, Some(body)).await;
        assert_eq!(answer.problem(StatusCode::PAYLOAD_TOO_LARGE), "too_large", "{path}");
    }
}

#[tokio::test]
async fn html_in_data_is_no_page() {
    let api = Api::open().await;
    let evil = "<script>alert(1)</script>";
    api.enqueue(evil, evil, evil.as_bytes(), later()).await;
    let path = format!("/queues/{0}/tasks/{0}", super::encoded(evil));
    let answer = api.ask("", Method::GET, &path, None).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let wrong = api
        .ask("", Method::GET, &format!("/queues/{}", super::encoded("<b>")), None)
        .await;
    assert_eq!(wrong.problem(StatusCode::NOT_FOUND), "queue_not_found");
}

#[tokio::test]
async fn long_payloads_are_cut_in_lists_and_whole_alone() {
    let api = Api::open().await;
    api.enqueue("q", "1", "é".repeat(5000).as_bytes(), later()).await;
    let listed = api.get("/queues/q/tasks?state=scheduled").await;
    assert_eq!(
        listed["tasks"][0]["payload"]["beginning"]["cut"],
        "the first 4096 of 10000 bytes"
    );
    let shown = api.get("/queues/q/tasks/1").await;
    assert_eq!(shown["payload"]["value"].as_str().unwrap().chars().count(), 5000);
}

#[tokio::test]
async fn lists_and_errors_of_large_tasks_are_bounded_in_bytes() {
    let api = Api::open().await;
    let large = vec![b'x'; 1 << 20];
    for nth in 0..70 {
        api.enqueue("q", &format!("{nth:02}"), &large, later()).await;
    }
    let page = api.get("/queues/q/tasks?state=scheduled&page=1&size=50").await;
    let count = page["tasks"].as_array().unwrap().len();
    assert!((32..45).contains(&count), "{count}");
    assert_eq!(page["cut"], true);
    let page = api.get("/queues/q/tasks?state=scheduled&page=3&size=23").await;
    let ids: Vec<_> = page["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = (46..69).map(|nth| format!("{nth:02}")).collect();
    assert_eq!(
        (ids, &page["cut"]),
        (expected.iter().map(String::as_str).collect(), &json!(false))
    );
    let errors = api.get("/queues/q/errors?state=scheduled").await;
    let looked_at = errors["looked_at"].as_u64().unwrap();
    assert!((1..70).contains(&looked_at), "{errors}");
    assert_eq!((&errors["total"], &errors["complete"]), (&json!(70), &json!(false)));
}

#[tokio::test]
async fn the_document_tells_where_the_router_is_mounted() {
    let api = Api::open().await;
    let nested = axum::Router::new().nest("/team/asynq", api.router.clone());
    for (router, path, url) in [
        (&api.router, "/api/v1/openapi.json", "/api/v1"),
        (&nested, "/team/asynq/api/v1/openapi.json", "/team/asynq/api/v1"),
    ] {
        let request = request(Method::GET, path).body(Body::empty()).unwrap();
        let answer = send(router, request).await;
        assert_eq!(answer.json()["servers"][0]["url"], url, "{path}");
    }
}
