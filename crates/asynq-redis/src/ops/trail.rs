//! The audit trail.

use asynq_core::{
    error::BrokerError,
    inspect::{Cursor, Page},
    keys::own,
    trail::{MAX_TRAIL, TRAIL_SLACK, TrailEntry, surplus},
};

use crate::{
    args::Args,
    broker::core::Core,
    reply::{Reply, int, scalar},
    scripts,
};

/// Entries that are read or removed at once, when there are too many.
const PART: usize = 500;

pub(crate) async fn record(core: &Core, act: &TrailEntry) -> Result<(), BrokerError> {
    let mut args = Args::with_capacity(2);
    args.push(act.encode());
    let args = args.int(i64::from(MAX_TRAIL + 2 * TRAIL_SLACK));
    let value = core
        .link
        .eval_apart(&scripts::RECORD_ACT, Args::from_iter([own::TRAIL]), args)
        .await?;
    let length = int("record_act", scalar("record_act", value)?)?;
    if length > i64::from(MAX_TRAIL + TRAIL_SLACK)
        && let Err(error) = make_room(core).await
    {
        tracing::warn!(%error, "the audit trail has too many entries, and none could be removed");
    }
    Ok(())
}

/// Removes the oldest entries of the operators who have most. Several calls at the same time remove the same ones.
async fn make_room(core: &Core) -> Result<(), BrokerError> {
    let (mut ids, mut operators) = (Vec::new(), Vec::new());
    loop {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(own::TRAIL)
            .arg(ids.last().map_or_else(|| "-".to_owned(), |id| format!("({id}")))
            .arg("+")
            .arg("COUNT")
            .arg(PART);
        let mut reply = Reply::new("XRANGE", core.link.command(&cmd).await?)?;
        if reply.is_empty() {
            break;
        }
        while !reply.is_empty() {
            let (id, act) = entry(&mut reply)?;
            ids.push(id);
            operators.push(act.and_then(|act| act.actor).map(|actor| actor.name));
        }
    }
    let gone = surplus(&operators, MAX_TRAIL as usize);
    for part in gone.chunks(PART) {
        let mut cmd = redis::cmd("XDEL");
        cmd.arg(own::TRAIL);
        for place in part {
            cmd.arg(&ids[*place]);
        }
        core.link.command(&cmd).await?;
    }
    Ok(())
}

/// Reads an entry of the stream: its id and the act, if it can be read.
fn entry(reply: &mut Reply) -> Result<(String, Option<TrailEntry>), BrokerError> {
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
    Ok((id, act))
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
        let (id, act) = entry(&mut reply)?;
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
