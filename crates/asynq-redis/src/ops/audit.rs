//! The invariants of the layout (layout.md#invariants), a part in each call.
//!
//! An audit is a list of steps; the cursor is what is left of it. A step looks at a part of one
//! container, or of the keys of the queue, in one script, so each finding was true at one moment.

use asynq_core::{
    TaskState,
    broker::MAX_BATCH_BYTES,
    error::BrokerError,
    excerpt::Excerpt,
    inspect::{Breach, Cursor, Page},
    keys,
    names::{QueueName, TaskId},
};

use super::{
    exchange::decode,
    group_search::{groups_holding, tasks_a_call},
    heal::places,
    inspect,
};
use crate::{
    args::{Args, bound, keys_of, pattern_of},
    broker::core::Core,
    reply::{Reply, protocol},
    scripts,
};

/// Number of keys of the database, leases or groups that one call looks at.
const KEYS: i64 = 100;
/// Number of ids of a container that one call looks at: a millisecond or two of Redis.
const IDS: i64 = 100;

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The ids of a container, from an index on.
    Container { key: String, state: TaskState, from: i64 },
    /// The leases, from a rank on.
    Leases { from: i64 },
    /// The index of groups.
    Groups { cursor: String },
    /// The keys; `listed` once the queue was found in the index of queues.
    Keys { cursor: String, listed: bool },
}

pub(crate) async fn audit(core: &Core, queue: &QueueName, cursor: Cursor) -> Result<Page<Breach>, BrokerError> {
    let mut steps = match cursor.0 {
        None => all(queue),
        Some(text) => read_steps(&text).ok_or_else(|| BrokerError::Refused {
            source: "this cursor is not of an audit".into(),
        })?,
    };
    let mut items = Vec::new();
    if !steps.is_empty() {
        let mut then = match steps.remove(0) {
            Step::Container { key, state, from } => container(core, queue, key, state, from, &mut items).await?,
            Step::Leases { from } => leases(core, queue, from, &mut items).await?,
            Step::Groups { cursor } => groups(core, queue, cursor, &mut items).await?,
            Step::Keys { cursor, listed } => keys_of_queue(core, queue, cursor, listed, &mut items).await?,
        };
        then.append(&mut steps);
        steps = then;
    }
    items.sort();
    items.dedup();
    let next = (!steps.is_empty()).then(|| Cursor(Some(write_steps(&steps))));
    Ok(Page { items, next })
}

/// Returns what an audit begins with. Groups and sets are found among the keys.
fn all(queue: &QueueName) -> Vec<Step> {
    let of = |state| Step::Container {
        key: keys::container(queue, state),
        state,
        from: 0,
    };
    vec![
        of(TaskState::Pending),
        of(TaskState::Active),
        of(TaskState::Scheduled),
        of(TaskState::Retry),
        of(TaskState::Archived),
        of(TaskState::Completed),
        Step::Leases { from: 0 },
        Step::Groups { cursor: "0".to_owned() },
        Step::Keys {
            cursor: "0".to_owned(),
            listed: false,
        },
    ]
}

async fn container(
    core: &Core,
    queue: &QueueName,
    key: String,
    state: TaskState,
    from: i64,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
    let is_list = matches!(state, TaskState::Pending | TaskState::Active);
    let args = Args::with_capacity(5)
        .text(&keys::queue_prefix(queue))
        .text(if is_list { "list" } else { "zset" })
        .int(from)
        .int(IDS)
        .int(bound(MAX_BATCH_BYTES));
    let mut keys = places(queue);
    keys.push(&key);
    let value = core.link.eval(&scripts::AUDIT_CONTAINER, keys, args).await?;
    let mut reply = Reply::of_script("audit_container", value)?;
    let next = reply.int()?;
    let mut doubtful = Vec::new();
    while !reply.is_empty() {
        let (raw_id, damage, found) = (reply.bytes()?, reply.damage()?, reply.text()?);
        let (msg, has_lease, elsewhere) = (reply.bytes()?, reply.int()? == 1, reply.int()? == 1);
        let id = TaskId::from_storage(&String::from_utf8_lossy(&raw_id));
        match damage.map_or_else(|| decode(queue, &raw_id, msg).map_err(|(_, kind)| kind).map(drop), Err) {
            Err(kind) => {
                let kind = kind.to_string();
                items.push(Breach::Dangling {
                    container: key.clone(),
                    id: id.clone(),
                    kind,
                });
            }
            Ok(()) if found != state.as_str() => {
                items.push(Breach::WrongState {
                    container: key.clone(),
                    id: id.clone(),
                    state: found,
                });
            }
            Ok(()) => {}
        }
        if state == TaskState::Active && !has_lease {
            items.push(Breach::NoLease { id: id.clone() });
        }
        if elsewhere {
            doubtful.push(raw_id);
        }
    }
    let groups = keys::group_prefix(queue);
    for found in whereabouts(core, queue, doubtful).await? {
        if let Some(containers) = found.told_by(&key, &groups) {
            items.push(Breach::Duplicated {
                id: found.id,
                containers,
            });
        }
    }
    Ok(if next < 0 {
        Vec::new()
    } else {
        vec![Step::Container { key, state, from: next }]
    })
}

