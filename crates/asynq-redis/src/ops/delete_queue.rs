//! Deletes a queue.

use std::collections::BTreeSet;

use asynq_core::{
    error::BrokerError,
    keys::{self, own},
    names::QueueName,
};
use chrono::TimeDelta;

use super::inspect;
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, int, protocol},
    scripts,
};

const OPERATION: &str = "delete_queue";

/// Number of tasks that one call deletes: a millisecond or two of Redis.
const TASKS: i64 = 250;
/// Number of days whose counters are deleted: those that can exist, and one on either side.
const DAYS: i64 = 92;
/// Number of hours and days whose statistics are deleted: those that can exist, and one on either side.
const STATISTICS_HOURS: i64 = 51;
/// Number of calls for new tasks, beyond two for each part that the queue had at first.
const MORE_CALLS: i64 = 1000;

pub(crate) async fn delete_queue(core: &Core, queue: &QueueName, force: bool) -> Result<(), BrokerError> {
    inspect::must_be_known(core, queue).await?;
    let keys = all_keys(core, queue);
    let mut calls_left = None;
    loop {
        let args = Args::with_capacity(4)
            .text(&keys::queue_prefix(queue))
            .text(if force { "1" } else { "0" })
            .int(core.now().timestamp())
            .int(TASKS);
        let value = core.link.eval(&scripts::DELETE_QUEUE, keys.clone(), args).await?;
        let mut reply = Reply::of_script(OPERATION, value)?;
        match (reply.int()?, reply.int()?) {
            (1, _) => break,
            (2, tasks) => {
                let left = calls_left.unwrap_or(MORE_CALLS.saturating_add(2 * (tasks / TASKS)));
                if left == 0 {
                    return Err(BrokerError::QueueNotEmpty { queue: queue.clone() });
                }
                calls_left = Some(left - 1);
            }
            (0, _) => return Err(BrokerError::QueueNotEmpty { queue: queue.clone() }),
            (-1, _) => return Err(BrokerError::QueueHasActiveTasks { queue: queue.clone() }),
            (other, _) => return Err(protocol(OPERATION, format!("code {other}"))),
        }
    }
    strike_off(core, queue).await
}

/// All keys that a queue can have, apart from those of tasks, groups, locks and ticks.
fn all_keys(core: &Core, queue: &QueueName) -> Args {
    let mut keys = keys_of(
        queue,
        &[
            "pending",
            "active",
            "lease",
            "scheduled",
            "retry",
            "archived",
            "completed",
            "groups",
            "aggregation_sets",
        ],
    );
    for key in [
        own::finished(queue),
        own::quarantine(queue),
        keys::of_queue(queue, "paused"),
        keys::of_queue(queue, "processed"),
        keys::of_queue(queue, "failed"),
        own::healer(queue),
        own::heal_place(queue),
    ] {
        keys.push(key);
    }
    for back in -1..STATISTICS_HOURS {
        keys.push(own::statistics_of_hour(queue, core.now() - TimeDelta::hours(back)));
    }
    for back in -1..DAYS {
        let day = keys::day(core.now() - TimeDelta::days(back));
        for counter in ["processed", "failed"] {
            keys.push(keys::of_queue(queue, &format!("{counter}:{day}")));
        }
        keys.push(own::statistics_of_day(queue, core.now() - TimeDelta::days(back)));
    }
    keys
}

/// Takes the name out of the index. It is put back if the queue has tasks again, whose producer may have published it
/// just before.
async fn strike_off(core: &Core, queue: &QueueName) -> Result<(), BrokerError> {
    core.unpublished.forget(&BTreeSet::from([queue.clone()]));
    let index = |name: &str| {
        let mut cmd = redis::cmd(name);
        cmd.arg(keys::QUEUES).arg(queue.as_str());
        cmd
    };
    core.link.command(&index("SREM")).await?;
    let mut exists = redis::cmd("EXISTS");
    for container in keys_of(queue, &["pending", "active", "scheduled", "retry", "groups"]).iter() {
        exists.arg(container);
    }
    if int("EXISTS", core.link.command(&exists).await?)? > 0 {
        core.link.command(&index("SADD")).await?;
    }
    Ok(())
}
