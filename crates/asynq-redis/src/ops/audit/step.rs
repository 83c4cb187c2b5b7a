//! The steps that are left of an audit, as the text of its cursor.

use std::collections::BTreeSet;

use asynq_core::{TaskState, keys, names::QueueName};

use crate::ops::list_search::SearchPlace;

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The ids of a container.
    Container {
        key: String,
        state: TaskState,
        place: Place,
    },
    /// The leases.
    Leases { place: Place },
    /// The index of groups.
    Groups { cursor: String },
    /// The keys; `listed` once the queue was found in the index of queues.
    Keys { cursor: String, listed: bool },
    /// Tasks that are looked for everywhere.
    Doubt(Doubt),
}

/// The place in a container, as `include/resume.lua` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// A score, or the number of entries behind.
    pub(super) at: String,
    /// The last entry that was looked at.
    pub(super) last: Vec<u8>,
}

/// Tasks that may not be where they should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The container whose look raised the doubt; empty for a look at the keys.
    pub(super) container: String,
    pub(super) tasks: Vec<Doubtful>,
    /// The search of `pending`; `None` once it is over.
    pub(super) search: Option<SearchPlace>,
    /// Tasks found in `pending`.
    pub(super) pending: BTreeSet<Vec<u8>>,
    /// `true` if all of `pending` was searched.
    pub(super) is_searched: bool,
    /// The cursor of SCAN over the groups; empty once it is over.
    pub(super) cursor: String,
    /// Groups and sets that hold a task, or to which one may go back.
    pub(super) groups: BTreeSet<Vec<u8>>,
}

/// A task as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubtful {
    pub(super) id: Vec<u8>,
    pub(super) state: Vec<u8>,
    pub(super) since: Vec<u8>,
}

/// Returns what an audit begins with. Groups and sets are found among the keys.
pub(super) fn all(queue: &QueueName) -> Vec<Step> {
    let states = TaskState::ALL
        .into_iter()
        .filter(|state| *state != TaskState::Aggregating);
    let containers = states.map(|state| Step::Container {
        key: keys::container(queue, state),
        state,
        place: Place::default(),
    });
    let (cursor, place) = ("0".to_owned(), Place::default());
    let others = [
        Step::Leases { place },
        Step::Groups { cursor: cursor.clone() },
        Step::Keys { cursor, listed: false },
    ];
    containers.chain(others).collect()
}

