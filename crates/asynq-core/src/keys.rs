//! Every key of the Redis layout, in one place: Go's, and [`own`] ours.

use std::fmt::{self, Write as _};

use crate::{
    names::{GroupKey, QueueName, TaskId},
    task_state::TaskState,
};

/// The highest score that is written. A higher score cannot represent every whole number. Later times are written as
/// this score, which is 285 million years from now.
pub const MAX_SCORE: i64 = 1 << 53;
/// SET of queue names.
pub const QUEUES: &str = "asynq:queues";
/// ZSET of server-info keys.
pub const SERVERS: &str = "asynq:servers";
/// ZSET of worker-info keys.
pub const WORKERS: &str = "asynq:workers";
/// ZSET of scheduler-entries keys.
pub const SCHEDULERS: &str = "asynq:schedulers";
/// Pub/sub channel of cancel requests; the payload is the bare task id.
pub const CANCEL_CHANNEL: &str = "asynq:cancel";

/// `asynq:{Q}:`, the prefix of everything that belongs to a queue.
#[must_use]
pub fn queue_prefix(queue: &QueueName) -> String {
    format!("asynq:{{{queue}}}:")
}

/// A key of a queue, by its suffix; see [`of_queue`].
#[derive(Clone, Copy, Debug)]
pub struct KeyOf<'a>(pub &'a QueueName, pub &'a str);

impl<'a> KeyOf<'a> {
    fn parts(self) -> [&'a str; 4] {
        ["asynq:{", self.0.as_str(), "}:", self.1]
    }
}

impl fmt::Display for KeyOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().into_iter().try_for_each(|part| f.write_str(part))
    }
}

/// The key of a queue with this suffix: `pending`, `lease`, `processed:2026-05-14` …
#[must_use]
pub fn of_queue(queue: &QueueName, suffix: &str) -> String {
    let parts = KeyOf(queue, suffix).parts();
    let mut key = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    key.extend(parts);
    key
}

/// The task hash.
#[must_use]
pub fn task(queue: &QueueName, id: &TaskId) -> String {
    format!("asynq:{{{queue}}}:t:{id}")
}

/// The prefix of the queue's task hashes.
#[must_use]
pub fn task_prefix(queue: &QueueName) -> String {
    of_queue(queue, "t:")
}

/// The list or sorted set of a state. Aggregating tasks stand in [`group`] sets instead.
#[must_use]
pub fn container(queue: &QueueName, state: TaskState) -> String {
    of_queue(queue, state.as_str())
}

/// The sorted set of a group.
#[must_use]
pub fn group(queue: &QueueName, group: &GroupKey) -> String {
    format!("asynq:{{{queue}}}:g:{group}")
}

/// The prefix of the queue's group sets.
#[must_use]
pub fn group_prefix(queue: &QueueName) -> String {
    of_queue(queue, "g:")
}

/// The sorted set of one aggregation set of a group.
#[must_use]
pub fn aggregation_set(queue: &QueueName, group: &GroupKey, set: &str) -> String {
    format!("asynq:{{{queue}}}:g:{group}:{set}")
}

/// Returns the group of an aggregation set's key: the part between `asynq:{Q}:g:` and the last colon.
#[must_use]
pub fn group_of_set<'k>(queue: &QueueName, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(group_prefix(queue).as_str())?
        .rsplit_once(':')
        .map(|(group, _)| group)
}

/// Returns the name of the unique lock of a queue, a type and a payload. Without a payload (Go's nil) the part after
/// the last colon is empty. An empty payload has an MD5 like any other.
#[must_use]
pub fn unique(queue: &QueueName, task_type: &str, payload: Option<&[u8]>) -> String {
    let mut key = format!("asynq:{{{queue}}}:unique:{task_type}:");
    if let Some(payload) = payload {
        for byte in md5::compute(payload).iter() {
            // Writing to a String cannot fail.
            let _ = write!(key, "{byte:02x}");
        }
    }
    key
}

/// The prefix that every lock of the queue has; no other key is ever treated as a lock.
#[must_use]
pub fn unique_prefix(queue: &QueueName) -> String {
    of_queue(queue, "unique:")
}

/// Returns whether a key begins with [`unique_prefix`].
#[must_use]
pub fn is_unique(queue: &QueueName, key: &str) -> bool {
    let parts = KeyOf(queue, "unique:").parts();
    parts
        .into_iter()
        .try_fold(key, |rest, part| rest.strip_prefix(part))
        .is_some()
}

