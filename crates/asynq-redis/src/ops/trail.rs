//! The audit trail.

use asynq_core::{
    error::BrokerError,
    inspect::{Cursor, Page},
    keys::own,
    trail::{MAX_TRAIL, TrailEntry},
};

use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, scalar},
    scripts,
};

pub(crate) async fn record(core: &Core, act: &TrailEntry) -> Result<(), BrokerError> {
    let mut args = Args::with_capacity(2);
    args.push(act.encode());
    let args = args.int(i64::from(MAX_TRAIL));
    let value = core
        .link
        .eval_apart(&scripts::RECORD_ACT, Args::from_iter([own::TRAIL]), args)
        .await?;
    scalar("record_act", value).map(drop)
}

/// A part of the trail, newest first. The cursor is the id of the last entry before it.
pub(crate) async fn read(core: &Core, cursor: Cursor, count: u32) -> Result<Page<TrailEntry>, BrokerError> {
    let count = count.clamp(1, MAX_TRAIL);
    let before = cursor.0.filter(|id| is_id(id));
    let mut cmd = redis::cmd("XREVRANGE");
    cmd.arg(own::TRAIL)
        .arg(before.map_or_else(|| "+".to_owned(), |id| format!("({id}")))
        .arg("-")
        .arg("COUNT")
        // One more shows whether others follow.
        .arg(count + 1);
    let answer = core.link.command(&cmd).await.map_err(|error| match error {
        // The answer of a command does not name the key.
        BrokerError::WrongType { .. } => BrokerError::WrongType {
            key: own::TRAIL.to_owned(),
        },
        other => other,
    })?;
    let mut reply = Reply::new("XREVRANGE", answer)?;
    let (mut items, mut last) = (Vec::new(), None);
    for _ in 0..count {
        if reply.is_empty() {
            last = None;
            break;
        }
        let mut entry = reply.list()?;
        let id = entry.text()?;
        let mut fields = entry.list()?;
        let mut act = None;
        while !fields.is_empty() {
            let (name, value) = (fields.bytes()?, fields.bytes()?);
            if name == b"act" {
                act = TrailEntry::decode(&value);
            }
        }
        match act {
            Some(act) => items.push(act),
            None => tracing::warn!(id, "an entry of the audit trail cannot be read"),
        }
        last = Some(id);
    }
    let next = last.filter(|_| !reply.is_empty()).map(|id| Cursor(Some(id)));
    Ok(Page { items, next })
}

/// Returns whether it is the id of an entry of a stream.
fn is_id(text: &str) -> bool {
    let is_number = |part: &str| part.parse::<u64>().is_ok();
    text.split_once('-')
        .is_some_and(|(time, number)| is_number(time) && is_number(number))
}
