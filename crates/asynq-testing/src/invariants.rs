//! The invariants of the layout (layout.md#invariants) over the raw keys of a storage.
//!
//! A second opinion beside [`Inspect::audit`](asynq_core::Inspect::audit), written without looking
//! at any broker. It sees values only: the lifetimes of counters are left to the audit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use asynq_core::{
    QueueName, TaskState,
    error::PoisonKind,
    inspect::Breach,
    keys::{self, field},
    message,
    names::TaskId,
    raw::{RawState, RawValue},
};
use bytes::Bytes;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// An invariant of a queue.
    Breach(QueueName, Breach),
    /// A key that the layout does not know.
    UnknownKey(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breach(queue, breach) => write!(f, "queue {queue}: {breach}"),
            Self::UnknownKey(key) => write!(f, "key {key} is not in the layout"),
        }
    }
}

/// All that does not hold, sorted; nothing if all is well.
#[must_use]
pub fn check(state: &RawState) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut queues: BTreeMap<QueueName, BTreeMap<&str, &RawValue>> = BTreeMap::new();
    for (key, value) in state {
        match split(key) {
            Some((queue, suffix)) => {
                queues.entry(queue).or_default().insert(suffix, value);
            }
            None if is_global(key) => {}
            None => found.push(Violation::UnknownKey(key.clone())),
        }
    }
    // What repairs, ticks and statistics leave behind for a while makes no queue.
    let passes = |suffix: &str| {
        matches!(suffix, "x:healer" | "x:heal") || suffix.starts_with("x:tick:") || suffix.starts_with("x:stats:")
    };
    queues.retain(|_, keys| keys.keys().any(|suffix| !passes(suffix)));
    let listed = match state.get(keys::QUEUES) {
        Some(RawValue::Set(names)) => names.clone(),
        _ => BTreeSet::new(),
    };
    for (queue, keys) in queues {
        let mut look = Look {
            queue: &queue,
            keys: &keys,
            breaches: Vec::new(),
            unknown: Vec::new(),
        };
        look.all();
        if !listed.contains(queue.as_str().as_bytes()) {
            look.breaches.push(Breach::UnlistedQueue { queue: queue.clone() });
        }
        found.extend(look.unknown.into_iter().map(Violation::UnknownKey));
        found.extend(
            look.breaches
                .into_iter()
                .map(|breach| Violation::Breach(queue.clone(), breach)),
        );
    }
    found.sort();
    found
}

/// Checks the state and panics with all that does not hold.
///
/// # Panics
/// If something does not hold.
#[track_caller]
pub fn assert_hold(state: &RawState) {
    let found = check(state);
    if !found.is_empty() {
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        panic!("invariants do not hold:\n{}\nin {state:#?}", lines.join("\n"));
    }
}

/// The queue and the suffix of `asynq:{Q}:suffix`.
fn split(key: &str) -> Option<(QueueName, &str)> {
    let (queue, suffix) = key.strip_prefix("asynq:{")?.split_once("}:")?;
    Some((QueueName::from_storage(queue), suffix))
}

fn is_global(key: &str) -> bool {
    let prefixes = [
        "servers:{",
        "workers:{",
        "schedulers:{",
        "scheduler_history:",
        "sema:",
        "x:",
    ];
    let Some(rest) = key.strip_prefix("asynq:") else {
        return false;
    };
    matches!(rest, "queues" | "servers" | "workers" | "schedulers")
        || prefixes.iter().any(|prefix| rest.starts_with(prefix))
}

fn type_name(value: &RawValue) -> &'static str {
    match value {
        RawValue::String(_) => "string",
        RawValue::List(_) => "list",
        RawValue::Set(_) => "set",
        RawValue::ZSet(_) => "zset",
        RawValue::Hash(_) => "hash",
    }
}

/// The type that the layout gives a key; `None`: it knows no such key, "" : any type.
fn layout_type(suffix: &str) -> Option<&'static str> {
    Some(match suffix {
        "pending" | "active" => "list",
        "lease" | "scheduled" | "retry" | "archived" | "completed" | "aggregation_sets" | "x:quarantine" => "zset",
        "groups" => "set",
        "paused" | "processed" | "failed" => "string",
        _ => match suffix.split_once(':')?.0 {
            "t" => "hash",
            "g" => "zset",
            "unique" | "processed" | "failed" => "string",
            "x" if suffix.starts_with("x:tick:") || matches!(suffix, "x:healer" | "x:heal") => "string",
            "x" if suffix.starts_with("x:stats:") => "hash",
            // What was put aside, and other keys of our own.
            "x" => "",
            _ => return None,
        },
    })
}

struct Look<'l> {
    queue: &'l QueueName,
    keys: &'l BTreeMap<&'l str, &'l RawValue>,
    breaches: Vec<Breach>,
    unknown: Vec<String>,
}

