//! Several storages in one server.

use asynq::memory::MemoryStore;
use asynq_web::{Context, Environment};
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::task;
use crate::support::{Site, users};

async fn site() -> (Site, MemoryStore) {
    let staging = MemoryStore::new();
    let context = Context::connect("staging", staging.clone())
        .await
        .unwrap()
        .environment(Environment::Staging)
        .read_only();
    let site = Site::with(|web| {
        web.named("live", Some(Environment::Production))
            .unwrap()
            .beside(context)
            .unwrap()
    })
    .await;
    (site, staging)
}

#[tokio::test]
async fn each_context_shows_its_own_queues_and_leads_to_the_others() {
    let (site, staging) = site().await;
    let client = asynq::Client::new(staging).await.unwrap();
    client.enqueue(task("a").with_queue("only-in-staging")).await.unwrap();
    site.client.enqueue(task("a").with_queue("only-in-live")).await.unwrap();

    let live = site.get("/").await.text;
    assert!(
        live.contains("only-in-live") && !live.contains("only-in-staging"),
        "{live}"
    );
    assert!(live.contains(r#"data-environment="production""#), "{live}");
    assert!(live.contains(r#"href="./contexts/staging""#), "{live}");

    let staging = site.get("/contexts/staging").await.text;
    assert!(
        staging.contains("only-in-staging") && !staging.contains("only-in-live"),
        "{staging}"
    );
    assert!(staging.contains(r#"href="staging/../../""#), "{staging}");
    assert!(staging.contains(r#"href="staging/servers""#), "{staging}");
    let settings = site.get("/contexts/staging/settings").await.text;
    assert!(
        settings.contains(r#"href="./../../""#) && settings.contains(r#"href="./../../contexts/staging""#),
        "{settings}"
    );
    assert_eq!(site.get("/contexts/other").await.status, StatusCode::NOT_FOUND);
    let slash = site.get("/contexts/staging/").await;
    assert_eq!(
        (slash.status, &slash.headers["location"]),
        (StatusCode::SEE_OTHER, &"../staging".parse().unwrap())
    );
}

#[tokio::test]
async fn a_context_has_its_own_rules() {
    let (site, staging) = site().await;
    let client = asynq::Client::new(staging).await.unwrap();
    client.enqueue(task("a").with_queue("q")).await.unwrap();
    site.client.enqueue(task("a").with_queue("q")).await.unwrap();
    let pause = |context: &str| format!("{context}/api/v1/queues/q/pause");
    let refused = site
        .ask("", Method::POST, &pause("/contexts/staging"), Some(json!({})))
        .await;
    assert_eq!(refused.problem(StatusCode::METHOD_NOT_ALLOWED), "read_only");
    let paused = site.ask("", Method::POST, &pause(""), Some(json!({}))).await;
    assert_eq!(paused.status, StatusCode::OK);
}

#[tokio::test]
async fn users_are_the_same_in_all_contexts() {
    let context = Context::connect("b", MemoryStore::new()).await.unwrap();
    let site = Site::with(|web| web.authenticate(users()).beside(context).unwrap()).await;
    for path in ["/api/v1/queues", "/contexts/b/api/v1/queues"] {
        assert_eq!(site.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(
            site.ask("viewer", Method::GET, path, None).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
}

#[tokio::test]
async fn names_of_contexts_are_checked() {
    let storage = MemoryStore::new();
    let web = || async { asynq_web::Web::connect(MemoryStore::new()).await.unwrap() };
    let context = |name: &str| Context::connect(name.to_owned(), storage.clone());
    for name in ["", "..", "a\nb"] {
        let fault = web().await.beside(context(name).await.unwrap()).err().unwrap();
        assert!(fault.starts_with("context: "), "{fault}");
    }
    let twice = web()
        .await
        .named("a", None)
        .unwrap()
        .beside(context("a").await.unwrap());
    assert!(twice.err().unwrap().contains("given twice"));
    let twice = web()
        .await
        .beside(context("a").await.unwrap())
        .unwrap()
        .named("a", None);
    assert!(twice.err().unwrap().contains("given twice"));
}
