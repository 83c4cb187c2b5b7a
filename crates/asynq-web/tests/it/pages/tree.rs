//! The page of the supervision trees.

use asynq::{AsynqSystem, ServerConfig, Task, TreeNode};
use axum::http::{Method, StatusCode};

use super::planted::{SCRIPT, ago, identity, page, serve, storage, tree, worker};
use crate::{
    support::Site,
    v1::{HOUR, until},
};

#[tokio::test]
async fn actors_are_shown_down_to_the_tasks_that_run() {
    let site = Site::with_users().await;
    let storage = storage(&site).await;
    serve(
        &*storage,
        "rust",
        &["mail"],
        &[worker("rust", "mail", "m1", "mail:send", 5)],
    )
    .await;
    serve(&*storage, "go", &["mail"], &[]).await;
    let failure = "connection was reset";
    storage
        .write_tree(&identity("rust"), &tree(60, failure), HOUR)
        .await
        .unwrap();
    let shown = page(&site, "viewer", "/tree").await;
    for part in [
        "system › work › forwarder",
        failure,
        "restarted 3×",
        "4,321 waiting",
        "node-trouble",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // The task is below the processor, which is below the supervisor.
    let places = [
        "node-name\">system",
        "node-name\">work",
        "node-name\">processor",
        "tasks/m1",
        "node-name\">forwarder",
    ];
    let places = places.map(|part| shown.find(part).unwrap_or_else(|| panic!("{part}: {shown}")));
    assert!(places.is_sorted(), "{places:?}");
    // The link above leads to the node.
    assert!(
        shown.contains("href=\"#node-id-rust-7-0-1\"") && shown.contains("id=\"node-id-rust-7-0-1\""),
        "{shown}"
    );
    let (_, without) = shown.split_once("Servers without a tree").unwrap();
    assert!(without.contains("go ") && !without.contains("rust "), "{without}");
    let answer = site.ask("mail", Method::GET, "/tree", None).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_restarted_long_ago_does_not_stand_out() {
    let empty = Site::open().await;
    assert!(page(&empty, "", "/tree").await.contains("No server runs"));
    let site = Site::open().await;
    let storage = storage(&site).await;
    storage
        .write_tree(&identity("rust"), &tree(3600, "old"), HOUR)
        .await
        .unwrap();
    let shown = page(&site, "", "/tree").await;
    assert!(
        shown.contains("restarted 3×") && !shown.contains("node-trouble"),
        "{shown}"
    );
    assert!(shown.contains("No actor has failed or restarted"), "{shown}");
}

#[tokio::test]
async fn a_restart_of_a_real_server_is_seen() {
    let site = Site::open().await;
    let system = AsynqSystem::builder(site.storage.clone())
        .config(ServerConfig::new().queues([("mail", 1)]))
        .handler(|_: Task| std::future::pending())
        .spawn()
        .await
        .unwrap();
    let look = async |has: &[&str], lacks: &str| {
        until(async || {
            let shown = page(&site, "", "/tree").await;
            let fits = has.iter().all(|part| shown.contains(part)) && !shown.contains(lacks);
            if fits { Ok(()) } else { Err(shown) }
        })
        .await;
    };
    site.client
        .enqueue(super::task("t").with_queue("mail").with_task_id("runs"))
        .await
        .unwrap();
    look(
        &[
            "node-name\">forwarder",
            "tasks/runs",
            "No actor has failed or restarted",
        ],
        "node-trouble",
    )
    .await;
    assert!(system.kill_actor("maintenance/forwarder"));
    look(
        &["restarted 1×", "system › maintenance › forwarder"],
        "No actor has failed or restarted",
    )
    .await;
    system.shutdown_within(std::time::Duration::from_secs(1)).await;
}

#[tokio::test]
async fn texts_of_others_stay_text_and_long_ones_are_cut() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    let mut root = tree(1, &format!("{SCRIPT}{}", "x".repeat(50_000)));
    root.note = Some(SCRIPT.to_owned());
    root.handles = Some(vec![SCRIPT.to_owned()]);
    root.children[0].children[1].name = SCRIPT.to_owned();
    storage.write_tree(&identity("rust"), &root, HOUR).await.unwrap();
    let shown = page(&site, "", "/tree").await;
    // Title, note, pattern, name twice, failure twice.
    assert!(shown.matches("&lt;script&gt;").count() >= 6, "{shown}");
}

#[tokio::test]
async fn many_servers_and_large_trees_are_shown_page_by_page() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    for server in 0..200 {
        let host = format!("worker-{server:03}");
        let workers: Vec<_> = (0..50)
            .map(|nth| worker(&host, "q", &format!("{server}-{nth}"), "t", nth))
            .collect();
        serve(&*storage, &host, &["q"], &workers).await;
        let mut root = tree(if server == 150 { 5 } else { 5000 }, "failed");
        if server == 0 {
            let actors = (0..3000).map(|nth| TreeNode::new(format!("actor-{nth}"), asynq::ActorState::Running, ago(9)));
            root.children.extend(actors);
        }
        storage.write_tree(&identity(&host), &root, HOUR).await.unwrap();
    }
    let first = page(&site, "", "/tree").await;
    assert!(
        first.contains("Page 1 of 25") && first.contains("more actors are not shown"),
        "{first}"
    );
    assert!(first.contains("and 40 more running tasks"), "{first}");
    // The restart is on another page, to which the list above leads.
    assert!(first.contains("href=\"?page=19#node-id-worker-150-7-0-1\""), "{first}");
    assert!(
        page(&site, "", "/tree?page=19")
            .await
            .contains("id=\"node-id-worker-150-7-0-1\"")
    );
    assert!(page(&site, "", "/tree?q=-199").await.contains("worker-199"));
}
