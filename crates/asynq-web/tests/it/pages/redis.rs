//! The page of Redis, against real servers.

use std::sync::Arc;

use asynq::{
    Client,
    redis::{RedisBroker, RedisConnectionType},
};
use asynq_testing::{RedisCluster, RedisServer};
use asynq_web::Web;
use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode},
};

use super::{planted::page, task};
use crate::support::{Site, request, send};

async fn site(connection: RedisConnectionType) -> Router {
    let client = Client::new(connection.clone()).await.unwrap();
    for queue in ["a", "b/c", "<script>alert"] {
        client.enqueue(task("t").with_queue(queue)).await.unwrap();
    }
    let redis = RedisBroker::new(connection).await.unwrap();
    Web::of_redis(Arc::new(redis)).without_authentication().router()
}

async fn show(router: &Router) -> String {
    let answer = send(router, request(Method::GET, "/redis").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(!answer.text.contains("<script>alert"));
    answer.text
}

#[tokio::test]
async fn a_server_tells_about_itself_and_what_is_wrong() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "noeviction"]).await;
    let router = site(RedisConnectionType::single(server.url()).unwrap()).await;
    let shown = show(&router).await;
    for part in [
        "Fragmentation",
        "100 MiB",
        "noeviction",
        "Append-only file",
        "db0",
        "All that Redis tells",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(
        !shown.contains("notice warning") && !shown.contains("Redis may evict"),
        "{shown}"
    );
    let mut redis = server.client().await;
    redis.cmd(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let shown = show(&router).await;
    assert!(
        shown.contains("Redis may evict tasks when its memory is full: maxmemory-policy is allkeys-lru"),
        "{shown}"
    );
    assert!(shown.contains("CONFIG SET maxmemory-policy noeviction"));
}

#[tokio::test]
async fn a_cluster_shows_its_nodes_and_the_slots_of_queues() {
    let cluster = RedisCluster::start().await;
    let router = site(RedisConnectionType::cluster(cluster.urls()).unwrap()).await;
    let shown = show(&router).await;
    for node in cluster.nodes() {
        assert!(shown.contains(&node.address()), "{shown}");
    }
    let slot = |queue: &str| RedisCluster::slot_of(format!("asynq:{{{queue}}}:t").as_bytes());
    for queue in ["a", "b/c"] {
        assert!(
            shown.contains(&format!("<td class=\"num\">{}</td>", slot(queue))),
            "{queue}: {shown}"
        );
    }
    assert!(
        shown.contains("16,384") && !shown.contains("The cluster is down") && !shown.contains("badge bad"),
        "{shown}"
    );
    assert!(shown.contains("href=\"./queues/b%2Fc\""));
}

#[tokio::test]
async fn another_storage_and_some_users_see_no_redis() {
    let site = Site::with_users().await;
    assert!(
        page(&site, "viewer", "/redis")
            .await
            .contains("The tasks are not in Redis")
    );
    let answer = site.ask("mail", Method::GET, "/redis", None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}
