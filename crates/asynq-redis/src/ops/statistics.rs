//! The statistics that servers write.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

use asynq_core::{
    broker::MAX_BATCH_BYTES,
    error::BrokerError,
    names::QueueName,
    statistics::{Adding, MAX_BUCKETS, QueueStatistics, Span, StatisticsPart, TimeRange},
    tree::ServerIdentity,
};
use futures::{StreamExt as _, TryStreamExt as _, future::join, stream};

use super::{batch::cut, inspect};
use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, int, scalar},
    scripts,
};

const OPERATION: &str = "write_statistics";
/// Number of buckets that one call writes.
const BUCKETS: usize = 60;
/// Number of fields that one call reads, about. A full one has 94 KB.
const FIELDS: u32 = 50;
/// Number of hashes that are read at the same time.
const SIDE_BY_SIDE: usize = 8;

/// Writes buckets of a server; the number of those for which there was no room.
pub(crate) async fn write(
    core: &Core,
    queue: &QueueName,
    server: &ServerIdentity,
    parts: &[StatisticsPart],
) -> Result<u64, BrokerError> {
    let encoded: Vec<_> = parts.iter().map(|part| (part, part.bucket.encode())).collect();
    let mut full = 0;
    for call in cut(encoded, BUCKETS, MAX_BATCH_BYTES, |(_, value)| value.len()) {
        let mut places = BTreeMap::new();
        let mut keys = Args::with_capacity(2);
        let mut args = Args::with_capacity(1 + 5 * call.len());
        args.push_count(MAX_BUCKETS);
        for (StatisticsPart { span, bucket }, value) in call {
            let key = span.key(queue);
            let next = places.len() + 1;
            let place = *places.entry(key.clone()).or_insert_with(|| {
                keys.push(key);
                next
            });
            args.push_count(place);
            args.push(span.field(&server.server_id));
            args.push_int(span.kept_until().timestamp());
            args.push_display(bucket.records());
            args.push(value);
        }
        let answer = core.link.eval_apart(&scripts::WRITE_STATISTICS, keys, args).await?;
        full += u64::try_from(int(OPERATION, scalar(OPERATION, answer)?)?).unwrap_or(0);
    }
    Ok(full)
}

/// Adds the statistics of a range up. Only parts of the hashes are there as they are stored.
pub(crate) async fn read(core: &Core, queue: &QueueName, range: &TimeRange) -> Result<QueueStatistics, BrokerError> {
    let adding = Mutex::new(Adding::new(range));
    let hashes = stream::iter(range.hashes().into_iter().map(|span| add(core, queue, span, &adding)));
    let added = hashes.buffer_unordered(SIDE_BY_SIDE).try_collect::<()>();
    let (known, added) = join(inspect::must_be_known(core, queue), added).await;
    known?;
    added?;
    let adding = adding.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(adding.finish(queue.clone()))
}

/// Adds the fields of one hash. A scan may tell some of them twice.
async fn add(core: &Core, queue: &QueueName, span: Span, adding: &Mutex<Adding>) -> Result<(), BrokerError> {
    let key = span.key(queue);
    let (mut seen, mut cursor) = (HashSet::new(), "0".to_owned());
    loop {
        let mut cmd = redis::cmd("HSCAN");
        cmd.arg(&key).arg(&cursor).arg("COUNT").arg(FIELDS);
        let answer = core.link.command(&cmd).await.map_err(|error| match error {
            // The answer of a command does not name the key.
            BrokerError::WrongType { .. } => BrokerError::WrongType { key: key.clone() },
            other => other,
        })?;
        let mut reply = Reply::new("HSCAN", answer)?;
        cursor = reply.text()?;
        let mut part = reply.list()?;
        while !part.is_empty() {
            let (field, value) = (part.bytes()?, part.bytes()?);
            if seen.len() <= 2 * MAX_BUCKETS && seen.insert(field.clone()) {
                let mut adding = adding.lock().unwrap_or_else(PoisonError::into_inner);
                adding.add(span, &field, &value);
            }
        }
        if cursor == "0" || seen.len() > 2 * MAX_BUCKETS {
            return Ok(());
        }
    }
}
