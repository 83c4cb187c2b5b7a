//! The main ways through the API on Redis and on a Redis Cluster.

use std::sync::Arc;

use asynq::{
    Client, Inspector,
    broker::Storage,
    redis::{RedisBroker, RedisConnectionType},
};
use asynq_testing::{RedisCluster, RedisServer};
use asynq_web::Web;
use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{Api, encoded, ended, events::Stream, later};
use crate::support::{request, send};

async fn api(connection: RedisConnectionType) -> Api {
    let redis = Arc::new(RedisBroker::new(connection.clone()).await.unwrap());
    Api {
        client: Client::new(connection).await.unwrap(),
        inspector: Inspector::new(Arc::clone(&redis) as Arc<dyn Storage>),
        router: Web::of_redis(redis).without_authentication().router(),
    }
}

async fn tour(api: &Api, is_cluster: bool) {
    for queue in ["a", "b/c", "größe"] {
        for n in 0..5 {
            let payload = format!(r#"{{"n":{n}}}"#);
            api.enqueue(queue, &n.to_string(), payload.as_bytes(), later()).await;
        }
    }
    let queues = api.get("/queues").await;
    assert_eq!(
        (&queues["total"], &queues["queues"][1]["scheduled"]),
        (&json!(3), &json!(5))
    );
    let path = format!("/queues/{}", encoded("b/c"));
    assert_eq!(api.get(&path).await["queue"], "b/c");
    let first = api.get(&format!("{path}/tasks?state=scheduled&size=2")).await;
    let cursor = encoded(first["next_cursor"].as_str().unwrap());
    let second = api
        .get(&format!("{path}/tasks?state=scheduled&size=9&cursor={cursor}"))
        .await;
    assert_eq!(second["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(api.get(&format!("{path}/tasks/1")).await["payload"]["value"]["n"], 1);
    api.post(&format!("{path}/tasks/1/run"), json!({})).await;
    assert_eq!(api.state("b/c", "1").await, Some("pending"));
    let found = api
        .post("/tasks/search", json!({"query": "payload.n>2", "limit": 4}))
        .await;
    assert_eq!(found["tasks"].as_array().unwrap().len(), 4);
    let rest = api
        .post(
            "/tasks/search",
            json!({"query": "payload.n>2", "cursor": found["cursor"]}),
        )
        .await;
    assert_eq!(
        (rest["tasks"].as_array().unwrap().len(), &rest["complete"]),
        (2, &json!(true))
    );
    let preview = api
        .post("/acts/preview", json!({"query": "payload.n=4", "act": "delete"}))
        .await;
    assert_eq!(preview["tasks"], 3);
    let act = api
        .post("/acts", json!({"query": "payload.n=4", "act": "delete", "confirm": 3}))
        .await;
    assert_eq!(ended(api, "", &act).await["done"], 3);
    assert_eq!(api.post("/doctor/check", json!({})).await["complete"], true);
    assert!(api.get("/findings").await["queues"].as_u64() >= Some(3));
    assert_eq!(api.get("/audit?limit=1").await["acts"][0]["act"], "delete_by_query");
    let redis = api.get("/redis").await;
    assert_eq!(redis["is_cluster"], is_cluster);
    assert!(redis["nodes"][0]["info"]["used_memory"].is_string(), "{redis}");
    assert_eq!(redis["cluster"]["cluster_state"].is_string(), is_cluster);
    let place = api.get(&format!("{path}/place")).await;
    assert_eq!(
        (place["slot"].is_u64(), place["nodes"].as_array().unwrap().is_empty()),
        (is_cluster, !is_cluster),
        "{place}"
    );
    api.change(Method::DELETE, format!("{path}?force=true"), None).await;
    assert_eq!(api.get("/queues").await["total"], 2);
}

#[tokio::test]
async fn the_api_works_on_redis() {
    let server = RedisServer::start().await;
    let api = api(RedisConnectionType::single(server.url()).unwrap()).await;
    tour(&api, false).await;
}

#[tokio::test]
async fn the_api_works_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let api = api(RedisConnectionType::cluster(cluster.urls()).unwrap()).await;
    tour(&api, true).await;
}

#[tokio::test]
async fn an_outage_of_redis_is_a_typed_error() {
    let server = RedisServer::start().await;
    let connection = RedisConnectionType::single(server.url()).unwrap();
    let limit = std::time::Duration::from_millis(200);
    let api = api(connection.wait_timeout(limit).connect_timeout(limit)).await;
    server.kill();
    let answer = api.ask("", Method::GET, "/queues", None).await;
    let code = answer.problem(StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        ["storage_unavailable", "answer_lost"].contains(&code.as_str()),
        "{code}"
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_list_of_queues_costs_as_much_as_its_part() {
    let server = RedisServer::start().await;
    let api = api(RedisConnectionType::single(server.url()).unwrap()).await;
    let mut redis = server.client().await;
    for part in 0..10 {
        let mut words = vec!["SADD".to_owned(), "asynq:queues".to_owned()];
        words.extend((0..1000).map(|n| format!("q{:05}", part * 1000 + n)));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        redis.cmd(&words).await;
    }
    let list = api.get("/queues?limit=50&after=q05000").await;
    assert_eq!(
        (&list["total"], list["queues"].as_array().unwrap().len()),
        (&json!(10_000), 50)
    );
    assert_eq!(list["queues"][0]["queue"], "q05001");
    let before = scripts(&mut redis).await;
    api.get("/queues?limit=50").await;
    let after = scripts(&mut redis).await;
    assert!((50..=200).contains(&(after - before)), "{}", after - before);
}

/// Number of scripts that ran.
async fn scripts(redis: &mut asynq_testing::Resp) -> u64 {
    let stats = redis.cmd(&["INFO", "commandstats"]).await.text();
    let calls = stats.lines().filter_map(|line| {
        let rest = line
            .strip_prefix("cmdstat_evalsha:calls=")
            .or_else(|| line.strip_prefix("cmdstat_eval:calls="))?;
        rest.split(',').next()?.parse::<u64>().ok()
    });
    calls.sum()
}

#[tokio::test]
async fn requests_at_the_same_time_share_what_they_read() {
    let server = RedisServer::start().await;
    let connection = RedisConnectionType::single(server.url()).unwrap();
    let redis = Arc::new(RedisBroker::new(connection.clone()).await.unwrap());
    let web = Web::of_redis(Arc::clone(&redis)).without_authentication();
    let api = Api {
        client: Client::new(connection).await.unwrap(),
        inspector: Inspector::new(redis as Arc<dyn Storage>),
        router: web.reads_at_once(100).router(),
    };
    api.enqueue("q", "1", b"", later()).await;
    let mut raw = server.client().await;
    for (path, command, each) in [
        // The script, and its first attempt, as the server does not know it.
        ("/api/v1/findings", "evalsha", 2),
        ("/api/v1/servers", "zrangebyscore", 2),
        ("/api/v1/trees", "zrangebyscore", 1),
        ("/api/v1/schedulers", "zrangebyscore", 1),
        ("/api/servers", "zrangebyscore", 2),
        ("/api/scheduler_entries", "zrangebyscore", 1),
    ] {
        raw.ok(&["CONFIG", "RESETSTAT"]).await;
        let ask = || async {
            let request = request(Method::GET, path).body(axum::body::Body::empty()).unwrap();
            assert_eq!(send(&api.router, request).await.status, StatusCode::OK, "{path}");
        };
        futures::future::join_all((0..50).map(|_| ask())).await;
        let calls = calls(&mut raw, command).await;
        assert!(calls <= each, "{path}: {calls} {command}");
    }
    // A change is seen at once.
    raw.ok(&["SADD", "asynq:queues", "bad"]).await;
    raw.ok(&["SET", "asynq:{bad}:pending", "text"]).await;
    assert!(api.get("/findings").await["queues"] == 1);
    api.post("/queues/q/pause", json!({})).await;
    assert!(api.get("/findings").await["queues"] == 2);
}

/// Number of calls of a command.
async fn calls(redis: &mut asynq_testing::Resp, command: &str) -> u64 {
    let stats = redis.cmd(&["INFO", "commandstats"]).await.text();
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_hides_no_other() {
    let redis = RedisServer::start().await;
    let api = api(RedisConnectionType::single(redis.url()).unwrap()).await;
    for queue in ["a", "c", "d"] {
        api.enqueue(queue, "1", b"", later()).await;
    }
    let mut raw = redis.client().await;
    // More of them than are read at the same time, at the beginning of the list.
    for nth in 0..20 {
        let name = format!("B{nth:02}");
        raw.ok(&["SADD", "asynq:queues", &name]).await;
        raw.ok(&["SET", &format!("asynq:{{{name}}}:pending"), "text"]).await;
    }
    let list = api.get("/queues").await;
    let names: Vec<_> = list["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| &queue["queue"])
        .collect();
    assert_eq!(names, ["a", "c", "d"]);
    let unreadable = list["unreadable"].as_array().unwrap();
    assert_eq!((unreadable.len(), &list["total"]), (20, &json!(23)));
    assert_eq!(
        (&unreadable[0]["queue"], &unreadable[0]["code"]),
        (&json!("B00"), &json!("storage_error"))
    );
    assert!(
        unreadable[0]["error"].as_str().unwrap().contains("asynq:{B00}:pending"),
        "{unreadable:?}"
    );

    let mut stream = Stream::open(&api, "", None).await;
    let event = stream.event("queues").await;
    assert_eq!(event.data["queues"].as_array().unwrap().len(), 3, "{event:?}");
    assert_eq!(event.data["unreadable"].as_array().unwrap().len(), 20, "{event:?}");
    // The other parts come too.
    stream.event("findings").await;
    // One that is mended is listed, and one that breaks is not.
    raw.ok(&["DEL", "asynq:{B00}:pending"]).await;
    assert_eq!(stream.queue("B00").await["pending"], 0);
    raw.ok(&["SET", "asynq:{a}:pending", "text"]).await;
    loop {
        let event = stream.event("queues").await;
        let unreadable = event.data["unreadable"].as_array().unwrap();
        if unreadable.iter().any(|queue| queue["queue"] == "a") {
            break;
        }
    }
}
