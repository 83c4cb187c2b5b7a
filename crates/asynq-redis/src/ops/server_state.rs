//! Records that servers publish about themselves.

use std::{collections::HashSet, time::Duration};

use asynq_core::{
    error::BrokerError,
    info::{ServerInfo, WorkerInfo},
    keys, published,
};
use futures::future::join3;
use redis::Value;

use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, bytes, scalar},
    scripts,
};

/// Whole seconds, at least one (layout.md#whole-seconds).
pub(crate) fn whole_secs(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs())
        .unwrap_or(i64::MAX)
        .clamp(1, 100 * 366 * 24 * 3600)
}

fn keys_for(server: &ServerInfo) -> (String, String) {
    let ServerInfo {
        host, pid, server_id, ..
    } = server;
    (
        keys::server_info(host, *pid, server_id),
        keys::worker_info(host, *pid, server_id),
    )
}

/// The end of a name that lives for a time from now on, and now, in seconds.
pub(crate) fn end_and_now(core: &Core, ttl_secs: i64) -> [i64; 2] {
    let now = core.now().timestamp();
    [now.saturating_add(ttl_secs), now]
}

/// Puts a name into an index, until `ttl_secs` from now, and takes names out that ended.
pub(crate) async fn announce(core: &Core, index: &str, name: &str, ttl_secs: i64) -> Result<(), BrokerError> {
    let [end, now] = end_and_now(core, ttl_secs);
    let args = Args::with_capacity(3).text(name).int(end).int(now);
    let value = core
        .link
        .eval_timely(&scripts::ANNOUNCE, Args::from_iter([index]), args)
        .await?;
    scalar("announce", value).map(drop)
}

/// Writes the records of a server in one call with the indexes; in a cluster, which has the indexes in other slots, in
/// three calls, the indexes first, all in one write.
pub(crate) async fn write(
    core: &Core,
    server: &ServerInfo,
    workers: &[WorkerInfo],
    ttl: Duration,
) -> Result<(), BrokerError> {
    let ttl = whole_secs(ttl);
    let (server_key, workers_key) = keys_for(server);
    let [end, now] = end_and_now(core, ttl);
    let mut args = Args::with_capacity(4 + 2 * workers.len()).int(ttl).int(end).int(now);
    args.push(published::encode_server(server));
    let mut seen = HashSet::with_capacity(workers.len());
    for worker in workers {
        // Only values are read; the queue tells apart equal ids (differences.md#ids-in-two-queues).
        if seen.insert(&worker.task_id) {
            args.push(worker.task_id.as_str());
        } else {
            args.push(format!("{}:{}", worker.queue, worker.task_id));
        }
        args.push(published::encode_worker(worker));
    }
    if core.link.has_one_slot() {
        let keys = Args::from_iter([server_key.as_str(), &workers_key, keys::SERVERS, keys::WORKERS]);
        let written = core.link.eval_timely(&scripts::WRITE_SERVER, keys, args).await?;
        return scalar("write_server", written).map(drop);
    }
    let keys = Args::from_iter([&server_key, &workers_key]);
    let (first, second, third) = join3(
        announce(core, keys::SERVERS, &server_key, ttl),
        announce(core, keys::WORKERS, &workers_key, ttl),
        core.link.eval_timely(&scripts::WRITE_SERVER, keys, args),
    )
    .await;
    first?;
    second?;
    scalar("write_server", third?).map(drop)
}

pub(crate) async fn clear(core: &Core, server: &ServerInfo) -> Result<(), BrokerError> {
    let (server_key, workers_key) = keys_for(server);
    let remove = |index: &str, key: &str| {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(index).arg(key);
        cmd
    };
    let mut both = redis::cmd("DEL");
    both.arg(&server_key).arg(&workers_key);
    let commands = [
        remove(keys::SERVERS, &server_key),
        remove(keys::WORKERS, &workers_key),
        both,
    ];
    // A write may be on its way still.
    core.link.commands_last(&commands).await
}

/// The names in an index that have not ended.
async fn living(core: &Core, index: &'static str) -> Result<Vec<Vec<u8>>, BrokerError> {
    let mut cmd = redis::cmd("ZRANGEBYSCORE");
    cmd.arg(index).arg(core.now().timestamp()).arg("+inf");
    let mut reply = Reply::new("ZRANGEBYSCORE", core.link.command(&cmd).await?)?;
    let mut names = Vec::with_capacity(reply.len());
    while !reply.is_empty() {
        names.push(reply.bytes()?);
    }
    Ok(names)
}

/// Reads what the names lead to. What has ended meanwhile or is of another type is left out.
pub(crate) async fn read(
    core: &Core,
    index: &'static str,
    command: &str,
    args: &[&str],
) -> Result<Vec<Value>, BrokerError> {
    let names = living(core, index).await?;
    let commands: Vec<_> = names
        .iter()
        .map(|name| {
            let mut cmd = redis::cmd(command);
            cmd.arg(name).arg(args);
            cmd
        })
        .collect();
    let mut values = Vec::with_capacity(commands.len());
    for answer in core.link.pipeline(&commands).await {
        match answer {
            Ok(value) => values.push(value),
            Err(BrokerError::WrongType { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(values)
}

/// The servers that live. Only reads: dead names are left to those who announce theirs.
pub(crate) async fn servers(core: &Core) -> Result<Vec<ServerInfo>, BrokerError> {
    let values = read(core, keys::SERVERS, "GET", &[]).await?;
    let found = values.into_iter().filter_map(|value| bytes("GET", value).ok());
    Ok(found.filter_map(|info| published::decode_server(&info)).collect())
}

/// Returns what the living servers run.
pub(crate) async fn workers(core: &Core) -> Result<Vec<WorkerInfo>, BrokerError> {
    let mut workers = Vec::new();
    for value in read(core, keys::WORKERS, "HVALS", &[]).await? {
        let mut running = Reply::new("HVALS", value)?;
        while !running.is_empty() {
            workers.extend(published::decode_worker(running.bytes()?.into()));
        }
    }
    Ok(workers)
}
