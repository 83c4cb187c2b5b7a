//! The supervision trees that servers publish, in keys of our own.

use asynq_core::{
    keys::own,
    tree::{ActorState, PublishedTree, ServerIdentity, TreeNode},
};

use super::kit::*;

const TTL: Duration = Duration::from_secs(10);

fn server(host: &str, server_id: &str) -> ServerIdentity {
    ServerIdentity {
        host: host.into(),
        pid: 7,
        server_id: server_id.into(),
    }
}

fn tree(fx: &Fixture, backlog: u64) -> TreeNode {
    let mut processor = TreeNode::new("processor", ActorState::Restarting, fx.now());
    processor.restarts = 2;
    processor.last_failure = Some("boom".into());
    processor.backlog = Some(backlog);
    let mut root = TreeNode::new("system", ActorState::Running, fx.now());
    root.note = Some("draining".into());
    root.children.push(processor);
    root
}

async fn write(fx: &Fixture, server: &ServerIdentity, backlog: u64) {
    fx.storage.write_tree(server, &tree(fx, backlog), TTL).await.unwrap();
}

async fn servers(fx: &Fixture) -> Vec<String> {
    let trees = fx.storage.trees().await.unwrap();
    trees.into_iter().map(|tree| tree.server_id).collect()
}

/// A key of its own with an end, as JSON, and its name in an index with the second of that end.
pub(super) async fn a_tree_is_stored_as_json_with_an_end(fx: &Fixture) {
    write(fx, &server("h", "s1"), 3).await;
    let raw = fx.raw().await.state;
    let key = "asynq:x:tree:{h:7:s1}";
    assert_eq!(raw.keys().collect::<Vec<_>>(), [key, own::TREES]);
    assert_eq!(raw[own::TREES], zset(&[(key, fx.secs() + 10)]));
    let RawValue::String(json) = &raw[key] else {
        panic!("{:?}", raw[key])
    };
    let published = PublishedTree::new(&server("h", "s1"), tree(fx, 3));
    assert_eq!(PublishedTree::decode(json), Some(published));
    let ttl = fx.ttl_of(key).await.unwrap_or_default();
    assert!((5..=10).contains(&ttl), "{ttl}");
}

/// Written trees are read, by host, process and server; the last tree of a server counts.
pub(super) async fn trees_are_read_as_written(fx: &Fixture) {
    assert!(fx.storage.trees().await.unwrap().is_empty());
    write(fx, &server("b", "s1"), 1).await;
    write(fx, &server("a", "s3"), 2).await;
    write(fx, &server("a", "s2"), 3).await;
    write(fx, &server("b", "s1"), 4).await;
    let expected = [("a", "s2", 3), ("a", "s3", 2), ("b", "s1", 4)];
    let expected = expected.map(|(host, id, backlog)| PublishedTree::new(&server(host, id), tree(fx, backlog)));
    assert_eq!(fx.storage.trees().await.unwrap(), expected);
}

/// Nothing of a tree is left, and the others stay.
pub(super) async fn a_cleared_tree_leaves_nothing(fx: &Fixture) {
    for id in ["s1", "s2"] {
        write(fx, &server("h", id), 1).await;
    }
    fx.storage.clear_tree(&server("h", "s1")).await.unwrap();
    assert_eq!(servers(fx).await, ["s2"]);
    for _ in 0..2 {
        fx.storage.clear_tree(&server("h", "s2")).await.unwrap();
    }
    assert!(fx.raw().await.state.is_empty());
}

/// A tree that is not written any more is not shown, and the next writer takes its name out.
pub(super) async fn a_tree_that_ended_is_not_shown(fx: &Fixture) {
    write(fx, &server("h", "s1"), 1).await;
    fx.advance(5);
    write(fx, &server("h", "s2"), 1).await;
    fx.advance(6);
    assert_eq!(servers(fx).await, ["s2"]);
    write(fx, &server("h", "s2"), 1).await;
    assert_eq!(
        fx.raw().await.state[own::TREES],
        zset(&[("asynq:x:tree:{h:7:s2}", fx.secs() + 10)])
    );
}

/// Pitfalls 1.4: the end is a whole number of seconds away, at least one.
pub(super) async fn a_ttl_is_at_least_one_second(fx: &Fixture) {
    for (ttl, secs) in [(Duration::from_millis(300), 1), (Duration::from_millis(2900), 2)] {
        fx.storage
            .write_tree(&server("h", "s1"), &tree(fx, 1), ttl)
            .await
            .unwrap();
        assert_eq!(
            fx.raw().await.state[own::TREES],
            zset(&[("asynq:x:tree:{h:7:s1}", fx.secs() + secs)])
        );
    }
}

/// rules.md#damage-stays-local: what cannot be read, or is gone, is left out; the others are shown.
pub(super) async fn an_unreadable_tree_is_left_out(fx: &Fixture) {
    write(fx, &server("h", "s1"), 1).await;
    let until = fx.secs() + 10;
    fx.edit(|state| {
        let names = ["bad", "gone", "hash", "s1"].map(|id| format!("asynq:x:tree:{{h:7:{id}}}"));
        state.insert(
            own::TREES.into(),
            zset(&names.each_ref().map(|name| (name.as_str(), until))),
        );
        state.insert(names[0].clone(), RawValue::String(Bytes::from_static(b"\xff{")));
        state.insert(names[2].clone(), hash([("x", bytes("y"))]));
    })
    .await;
    assert_eq!(servers(fx).await, ["s1"]);
}
