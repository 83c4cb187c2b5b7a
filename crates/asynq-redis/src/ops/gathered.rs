//! Where a task may stand that is not found where its hash leads to: all groups and aggregation sets.
//! Looked for only when something is wrong, since all keys of the database must be walked.

use std::collections::BTreeSet;

use asynq_core::{error::BrokerError, keys, names::QueueName};

use crate::{args::pattern_of, broker::Core, reply::Reply};

/// How many keys of the database one call looks at.
const KEYS: i64 = 1000;
/// How many groups and sets a task is looked for in at most.
const MOST: usize = 10_000;
/// How many looks (a task in a group) one call takes: a few milliseconds of Redis.
const LOOKS: usize = 20_000;

/// The keys of all groups and aggregation sets of a queue, sorted; `None` if there are too many to be
/// looked into (SAFETY rule 7).
pub(crate) async fn gathered(core: &Core, queue: &QueueName) -> Result<Option<Vec<Vec<u8>>>, BrokerError> {
    let (pattern, prefix) = (pattern_of(queue, "g:"), keys::queue_prefix(queue));
    let mut cursor = "0".to_owned();
    let mut found = BTreeSet::new();
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS);
        let mut reply = Reply::new("SCAN", core.link.command_at(prefix.as_bytes(), &scan).await?)?;
        cursor = reply.text()?;
        let mut keys = reply.list()?;
        while !keys.is_empty() {
            found.insert(keys.bytes()?);
        }
        if found.len() > MOST {
            tracing::warn!(%queue, "too many groups to find out where a task stands");
            return Ok(None);
        }
        if cursor == "0" {
            return Ok(Some(found.into_iter().collect()));
        }
    }
}

/// How many tasks one call looks for in so many groups and sets.
pub(crate) fn tasks_a_call(groups: usize) -> usize {
    (LOOKS / groups.max(1)).clamp(1, 200)
}