/// One line for each step, its fields parted by tabs.
pub(super) fn write(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| {
        let fields = match step {
            Step::Container { key, state, place } => {
                vec![
                    "c".to_owned(),
                    escape(key),
                    state.to_string(),
                    place.at.clone(),
                    hex(&place.last),
                ]
            }
            Step::Leases { place } => vec!["l".to_owned(), place.at.clone(), hex(&place.last)],
            Step::Groups { cursor } => vec!["g".to_owned(), escape(cursor)],
            Step::Keys { cursor, listed } => vec!["k".to_owned(), escape(cursor), u8::from(*listed).to_string()],
            Step::Doubt(doubt) => write_doubt(doubt),
        };
        fields.join("\t")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads the steps of a cursor. `None` if it was not written by an audit of this queue: whoever sent it could name any key of Redis.
pub(super) fn read(queue: &QueueName, text: &str) -> Option<Vec<Step>> {
    let steps = parse(text)?;
    let groups = keys::group_prefix(queue);
    let is_of_queue = |step: &Step| match step {
        Step::Container { key, state, .. } => match state {
            TaskState::Aggregating => key.starts_with(&groups),
            state => *key == keys::container(queue, *state),
        },
        Step::Doubt(doubt) => {
            let states = TaskState::ALL.map(|state| keys::container(queue, state));
            let container = &doubt.container;
            (container.is_empty() || container.starts_with(&groups) || states.contains(container))
                && doubt.groups.iter().all(|key| key.starts_with(groups.as_bytes()))
        }
        Step::Leases { .. } | Step::Groups { .. } | Step::Keys { .. } => true,
    };
    steps.iter().all(is_of_queue).then_some(steps)
}

fn parse(text: &str) -> Option<Vec<Step>> {
    let step = |line: &str| {
        let fields: Vec<_> = line.split('\t').collect();
        Some(match fields.as_slice() {
            ["c", key, state, at, last] => Step::Container {
                key: unescape(key),
                state: state.parse().ok()?,
                place: read_place(at, last)?,
            },
            ["l", at, last] => Step::Leases {
                place: read_place(at, last)?,
            },
            ["g", cursor] => Step::Groups {
                cursor: unescape(cursor),
            },
            ["k", cursor, listed] => Step::Keys {
                cursor: unescape(cursor),
                listed: *listed == "1",
            },
            ["d", fields @ ..] => Step::Doubt(read_doubt(fields)?),
            _ => return None,
        })
    };
    text.split('\n').map(step).collect()
}

fn read_place(at: &str, last: &str) -> Option<Place> {
    if !at.is_empty() {
        at.parse::<f64>().ok()?;
    }
    Some(Place {
        at: at.to_owned(),
        last: unhex(last)?,
    })
}

fn write_doubt(doubt: &Doubt) -> Vec<String> {
    let bytes = |all: &BTreeSet<Vec<u8>>| all.iter().map(|text| hex(text)).collect::<Vec<_>>().join(",");
    let tasks = doubt.tasks.iter().flat_map(|task| [&task.id, &task.state, &task.since]);
    let search = doubt.search.as_ref();
    vec![
        "d".to_owned(),
        escape(&doubt.container),
        tasks.map(|text| hex(text)).collect::<Vec<_>>().join(","),
        search.map(|place| place.index.to_string()).unwrap_or_default(),
        search.map(|place| hex(&place.before)).unwrap_or_default(),
        search.map(|place| place.restarts.to_string()).unwrap_or_default(),
        bytes(&doubt.pending),
        u8::from(doubt.is_searched).to_string(),
        escape(&doubt.cursor),
        bytes(&doubt.groups),
    ]
}

fn read_doubt(fields: &[&str]) -> Option<Doubt> {
    let [
        container,
        tasks,
        index,
        before,
        restarts,
        pending,
        is_searched,
        cursor,
        groups,
    ] = fields
    else {
        return None;
    };
    let list = |text: &str| match text {
        "" => Some(Vec::new()),
        text => text.split(',').map(unhex).collect::<Option<Vec<_>>>(),
    };
    let tasks = list(tasks)?;
    let tasks = tasks.chunks(3).map(|task| match task {
        [id, state, since] => Some(Doubtful {
            id: id.clone(),
            state: state.clone(),
            since: since.clone(),
        }),
        _ => None,
    });
    let search = match *index {
        "" => None,
        index => Some(SearchPlace {
            index: index.parse().ok()?,
            before: unhex(before)?,
            restarts: restarts.parse().ok()?,
        }),
    };
    Some(Doubt {
        container: unescape(container),
        tasks: tasks.collect::<Option<_>>()?,
        search,
        pending: list(pending)?.into_iter().collect(),
        is_searched: *is_searched == "1",
        cursor: unescape(cursor),
        groups: list(groups)?.into_iter().collect(),
    })
}

/// Names may hold anything, tabs and line ends too.
fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\t', "%09").replace('\n', "%0A")
}

fn unescape(text: &str) -> String {
    text.replace("%0A", "\n").replace("%09", "\t").replace("%25", "%")
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(half.into(), 16));
            }
            text
        })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let text = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
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
        let mut doubt = Doubt {
            container: keys::group_prefix(&queue) + "a\tb",
            tasks: vec![
                Doubtful {
                    id: b"\xff\n".to_vec(),
                    state: b"pending".to_vec(),
                    since: Vec::new(),
                },
                Doubtful::default(),
            ],
            search: Some(SearchPlace {
                index: 7,
                before: b"x".to_vec(),
                restarts: 1,
            }),
            pending: [b"a".to_vec()].into(),
            is_searched: true,
            cursor: "3".to_owned(),
            groups: ["1", "2"]
                .map(|name| (keys::group_prefix(&queue) + name).into_bytes())
                .into(),
        };
        steps.push(Step::Doubt(doubt.clone()));
        doubt.search = None;
        steps.push(Step::Doubt(doubt));
        assert_eq!(read(&queue, &write(&steps)), Some(steps));
        for bad in [
            "",
            "c\tk",
            "l\tx\t",
            "l\t1\t0",
            "z",
            "c\tk\trunning\t0\t",
            "d\t\t00",
            "d\t\t00\t\t\t\t\t0\t\t",
        ] {
            assert_eq!(read(&queue, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_cursor_names_no_key_of_others() {
        let (own, other) = (QueueName::new("mail").unwrap(), QueueName::new("secret").unwrap());
        let container = |key: String, state| {
            vec![Step::Container {
                key,
                state,
                place: Place::default(),
            }]
        };
        for (steps, is_taken) in [
            (
                container(keys::container(&own, TaskState::Scheduled), TaskState::Scheduled),
                true,
            ),
            (container(keys::group_prefix(&own) + "g", TaskState::Aggregating), true),
            (
                container(keys::container(&other, TaskState::Scheduled), TaskState::Scheduled),
                false,
            ),
            (
                container(keys::container(&own, TaskState::Scheduled), TaskState::Pending),
                false,
            ),
            (
                container(keys::group_prefix(&other) + "g", TaskState::Aggregating),
                false,
            ),
            (container("sessions".to_owned(), TaskState::Aggregating), false),
        ] {
            assert_eq!(read(&own, &write(&steps)).is_some(), is_taken, "{steps:?}");
        }
        for doubt in [
            Doubt {
                container: "sessions".to_owned(),
                ..Doubt::default()
            },
            Doubt {
                groups: [b"asynq:{secret}:g:1".to_vec()].into(),
                ..Doubt::default()
            },
        ] {
            assert_eq!(read(&own, &write(&[Step::Doubt(doubt)])), None);
        }
    }
}
