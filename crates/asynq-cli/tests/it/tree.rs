//! `asynq tree`.

use asynq::{AsynqSystem, Task, redis::RedisConnectionType};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{Fixture, PATIENCE, eventually};

async fn system(fixture: &Fixture) -> AsynqSystem {
    let system = AsynqSystem::builder(RedisConnectionType::single(fixture.redis.url()).unwrap())
        .handler(async |_: Task| Ok(()))
        .spawn()
        .await
        .unwrap();
    let inspector = fixture.inspector();
    eventually("a published tree", async || {
        !inspector.trees().await.unwrap().is_empty()
    })
    .await;
    system
}

#[tokio::test]
async fn the_tree_of_a_running_server_is_drawn() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.asynq(["tree"]).ok().await, "no supervision trees\n");
    assert_eq!(fixture.asynq(["tree"]).json().await, serde_json::json!([]));

    let system = system(&fixture).await;
    let text = fixture.asynq(["tree"]).ok().await;
    let row = |name: &str| {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert!(row("system ").contains("running"), "{text}");
    assert!(row("├─ client ").contains("running"), "{text}");
    assert!(row("│  ├─ forwarder ").contains("running"), "{text}");
    assert!(row("└─ work ").contains("running"), "{text}");
    assert!(row("   └─ processor ").contains("running"), "{text}");

    let json = fixture.asynq(["tree"]).json().await;
    let id = json[0]["server_id"].as_str().unwrap();
    assert_eq!(json[0]["tree"]["name"], "system");
    assert_eq!(fixture.asynq(["tree", id]).ndjson().await.len(), 1);
    assert_eq!(
        fixture.asynq(["tree", "elsewhere"]).ok().await,
        "no supervision trees\n"
    );
    system.shutdown().await;
}

/// Publishes the tree of a server `h:1:s` whose forwarder has restarted so often.
async fn publish(fixture: &Fixture, restarts: u64) {
    let tree = json!({
        "host": "h", "pid": 1, "server_id": "s",
        "tree": {"name": "system", "state": "running", "since": "2026-05-14T10:00:00Z", "children": [
            {"name": "forwarder", "state": "restarting", "since": "2026-05-14T10:00:00Z", "restarts": restarts,
                "last_failure": "boom\u{1b}[2J"},
        ]},
    });
    let mut raw = fixture.redis.client().await;
    raw.ok(&["SET", "asynq:x:tree:{h:1:s}", &tree.to_string()]).await;
    raw.ok(&["ZADD", "asynq:x:trees", "99999999999", "asynq:x:tree:{h:1:s}"])
        .await;
}

#[tokio::test]
async fn a_watched_tree_shows_a_restart() {
    let fixture = Fixture::start().await;
    publish(&fixture, 0).await;
    let text = fixture.asynq(["tree", "h:1"]).ok().await;
    assert!(text.contains("boom\\u{1b}[2J"), "{text}");

    let mut watched = fixture.asynq(["tree", "--watch", "100ms", "-o", "ndjson"]).spawn();
    let mut lines = BufReader::new(watched.stdout.take().unwrap()).lines();
    let mut restarts = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let tree: Value = serde_json::from_str(&line).unwrap();
        tree["tree"]["children"][0]["restarts"].as_u64().unwrap()
    };
    assert_eq!(restarts().await, 0);
    publish(&fixture, 1).await;
    eventually("the restart shows", async || restarts().await == 1).await;
}