/// The places of a task, of all the places there are.
struct Whereabouts {
    id: TaskId,
    state: String,
    /// `true` if the task has a key, and could be looked for everywhere.
    is_sure: bool,
    /// The places that its hash leads to, once for each time.
    known: Vec<String>,
    /// Groups and sets beyond those.
    others: Vec<String>,
}

impl Whereabouts {
    /// Returns all places, if there are several, for the first container whose look at the task shows that
    /// something is wrong.
    fn told_by(&self, container: &str, groups: &str) -> Option<Vec<String>> {
        let teller = if self.known.len() > 1 {
            &self.known
        } else {
            &self.others
        };
        let told = self.known.len() + self.others.len() > 1 && teller.first().is_some_and(|first| first == container);
        told.then(|| {
            let all = self.known.iter().chain(&self.others).cloned();
            let (mut groups, mut containers): (Vec<_>, Vec<_>) = all.partition(|key| key.starts_with(groups));
            groups.sort();
            containers.append(&mut groups);
            containers
        })
    }
}

/// Looks for tasks everywhere.
async fn whereabouts(core: &Core, queue: &QueueName, ids: Vec<Vec<u8>>) -> Result<Vec<Whereabouts>, BrokerError> {
    let mut all = Vec::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(all);
    }
    let names: Vec<&[u8]> = ids.iter().map(Vec::as_slice).collect();
    let Some(groups) = groups_holding(core, queue, &names).await? else {
        return Ok(all);
    };
    for part in ids.chunks(tasks_a_call(groups.len())) {
        let mut args = Args::with_capacity(2 + groups.len() + part.len()).text(&keys::queue_prefix(queue));
        args.push_count(groups.len());
        groups.iter().chain(part).for_each(|name| args.push(name));
        let value = core.link.eval(&scripts::AUDIT_PLACES, places(queue), args).await?;
        let mut reply = Reply::of_script("audit_places", value)?;
        for id in part {
            all.push(Whereabouts {
                id: TaskId::from_storage(&String::from_utf8_lossy(id)),
                state: reply.text()?,
                is_sure: reply.int()? == 1,
                known: reply.list()?.texts()?,
                others: reply.list()?.texts()?,
            });
        }
    }
    Ok(all)
}

async fn leases(core: &Core, queue: &QueueName, from: i64, items: &mut Vec<Breach>) -> Result<Vec<Step>, BrokerError> {
    let args = Args::with_capacity(3)
        .text(&keys::queue_prefix(queue))
        .int(from)
        .int(KEYS);
    let value = core.link.eval(&scripts::AUDIT_LEASES, places(queue), args).await?;
    let mut reply = Reply::of_script("audit_leases", value)?;
    let next = reply.int()?;
    while !reply.is_empty() {
        items.push(Breach::StaleLease { id: reply.id()? });
    }
    Ok(if next < 0 {
        Vec::new()
    } else {
        vec![Step::Leases { from: next }]
    })
}

async fn groups(
    core: &Core,
    queue: &QueueName,
    cursor: String,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
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
        items.push(Breach::GroupIndex {
            group: reply.text()?,
            has_tasks: false,
        });
    }
    Ok(if cursor == "0" {
        Vec::new()
    } else {
        vec![Step::Groups { cursor }]
    })
}

