//! The statistics that servers write.

use asynq_core::{
    error::BrokerError,
    keys,
    names::QueueName,
    statistics::{Bucket, MAX_BUCKETS, Span, StatisticsPart, TimeRange},
    tree::ServerIdentity,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::inspect;
use crate::model::{Data, Queue};

/// Writes buckets of a server; the number of those for which there was no room.
pub(crate) fn write(
    queue: &mut Queue,
    server: &ServerIdentity,
    parts: &[StatisticsPart],
    now: DateTime<Utc>,
) -> Result<u64, BrokerError> {
    for StatisticsPart { span, .. } in parts {
        let key = span.key(&queue.name);
        queue.check(&[suffix_of(queue, &key)])?;
    }
    let mut full = 0;
    for StatisticsPart { span, bucket } in parts {
        let key = span.key(&queue.name);
        let suffix = suffix_of(queue, &key).to_owned();
        if span.kept_until() <= now {
            queue.statistics.remove(&suffix);
            continue;
        }
        let fields = queue.statistics.open(&suffix, span.kept_until(), now);
        let field = span.field(&server.server_id);
        match fields.get(&field) {
            Some(old) if Bucket::records_in(old).is_some_and(|records| records > bucket.records()) => {}
            None if fields.len() >= MAX_BUCKETS => full += 1,
            _ => drop(fields.insert(field, bucket.encode())),
        }
    }
    Ok(full)
}

fn suffix_of<'k>(queue: &Queue, key: &'k str) -> &'k str {
    key.strip_prefix(&keys::queue_prefix(&queue.name)).unwrap_or(key)
}

/// Returns the stored values of a range: each with the span that names its hash, and its field.
pub(crate) fn read(
    data: &mut Data,
    name: &QueueName,
    range: &TimeRange,
    now: DateTime<Utc>,
) -> Result<Vec<(Span, String, Bytes)>, BrokerError> {
    let queue = inspect::known(data, name)?;
    let mut values = Vec::new();
    for span in range.hashes() {
        let key = span.key(name);
        let suffix = suffix_of(queue, &key);
        queue.check(&[suffix])?;
        let fields = queue.statistics.get(suffix, now).into_iter().flatten();
        values.extend(fields.map(|(field, value)| (span, field.clone(), value.clone())));
    }
    Ok(values)
}
