//! The place of a queue in a cluster.

use asynq_core::{error::BrokerError, inspect::ClusterNode, keys, names::QueueName};

use crate::{broker::core::Core, reply::Reply};

const OPERATION: &str = "CLUSTER SLOTS";

/// The slot of all keys of a queue.
pub(crate) fn key_slot(core: &Core, queue: &QueueName) -> Result<u16, BrokerError> {
    let key = keys::of_queue(queue, "pending");
    core.link.slot_of(key.as_bytes()).ok_or(BrokerError::Unsupported {
        what: "the slots of a cluster",
    })
}

/// The nodes that serve it, the master first.
pub(crate) async fn nodes(core: &Core, queue: &QueueName) -> Result<Vec<ClusterNode>, BrokerError> {
    let slot = i64::from(key_slot(core, queue)?);
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    let mut ranges = Reply::new(OPERATION, core.link.command(&cmd).await?)?;
    while !ranges.is_empty() {
        let mut range = ranges.list()?;
        let (first, last) = (range.int()?, range.int()?);
        if (first..=last).contains(&slot) {
            let mut nodes = Vec::new();
            while !range.is_empty() {
                nodes.push(read_node(range.list()?)?);
            }
            return Ok(nodes);
        }
    }
    Ok(Vec::new())
}

/// Reads the host, which may be unknown, the port and the id.
fn read_node(mut node: Reply) -> Result<ClusterNode, BrokerError> {
    let (host, port) = (node.maybe_text()?.unwrap_or_default(), node.int()?);
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let id = node.text()?;
    Ok(ClusterNode { id, address })
}