async fn keys_of_queue(
    core: &Core,
    queue: &QueueName,
    cursor: String,
    mut listed: bool,
    items: &mut Vec<Breach>,
) -> Result<Vec<Step>, BrokerError> {
    let args = Args::with_capacity(4)
        .text(&keys::queue_prefix(queue))
        .text(&pattern_of(queue, ""))
        .text(&cursor)
        .int(KEYS);
    let value = core.link.eval(&scripts::AUDIT_KEYS, places(queue), args).await?;
    let mut reply = Reply::of_script("audit_keys", value)?;
    let cursor = reply.text()?;
    if reply.int()? > 0 && !listed {
        listed = true;
        if !inspect::is_listed(core, queue).await? {
            items.push(Breach::UnlistedQueue { queue: queue.clone() });
        }
    }
    let (mut steps, mut doubtful) = (Vec::new(), Vec::new());
    while !reply.is_empty() {
        let mut finding = reply.list()?;
        match finding.text()?.as_str() {
            "unlisted" => doubtful.push(finding.bytes()?),
            "since" => items.push(Breach::PendingSince {
                id: finding.id()?,
                state: finding.text()?,
            }),
            "gathered" => {
                steps.push(Step::Container {
                    key: finding.text()?,
                    state: TaskState::Aggregating,
                    from: 0,
                });
            }
            "group" => items.push(Breach::GroupIndex {
                group: finding.text()?,
                has_tasks: true,
            }),
            "set" => items.push(Breach::UnlistedSet { set: finding.text()? }),
            "lock" => items.push(Breach::OwnerlessLock {
                lock: finding.text()?,
                id: finding.text()?,
            }),
            "counter" => items.push(Breach::Counter {
                key: finding.text()?,
                problem: problem(&finding.text()?),
            }),
            "type" => items.push(Breach::WrongType {
                key: finding.text()?,
                found: finding.text()?,
            }),
            other => return Err(protocol("audit_keys", format!("{:?} is no finding", Excerpt(other)))),
        }
    }
    for found in whereabouts(core, queue, doubtful).await? {
        if found.is_sure && found.known.len() + found.others.len() == 0 {
            items.push(Breach::Unlisted {
                id: found.id,
                state: found.state,
            });
        }
    }
    if cursor != "0" {
        steps.push(Step::Keys { cursor, listed });
    }
    Ok(steps)
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

/// One line for each step, its fields parted by tabs.
fn write_steps(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| match step {
        Step::Container { key, state, from } => format!("c\t{}\t{state}\t{from}", escape(key)),
        Step::Leases { from } => format!("l\t{from}"),
        Step::Groups { cursor } => format!("g\t{}", escape(cursor)),
        Step::Keys { cursor, listed } => format!("k\t{}\t{}", escape(cursor), u8::from(*listed)),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn read_steps(text: &str) -> Option<Vec<Step>> {
    let step = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        Some(match fields.as_slice() {
            ["c", key, state, from] => Step::Container {
                key: unescape(key),
                state: state.parse().ok()?,
                from: from.parse().ok()?,
            },
            ["l", from] => Step::Leases {
                from: from.parse().ok()?,
            },
            ["g", cursor] => Step::Groups {
                cursor: unescape(cursor),
            },
            ["k", cursor, listed] => Step::Keys {
                cursor: unescape(cursor),
                listed: *listed == "1",
            },
            _ => return None,
        })
    };
    text.split('\n').map(step).collect()
}

/// Names may hold anything, tabs and line ends too.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\t', "%09").replace('\n', "%0A")
}

fn unescape(text: &str) -> String {
    text.replace("%0A", "\n").replace("%09", "\t").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_keeps_what_is_left() {
        let queue = QueueName::new("a\tb\n%0A").unwrap();
        let mut steps = all(&queue);
        steps.insert(
            0,
            Step::Keys {
                cursor: "17".to_owned(),
                listed: true,
            },
        );
        assert_eq!(read_steps(&write_steps(&steps)), Some(steps));
        for bad in ["", "c\tk", "l\tx", "z", "c\tk\trunning\t0"] {
            assert_eq!(read_steps(bad), None, "{bad:?}");
        }
    }
}
