//! The operations of a Go server, as changes of the raw keys (transitions.md#take, transitions.md#retry without a
//! count).

use asynq_core::{
    QueueName, TaskId,
    broker::{LEASE, RECOVER_GRACE},
    keys::{self, field},
    message,
    raw::{RawState, RawValue},
};
use bytes::Bytes;

/// The keys that change.
pub(super) type Changes = Vec<(String, Option<RawValue>)>;

/// transitions.md#take: the next task becomes active, without a token of ours.
pub(super) fn takes(state: &RawState, queue: &QueueName, now: i64) -> Option<Changes> {
    let key = |suffix: &str| keys::of_queue(queue, suffix);
    if state.contains_key(&key("paused")) {
        return None;
    }
    let (mut pending, mut active) = (list(state, &key("pending")), list(state, &key("active")));
    let id = pending.pop()?;
    active.insert(0, id.clone());
    let mut lease = zset(state, &key("lease"));
    put(&mut lease, &id, now + i64::try_from(LEASE.as_secs()).ok()?);
    let task = keys::task(queue, &TaskId::from_storage(&String::from_utf8_lossy(&id)));
    let mut fields = hash(state, &task)?;
    fields.insert(field::STATE.into(), Bytes::from_static(b"active"));
    fields.remove(field::PENDING_SINCE);
    Some(vec![
        (key("pending"), full(RawValue::List(pending))),
        (key("active"), full(RawValue::List(active))),
        (key("lease"), full(RawValue::ZSet(lease))),
        (task, Some(RawValue::Hash(fields))),
    ])
}

/// transitions.md#retry by the recoverer, as no failure: the longest expired task waits for its retry, and the
/// fields that Go does not know stay.
pub(super) fn recovers(state: &RawState, queue: &QueueName, now: i64) -> Option<Changes> {
    let key = |suffix: &str| keys::of_queue(queue, suffix);
    let mut lease = zset(state, &key("lease"));
    let cutoff = now - i64::try_from(RECOVER_GRACE.as_secs()).ok()?;
    if lease.first()?.1 > cutoff {
        return None;
    }
    let (id, _) = lease.remove(0);
    let mut active = list(state, &key("active"));
    active.retain(|of| *of != id);
    let mut retry = zset(state, &key("retry"));
    put(&mut retry, &id, now + 5);
    let task = keys::task(queue, &TaskId::from_storage(&String::from_utf8_lossy(&id)));
    let mut fields = hash(state, &task)?;
    let read = message::decode(fields.get(field::MSG)?.clone()).ok()?;
    let failed = message::failed(&read, "asynq: task lease expired", now, false);
    fields.insert(field::MSG.into(), message::encode(&failed));
    fields.insert(field::STATE.into(), Bytes::from_static(b"retry"));
    Some(vec![
        (key("active"), full(RawValue::List(active))),
        (key("lease"), full(RawValue::ZSet(lease))),
        (key("retry"), full(RawValue::ZSet(retry))),
        (task, Some(RawValue::Hash(fields))),
    ])
}

/// transitions.md#retry, transitions.md#forward and transitions.md#take in a row: the longest expired task is
/// recovered, forwarded and taken by Go servers, and the fields that Go does not know stay: our token, too.
pub(super) fn retakes(state: &RawState, queue: &QueueName, now: i64) -> Option<Changes> {
    let key = |suffix: &str| keys::of_queue(queue, suffix);
    let mut lease = zset(state, &key("lease"));
    let id = lease.first()?.0.clone();
    let changes = recovers(state, queue, now)?;
    let (task, fields) = changes.into_iter().next_back()?;
    let Some(RawValue::Hash(mut fields)) = fields else {
        return None;
    };
    fields.insert(field::STATE.into(), Bytes::from_static(b"active"));
    let mut active = list(state, &key("active"));
    active.retain(|of| *of != id);
    active.insert(0, id.clone());
    put(&mut lease, &id, now + i64::try_from(LEASE.as_secs()).ok()?);
    Some(vec![
        (key("active"), full(RawValue::List(active))),
        (key("lease"), full(RawValue::ZSet(lease))),
        (task, Some(RawValue::Hash(fields))),
    ])
}

fn list(state: &RawState, key: &str) -> Vec<Bytes> {
    match state.get(key) {
        Some(RawValue::List(items)) => items.clone(),
        _ => Vec::new(),
    }
}

fn zset(state: &RawState, key: &str) -> Vec<(Bytes, i64)> {
    match state.get(key) {
        Some(RawValue::ZSet(entries)) => entries.clone(),
        _ => Vec::new(),
    }
}

fn hash(state: &RawState, key: &str) -> Option<std::collections::BTreeMap<String, Bytes>> {
    match state.get(key) {
        Some(RawValue::Hash(fields)) => Some(fields.clone()),
        _ => None,
    }
}

fn put(entries: &mut Vec<(Bytes, i64)>, id: &Bytes, score: i64) {
    entries.retain(|(of, _)| of != id);
    entries.push((id.clone(), score));
    entries.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
}

/// An empty container does not exist.
fn full(value: RawValue) -> Option<RawValue> {
    let empty = match &value {
        RawValue::List(items) => items.is_empty(),
        RawValue::ZSet(entries) => entries.is_empty(),
        _ => false,
    };
    (!empty).then_some(value)
}