impl Look<'_> {
    fn all(&mut self) {
        self.types();
        let places = self.places();
        self.tasks(&places);
        self.leases();
        self.groups();
        self.locks();
        self.counters();
    }

    fn types(&mut self) {
        for (suffix, value) in self.keys {
            let key = keys::of_queue(self.queue, suffix);
            match layout_type(suffix) {
                None => self.unknown.push(key),
                Some(kind) if kind.is_empty() || kind == type_name(value) => {}
                Some(_) => self.breaches.push(Breach::WrongType {
                    key,
                    found: type_name(value).into(),
                }),
            }
        }
    }

    /// The ids in a container, each as often as it stands there.
    fn ids(&self, suffix: &str) -> Vec<TaskId> {
        let id = |bytes: &Bytes| TaskId::from_storage(&String::from_utf8_lossy(bytes));
        match self.keys.get(suffix) {
            Some(RawValue::List(items)) => items.iter().map(id).collect(),
            Some(RawValue::ZSet(entries)) => entries.iter().map(|(member, _)| id(member)).collect(),
            _ => Vec::new(),
        }
    }

    fn names(&self, suffix: &str) -> BTreeSet<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match self.keys.get(suffix) {
            Some(RawValue::Set(members)) => members.iter().map(text).collect(),
            Some(RawValue::ZSet(entries)) => entries.iter().map(|(member, _)| text(member)).collect(),
            _ => BTreeSet::new(),
        }
    }

    fn usable(&self, id: &TaskId) -> Result<String, PoisonKind> {
        let fields = match self.keys.get(format!("t:{id}").as_str()) {
            None => return Err(PoisonKind::NoHash),
            Some(RawValue::Hash(fields)) => fields,
            Some(_) => return Err(PoisonKind::NotAHash),
        };
        let bytes = fields.get(field::MSG).ok_or(PoisonKind::NoMessage)?;
        message::decode_for(bytes.clone(), self.queue, id)?;
        Ok(fields
            .get(field::STATE)
            .map(|state| String::from_utf8_lossy(state).into_owned())
            .unwrap_or_default())
    }

    /// Returns the containers of each id; in passing checks invariant 1.
    fn places(&mut self) -> BTreeMap<TaskId, Vec<String>> {
        let states = TaskState::ALL.iter().filter(|state| **state != TaskState::Aggregating);
        let mut containers: Vec<(String, TaskState)> = states.map(|state| (state.as_str().into(), *state)).collect();
        let groups = self.keys.keys().filter(|suffix| suffix.starts_with("g:"));
        containers.extend(groups.map(|suffix| ((*suffix).to_owned(), TaskState::Aggregating)));
        let mut places: BTreeMap<TaskId, Vec<String>> = BTreeMap::new();
        for (suffix, wanted) in containers {
            let container = keys::of_queue(self.queue, &suffix);
            for id in self.ids(&suffix) {
                match self.usable(&id) {
                    Ok(state) if state == wanted.as_str() => {}
                    Ok(state) => {
                        self.breaches.push(Breach::WrongState {
                            container: container.clone(),
                            id: id.clone(),
                            state,
                        });
                    }
                    Err(kind) => self.breaches.push(Breach::Dangling {
                        container: container.clone(),
                        id: id.clone(),
                        kind: kind.to_string(),
                    }),
                }
                places.entry(id).or_default().push(container.clone());
            }
        }
        places
    }

    /// Invariants 2 (the first half) and 3.
    fn tasks(&mut self, places: &BTreeMap<TaskId, Vec<String>>) {
        for (id, containers) in places.iter().filter(|(_, containers)| containers.len() > 1) {
            self.breaches.push(Breach::Duplicated {
                id: id.clone(),
                containers: containers.clone(),
            });
        }
        for (suffix, value) in self.keys {
            let (Some(id), RawValue::Hash(fields)) = (suffix.strip_prefix("t:"), value) else {
                continue;
            };
            let id = TaskId::from_storage(id);
            let state = fields
                .get(field::STATE)
                .map(|state| String::from_utf8_lossy(state).into_owned());
            let state = state.unwrap_or_default();
            if !places.contains_key(&id) {
                self.breaches.push(Breach::Unlisted {
                    id: id.clone(),
                    state: state.clone(),
                });
            }
            if fields.contains_key(field::PENDING_SINCE) != (state == TaskState::Pending.as_str()) {
                self.breaches.push(Breach::PendingSince { id, state });
            }
        }
    }

    /// Invariant 2, the second half.
    fn leases(&mut self) {
        let (active, leases) = (self.ids("active"), self.ids("lease"));
        let unleased = active.iter().filter(|id| !leases.contains(id));
        self.breaches
            .extend(unleased.map(|id| Breach::NoLease { id: id.clone() }));
        let stale = leases.iter().filter(|id| !active.contains(id));
        self.breaches
            .extend(stale.map(|id| Breach::StaleLease { id: id.clone() }));
    }

    /// Returns whether a name in no index is that of a set, by the group in the hashes of its tasks, or else
    /// by its looks.
    fn is_of_a_set(&self, name: &str) -> bool {
        let Some((group, set)) = name.rsplit_once(':') else {
            return false;
        };
        let ids = self.ids(&format!("g:{name}"));
        let mut named = ids
            .iter()
            .filter_map(|id| match self.keys.get(format!("t:{id}").as_str()) {
                Some(RawValue::Hash(fields)) => fields.get(field::GROUP).filter(|group| !group.is_empty()),
                _ => None,
            });
        is_uuid(set) && named.next().is_none_or(|named| *named == group.as_bytes())
    }

    /// Invariant 4.
    fn groups(&mut self) {
        let (index, sets) = (self.names("groups"), self.names("aggregation_sets"));
        for name in self.keys.keys().filter_map(|suffix| suffix.strip_prefix("g:")) {
            let key = keys::of_queue(self.queue, &format!("g:{name}"));
            if sets.contains(&key) || index.contains(name) {
            } else if self.is_of_a_set(name) {
                self.breaches.push(Breach::UnlistedSet { set: key });
            } else {
                self.breaches.push(Breach::GroupIndex {
                    group: name.to_owned(),
                    has_tasks: true,
                });
            }
        }
        let empty = index
            .into_iter()
            .filter(|group| !self.keys.contains_key(format!("g:{group}").as_str()));
        self.breaches.extend(empty.map(|group| Breach::GroupIndex {
            group,
            has_tasks: false,
        }));
    }

    /// Invariant 5, read the other way round: no lock without an owner.
    fn locks(&mut self) {
        for (suffix, value) in self.keys.iter().filter(|(suffix, _)| suffix.starts_with("unique:")) {
            let RawValue::String(owner) = value else { continue };
            let id = String::from_utf8_lossy(owner).into_owned();
            if !self.keys.contains_key(format!("t:{id}").as_str()) {
                self.breaches.push(Breach::OwnerlessLock {
                    lock: keys::of_queue(self.queue, suffix),
                    id,
                });
            }
        }
    }

    /// Invariant 6, as far as values tell.
    fn counters(&mut self) {
        let number = |value: Option<&&RawValue>| match value {
            Some(RawValue::String(digits)) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
            None => Some(0),
            Some(_) => None,
        };
        for suffix in self.keys.keys() {
            let Some(day) = suffix
                .strip_prefix("failed")
                .filter(|day| day.is_empty() || day.starts_with(':'))
            else {
                continue;
            };
            let processed = number(self.keys.get(format!("processed{day}").as_str()));
            if number(self.keys.get(suffix)) > processed {
                let problem = "more tasks failed than were processed".to_owned();
                self.breaches.push(Breach::Counter {
                    key: keys::of_queue(self.queue, suffix),
                    problem,
                });
            }
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use asynq_core::raw::RawValue;

    use super::*;
    use crate::request;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn healthy() -> RawState {
        let fields = [
            ("msg", request("q", "a").encoded()),
            ("state", bytes("pending")),
            ("pending_since", bytes("1")),
        ];
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        RawState::from([
            ("asynq:queues".into(), RawValue::Set([bytes("q")].into())),
            ("asynq:{q}:pending".into(), RawValue::List(vec![bytes("a")])),
            ("asynq:{q}:t:a".into(), RawValue::Hash(fields)),
        ])
    }

    #[test]
    fn a_healthy_queue_has_no_violations() {
        assert_hold(&healthy());
        assert_hold(&RawState::new());
    }

    #[test]
    fn each_damage_is_seen() {
        let damages: [(&str, RawValue, &str); 9] = [
            ("asynq:{q}:active", RawValue::List(vec![bytes("a")]), "stands in"),
            (
                "asynq:{q}:lease",
                RawValue::ZSet(vec![(bytes("b"), 1)]),
                "no active task",
            ),
            ("asynq:{q}:retry", RawValue::ZSet(vec![(bytes("z"), 1)]), "no task hash"),
            (
                "asynq:{q}:groups",
                RawValue::Set([bytes("g")].into()),
                "in the index is empty",
            ),
            ("asynq:{q}:unique:t:", RawValue::String(bytes("z")), "which has no task"),
            ("asynq:{q}:failed", RawValue::String(bytes("3")), "more tasks failed"),
            ("asynq:{q}:archived", RawValue::String(bytes("3")), "is a string"),
            ("asynq:{q}:typo", RawValue::String(bytes("3")), "not in the layout"),
            (
                "asynq:{other}:paused",
                RawValue::String(bytes("3")),
                "not in the index of queues",
            ),
        ];
        for (key, value, text) in damages {
            let mut state = healthy();
            state.insert(key.into(), value);
            let found: Vec<_> = check(&state).iter().map(ToString::to_string).collect();
            assert!(found.iter().any(|line| line.contains(text)), "{key}: {found:?}");
        }
    }
}
