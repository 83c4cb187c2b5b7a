//! The invariants of the layout (layout.md#invariants), a part in each call.
//!
//! An audit is a list of steps; the cursor is what is left of it. A step looks at a part of one
//! container, or of the keys of the queue, in one script, so each finding was true at one moment. Tasks that may be
//! nowhere, or in two containers, are looked for everywhere in further steps, and then judged in one script.

mod doubt;
mod step;

use asynq_core::{
    TaskState,
    broker::MAX_BATCH_BYTES,
    error::BrokerError,
    excerpt::Excerpt,
    inspect::{AuditPage, Breach, Cursor},
    keys,
    names::{QueueName, TaskId},
};

use self::step::{Doubt, Doubtful, Place, Step};
use super::{
    exchange::decode,
    heal::{OVERTAKEN, places},
    inspect,
};
use crate::{
    args::{Args, bound, keys_of, pattern_of},
    broker::core::Core,
    reply::{Reply, int, protocol},
    scripts,
};

/// Number of keys of the database, leases or groups that one call looks at.
const KEYS: i64 = 100;
/// Number of ids of a container that one call looks at: a millisecond or two of Redis.
const IDS: i64 = 100;

/// The findings of one call, and the number of ids and keys that it looked at.
#[derive(Debug, Default)]
struct Found {
    items: Vec<Breach>,
    looked: u64,
}

pub(crate) async fn audit(core: &Core, queue: &QueueName, cursor: Cursor) -> Result<AuditPage, BrokerError> {
    let mut steps = match cursor.0 {
        None => step::all(queue),
        Some(text) => step::read(queue, &text).ok_or_else(|| BrokerError::Refused {
            source: "this cursor is not of an audit".into(),
        })?,
    };
    let mut found = Found::default();
    if !steps.is_empty() {
        let mut then = match steps.remove(0) {
            Step::Container { key, state, place } => container(core, queue, key, state, place, &mut found).await?,
            Step::Leases { place } => leases(core, queue, place, &mut found).await?,
            Step::Groups { cursor } => groups(core, queue, cursor, &mut found).await?,
            Step::Keys { cursor, listed } => keys_of_queue(core, queue, cursor, listed, &mut found).await?,
            Step::Doubt(doubt) => doubt::go_on(core, queue, doubt, &mut found.items).await?,
        };
        then.append(&mut steps);
        steps = then;
    }
    let Found { mut items, looked } = found;
    items.sort();
    items.dedup();
    let next = (!steps.is_empty()).then(|| Cursor(Some(step::write(&steps))));
    Ok(AuditPage { items, next, looked })
}

async fn container(
    core: &Core,
    queue: &QueueName,
    key: String,
    state: TaskState,
    place: Place,
    found: &mut Found,
) -> Result<Vec<Step>, BrokerError> {
    let is_list = matches!(state, TaskState::Pending | TaskState::Active);
    let mut args = Args::with_capacity(6)
        .text(&keys::queue_prefix(queue))
        .text(if is_list { "list" } else { "zset" })
        .text(&place.at);
    args.push(&place.last);
    let args = args.int(IDS).int(bound(MAX_BATCH_BYTES));
    let mut keys = places(queue);
    keys.push(&key);
    let value = core.link.eval(&scripts::AUDIT_CONTAINER, keys, args).await?;
    let mut reply = Reply::of_script("audit_container", value)?;
    let (is_done, place) = (reply.int()? == 1, read_place(&mut reply)?);
    let mut tasks = Vec::new();
    while !reply.is_empty() {
        let (raw_id, damage, of, since) = (reply.bytes()?, reply.damage()?, reply.bytes()?, reply.bytes()?);
        let (msg, has_lease, elsewhere) = (reply.bytes()?, reply.int()? == 1, reply.int()? == 1);
        let id = TaskId::from_storage(&String::from_utf8_lossy(&raw_id));
        found.looked += 1;
        match damage.map_or_else(|| decode(queue, &raw_id, msg).map_err(|(_, kind)| kind).map(drop), Err) {
            Err(kind) => {
                let kind = kind.to_string();
                found.items.push(Breach::Dangling {
                    container: key.clone(),
                    id: id.clone(),
                    kind,
                });
            }
            Ok(()) if of != state.as_str().as_bytes() => {
                found.items.push(Breach::WrongState {
                    container: key.clone(),
                    id: id.clone(),
                    state: String::from_utf8_lossy(&of).into_owned(),
                });
            }
            Ok(()) => {}
        }
        if state == TaskState::Active && !has_lease {
            found.items.push(Breach::NoLease { id });
        }
        if elsewhere {
            tasks.push(Doubtful {
                id: raw_id,
                state: of,
                since,
            });
        }
    }
    let mut steps = doubts(core, queue, key.clone(), tasks, &mut found.items).await?;
    if !is_done {
        steps.push(Step::Container { key, state, place });
    }
    Ok(steps)
}

/// Begins to look for tasks everywhere.
async fn doubts(
    core: &Core,
    queue: &QueueName,
    container: String,
    tasks: Vec<Doubtful>,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
    match tasks.is_empty() {
        true => Ok(Vec::new()),
        false => doubt::go_on(core, queue, Doubt::new(container, tasks), items).await,
    }
}

