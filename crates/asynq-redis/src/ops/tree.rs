//! The supervision trees that servers publish.

use std::time::Duration;

use asynq_core::{
    error::BrokerError,
    keys::own,
    tree::{PublishedTree, ServerIdentity, TreeNode},
};
use futures::future::join;

use super::server_state::{announce, end_and_now, read, whole_secs};
use crate::{
    args::Args,
    broker::core::Core,
    reply::{bytes, scalar},
    scripts,
};

fn key_of(server: &ServerIdentity) -> String {
    own::tree(&server.host, server.pid, &server.server_id)
}

pub(crate) async fn write(
    core: &Core,
    server: &ServerIdentity,
    tree: &TreeNode,
    ttl: Duration,
) -> Result<(), BrokerError> {
    let (key, ttl) = (key_of(server), whole_secs(ttl));
    let [end, now] = end_and_now(core, ttl);
    let mut args = Args::with_capacity(4).int(ttl).int(end).int(now);
    args.push(PublishedTree::new(server, tree.clone()).encode());
    if core.link.has_one_slot() {
        let keys = Args::from_iter([key.as_str(), own::TREES]);
        let written = core.link.eval_timely(&scripts::WRITE_TREE, keys, args).await?;
        return scalar("write_tree", written).map(drop);
    }
    let keys = Args::from_iter([&key]);
    let (listed, written) = join(
        announce(core, own::TREES, &key, ttl),
        core.link.eval_timely(&scripts::WRITE_TREE, keys, args),
    )
    .await;
    listed?;
    scalar("write_tree", written?).map(drop)
}

pub(crate) async fn clear(core: &Core, server: &ServerIdentity) -> Result<(), BrokerError> {
    let key = key_of(server);
    let (mut remove, mut delete) = (redis::cmd("ZREM"), redis::cmd("DEL"));
    remove.arg(own::TREES).arg(&key);
    delete.arg(&key);
    // A write may be on its way still.
    core.link.commands_last(&[remove, delete]).await
}

pub(crate) async fn trees(core: &Core) -> Result<Vec<PublishedTree>, BrokerError> {
    let values = read(core, own::TREES, "GET", &[]).await?;
    let found = values.into_iter().filter_map(|value| bytes("GET", value).ok());
    let mut trees: Vec<_> = found.filter_map(|json| PublishedTree::decode(&json)).collect();
    trees.sort_by(PublishedTree::by_server);
    Ok(trees)
}