/// The UTC day in the names of the daily counters.
#[must_use]
pub fn day(at: chrono::DateTime<chrono::Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// The serialized `ServerInfo` of a server.
#[must_use]
pub fn server_info(host: &str, pid: i32, server_id: &str) -> String {
    format!("asynq:servers:{{{host}:{pid}:{server_id}}}")
}

/// The hash of `WorkerInfo` of a server.
#[must_use]
pub fn worker_info(host: &str, pid: i32, server_id: &str) -> String {
    format!("asynq:workers:{{{host}:{pid}:{server_id}}}")
}

/// The list of `SchedulerEntry` of a scheduler.
#[must_use]
pub fn scheduler_entries(scheduler_id: &str) -> String {
    format!("asynq:schedulers:{{{scheduler_id}}}")
}

/// The enqueue history of a scheduler entry.
#[must_use]
pub fn scheduler_history(entry_id: &str) -> String {
    format!("asynq:scheduler_history:{entry_id}")
}

/// Fields of the task hash that Go writes and reads.
pub mod field {
    /// The serialized `TaskMessage`.
    pub const MSG: &str = "msg";
    /// The state name.
    pub const STATE: &str = "state";
    /// Unix nanoseconds since when the task is pending.
    pub const PENDING_SINCE: &str = "pending_since";
    /// The name of the lock that the task holds.
    pub const UNIQUE_KEY: &str = "unique_key";
    /// The group that a forwarded task goes to.
    pub const GROUP: &str = "group";
    /// The result that the handler wrote.
    pub const RESULT: &str = "result";
}

/// Fields and keys of our own. Go neither lists nor clears them; all carry the prefix `x:`.
pub mod own {
    use chrono::{DateTime, Utc};

    use super::{GroupKey, QueueName, TaskId, of_queue};
    use crate::names::EntryKey;

    /// Task hash: the token of the call that took the task (rules.md#calls-outlive-actors).
    pub const TAKE: &str = "x:take";
    /// Task hash: the lease that an adoption wrote, in Unix seconds, so that an adoption whose answer was lost can be
    /// repeated. Removed with [`TAKE`] and by the next take.
    pub const ADOPT: &str = "x:adopt";
    /// Task hash: the progress of the run, as JSON. Removed by the next take.
    pub const PROGRESS: &str = "x:progress";
    /// Task hash: the time at which a delayed task is due, in Unix milliseconds, if it is not a whole second. Removed
    /// when the task is no longer delayed.
    pub const AT: &str = "x:at";
    /// Task hash: the deadline in Unix milliseconds, if it is not a whole second.
    pub const DEADLINE: &str = "x:deadline";
    /// Task hash: the number of times that recovery gave the task back because its run may never have started.
    /// Removed by the outcome of a run.
    pub const UNSTARTED: &str = "x:unstarted";
    /// Task hash: a request to cancel the run, in the form of [`Then::encode`](crate::Then::encode): the fate of the
    /// task, a space, and the [`TAKE`] of the run. Other runs ignore the request. Removed with [`TAKE`] and by the
    /// next take.
    pub const CANCEL: &str = "x:cancel";
    /// Task hash: the record of the last runs, in the form of [`Runs`](crate::Runs). Written with the outcome of a
    /// run, and kept until the task is deleted.
    pub const RUNS: &str = "x:runs";
    /// Task hash: the token of the request that enqueued the task (rules.md#ambiguous-is-a-state).
    pub const ENQ: &str = "x:enq";

    /// The beginning of the suffixes of [`statistics_of_hour`] and [`statistics_of_day`].
    pub const STATISTICS: &str = "x:stats:";

    /// ZSET of [`tree`] keys; score: the Unix second at which the tree ends.
    pub const TREES: &str = "asynq:x:trees";

    /// STREAM of the acts of operators; field `act`: JSON.
    pub const TRAIL: &str = "asynq:x:audit";

    /// ZSET of quarantined ids; score: Unix seconds of the quarantine.
    #[must_use]
    pub fn quarantine(queue: &QueueName) -> String {
        of_queue(queue, "x:quarantine")
    }

    /// Returns the key under which the task of a quarantined id is kept, as it was found.
    #[must_use]
    pub fn quarantined_task(queue: &QueueName, id: &TaskId) -> String {
        format!("asynq:{{{queue}}}:x:quarantine:{id}")
    }

    /// ZSET of [`finished_set`] keys; score: the Unix second at which their aggregated task was enqueued.
    #[must_use]
    pub fn finished(queue: &QueueName) -> String {
        of_queue(queue, "x:finished")
    }

    /// An aggregation set whose aggregated task is enqueued, while its tasks are still to be deleted.
    #[must_use]
    pub fn finished_set(queue: &QueueName, group: &GroupKey, set: &str) -> String {
        format!("asynq:{{{queue}}}:x:finished:{group}:{set}")
    }

    /// Returns the key of the last decided tick of a periodic task, with a lifetime (rules.md#one-tick-one-task). The
    /// value has the Unix second of the tick, the token of the request and the outcome (`1` enqueued, `d` a
    /// duplicate, `0` an id conflict), separated by spaces. The outcome `s` means that no tick was decided yet, and
    /// that the second is the start of the period.
    #[must_use]
    pub fn tick(queue: &QueueName, entry: &EntryKey) -> String {
        format!("asynq:{{{queue}}}:x:tick:{entry}")
    }

    /// Returns the key of the server that repairs a queue, with a lifetime. The value is the id of the server's
    /// connection.
    #[must_use]
    pub fn healer(queue: &QueueName) -> String {
        of_queue(queue, "x:healer")
    }

    /// Returns the key of the place where the next repair of a queue continues, with a lifetime. The value has the
    /// index in `active`, the rank in `lease`, the cursor of `SCAN`, and the ranks in `scheduled`, `retry`,
    /// `archived` and `completed`, separated by spaces. Without a value the repair begins at the start.
    #[must_use]
    pub fn heal_place(queue: &QueueName) -> String {
        of_queue(queue, "x:heal")
    }

    /// Returns the key of the last tick of a periodic task that one scheduler decided, in the form of [`tick`], for
    /// an hour. The scheduler reads it if the answer was lost.
    #[must_use]
    pub fn tick_receipt(queue: &QueueName, entry: &EntryKey, scheduler: &str) -> String {
        format!("{}:{scheduler}", tick(queue, entry))
    }

    /// Returns the hash of the [statistics](crate::statistics) of an hour by minute, with a lifetime. A field is the
    /// minute with two digits, a colon and the id of the server.
    #[must_use]
    pub fn statistics_of_hour(queue: &QueueName, at: DateTime<Utc>) -> String {
        of_queue(queue, &format!("{STATISTICS}{}", at.format("%Y-%m-%dT%H")))
    }

    /// Returns the hash of the statistics of a day (UTC) by hour, with a lifetime. A field is the hour with two digits,
    /// a colon and the id of the server.
    #[must_use]
    pub fn statistics_of_day(queue: &QueueName, at: DateTime<Utc>) -> String {
        of_queue(queue, &format!("{STATISTICS}{}", at.format("%Y-%m-%d")))
    }

    /// The supervision tree of a server as JSON, with its identity.
    #[must_use]
    pub fn tree(host: &str, pid: i32, server_id: &str) -> String {
        format!("asynq:x:tree:{{{host}:{pid}:{server_id}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[test]
    fn unique_key_vectors_of_go() {
        assert_eq!(
            unique(&q("default"), "reindex", Some(br#"{"a":1}"#)),
            "asynq:{default}:unique:reindex:bb6cb5c68df4652941caf652a366f2d8"
        );
        assert_eq!(
            unique(&q("q"), "t", Some(b"p")),
            "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
        );
        assert_eq!(unique(&q("q"), "t", None), "asynq:{q}:unique:t:");
        assert!(is_unique(&q("q"), "asynq:{q}:unique:t:") && is_unique(&q("q"), &unique_prefix(&q("q"))));
        for other in [
            "",
            "asynq:{qq}:unique:t:",
            "asynq:{q}:uniqu",
            "unique:",
            "asynq:{q}:t:unique:",
        ] {
            assert!(!is_unique(&q("q"), other), "{other}");
        }
        assert_eq!(
            unique(&q("q"), "t", Some(b"")),
            "asynq:{q}:unique:t:d41d8cd98f00b204e9800998ecf8427e"
        );
    }

    #[test]
    fn keys_share_the_hash_tag() {
        let queue = q("low");
        let id = TaskId::new("a1").unwrap();
        let g = GroupKey::new("x:y").unwrap();
        assert_eq!(task(&queue, &id), "asynq:{low}:t:a1");
        assert_eq!(container(&queue, TaskState::Retry), "asynq:{low}:retry");
        let set = aggregation_set(&queue, &g, "5c1e");
        assert_eq!(set, "asynq:{low}:g:x:y:5c1e");
        assert_eq!(group_of_set(&queue, &set), Some("x:y"));
        assert_eq!(own::quarantine(&queue), "asynq:{low}:x:quarantine");
    }

    #[test]
    fn process_keys() {
        assert_eq!(server_info("h", 7, "s"), "asynq:servers:{h:7:s}");
        assert_eq!(worker_info("h", 7, "s"), "asynq:workers:{h:7:s}");
        assert_eq!(scheduler_entries("h:7:s"), "asynq:schedulers:{h:7:s}");
    }
}