fn read_place(reply: &mut Reply) -> Result<Place, BrokerError> {
    Ok(Place {
        at: reply.text()?,
        last: reply.bytes()?,
    })
}

async fn leases(core: &Core, queue: &QueueName, place: Place, found: &mut Found) -> Result<Vec<Step>, BrokerError> {
    let mut args = Args::with_capacity(4).text(&keys::queue_prefix(queue)).text(&place.at);
    args.push(&place.last);
    let value = core
        .link
        .eval(&scripts::AUDIT_LEASES, places(queue), args.int(KEYS))
        .await?;
    let mut reply = Reply::of_script("audit_leases", value)?;
    let (is_done, place) = (reply.int()? == 1, read_place(&mut reply)?);
    found.looked += u64::try_from(reply.int()?).unwrap_or(0);
    while !reply.is_empty() {
        found.items.push(Breach::StaleLease { id: reply.id()? });
    }
    Ok(match is_done {
        true => Vec::new(),
        false => vec![Step::Leases { place }],
    })
}

async fn groups(core: &Core, queue: &QueueName, cursor: String, found: &mut Found) -> Result<Vec<Step>, BrokerError> {
    let args = Args::with_capacity(3)
        .text(&keys::queue_prefix(queue))
        .text(&cursor)
        .int(KEYS);
    let value = core
        .link
        .eval(&scripts::AUDIT_GROUPS, keys_of(queue, &["groups"]), args)
        .await?;
    let mut reply = Reply::of_script("audit_groups", value)?;
    let cursor = reply.text()?;
    while !reply.is_empty() {
        found.items.push(Breach::GroupIndex {
            group: reply.text()?,
            has_tasks: false,
        });
    }
    Ok(match cursor.as_str() {
        "0" => Vec::new(),
        _ => vec![Step::Groups { cursor }],
    })
}

/// Returns whether a queue of which a key was seen is not in the index of queues. The index has a slot of its own, and a
/// queue that is made or deleted is not in it for a moment: so the key must still be there between two looks.
async fn is_unlisted(core: &Core, queue: &QueueName, key: &[u8]) -> Result<bool, BrokerError> {
    if inspect::is_listed(core, queue).await? {
        return Ok(false);
    }
    let mut exists = redis::cmd("EXISTS");
    exists.arg(key);
    let is_there = int("EXISTS", core.link.command(&exists).await?)? > 0;
    Ok(is_there && !inspect::is_listed(core, queue).await?)
}

async fn keys_of_queue(
    core: &Core,
    queue: &QueueName,
    cursor: String,
    mut listed: bool,
    found: &mut Found,
) -> Result<Vec<Step>, BrokerError> {
    let overtaken = i64::try_from(OVERTAKEN.as_nanos()).unwrap_or(i64::MAX);
    let args = Args::with_capacity(5)
        .text(&keys::queue_prefix(queue))
        .text(&pattern_of(queue, ""))
        .text(&cursor)
        .int(KEYS)
        .int(overtaken);
    let value = core.link.eval(&scripts::AUDIT_KEYS, places(queue), args).await?;
    let mut reply = Reply::of_script("audit_keys", value)?;
    let cursor = reply.text()?;
    found.looked += u64::try_from(reply.int()?).unwrap_or(0);
    let key = reply.bytes()?;
    if !key.is_empty() && !listed {
        listed = true;
        if is_unlisted(core, queue, &key).await? {
            found.items.push(Breach::UnlistedQueue { queue: queue.clone() });
        }
    }
    let (mut steps, mut tasks) = (Vec::new(), Vec::new());
    while !reply.is_empty() {
        let mut finding = reply.list()?;
        match finding.text()?.as_str() {
            "unlisted" => tasks.push(Doubtful {
                id: finding.bytes()?,
                state: finding.bytes()?,
                since: finding.bytes()?,
            }),
            "since" => found.items.push(Breach::PendingSince {
                id: finding.id()?,
                state: finding.text()?,
            }),
            "gathered" => {
                steps.push(Step::Container {
                    key: finding.text()?,
                    state: TaskState::Aggregating,
                    place: Place::default(),
                });
            }
            "group" => found.items.push(Breach::GroupIndex {
                group: finding.text()?,
                has_tasks: true,
            }),
            "set" => found.items.push(Breach::UnlistedSet { set: finding.text()? }),
            "lock" => found.items.push(Breach::OwnerlessLock {
                lock: finding.text()?,
                id: finding.text()?,
            }),
            "counter" => found.items.push(Breach::Counter {
                key: finding.text()?,
                problem: problem(&finding.text()?),
            }),
            "type" => found.items.push(Breach::WrongType {
                key: finding.text()?,
                found: finding.text()?,
            }),
            other => return Err(protocol("audit_keys", format!("{:?} is no finding", Excerpt(other)))),
        }
    }
    let mut all = doubts(core, queue, String::new(), tasks, &mut found.items).await?;
    all.append(&mut steps);
    if cursor != "0" {
        all.push(Step::Keys { cursor, listed });
    }
    Ok(all)
}

/// Returns what is wrong with a counter, in words.
fn problem(word: &str) -> String {
    match word {
        "more" => "more tasks failed than were processed",
        "no end" => "a daily counter without an end",
        "an end" => "a total with an end",
        "number" => "not a number",
        other => other,
    }
    .to_owned()
}
