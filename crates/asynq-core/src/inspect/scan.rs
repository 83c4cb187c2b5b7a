//! Long lists of tasks, read in steps, and acts on some of what was read.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BulkEntry, Cursor};
use crate::{
    error::PoisonKind,
    info::TaskInfo,
    names::{GroupKey, NameError, NameFault, QueueName, TaskId},
    task_state::TaskState,
};

/// Number of tasks that one step reads, at most.
pub const SCAN_STEP: u32 = 200;
/// Number of the tasks read last that the place in a list knows.
const SEEN: usize = 2 * SCAN_STEP as usize;
/// Number of older tasks that the place in a list knows, spread over all that was read.
const EARLIER: usize = 8;

/// The limits of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Number of tasks, 1 to [`SCAN_STEP`]; clamped.
    pub tasks: u32,
    /// Bytes of messages, results and progress after which the step ends. It reads at least one task. At most 1 MiB.
    pub bytes: u64,
}

impl ScanLimits {
    /// Largest number of bytes.
    pub const MAX_BYTES: u64 = 1 << 20;

    /// Returns the limits within their ranges.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            tasks: self.tasks.clamp(1, SCAN_STEP),
            bytes: self.bytes.clamp(1, Self::MAX_BYTES),
        }
    }
}

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            tasks: SCAN_STEP,
            bytes: Self::MAX_BYTES,
        }
    }
}

/// The place where the next step continues. Made by the storage, and opaque to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScanPlace {
    /// In a sorted set.
    Sorted {
        /// The entry that was read last.
        after: BulkEntry,
        /// The last entry at the time of the first step, with which the last step ends.
        last: BulkEntry,
    },
    /// In a list, which is read from its tail.
    Listed(Box<ListedPlace>),
}

/// The place where the next step continues in a list. An index in a list moves with each task that leaves, so the place is
/// known by the tasks that were read before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedPlace {
    /// Number of entries between the place and the tail when it was noted.
    pub position: u64,
    /// The ids that were read last, the very last at the end.
    #[serde(with = "texts")]
    pub seen: Vec<Bytes>,
    /// Ids that were read earlier, the first read at the front.
    #[serde(with = "texts")]
    pub earlier: Vec<Bytes>,
    /// The id at the head at the time of the first step, with which the last step ends.
    #[serde(with = "text")]
    pub last: Bytes,
    /// Number of entries that the steps may still read.
    pub left: u64,
}

impl ListedPlace {
    /// Returns the place behind a step that read these ids, `position` entries from the tail.
    #[must_use]
    pub fn behind(before: Option<&Self>, ids: &[Bytes], position: u64, last: Bytes, left: u64) -> Self {
        let (mut seen, mut earlier) =
            before.map_or_else(Default::default, |before| (before.seen.clone(), before.earlier.clone()));
        seen.extend(ids.iter().cloned());
        if seen.len() > SEEN {
            let older = seen.drain(..seen.len() - SEEN);
            earlier.extend(older.last());
            if earlier.len() > EARLIER {
                // Every second of them, from the newest on: those that are left lie further apart.
                let mut keep = earlier.len() % 2 == 0;
                earlier.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
        }
        Self {
            position: position + ids.len() as u64,
            seen,
            earlier,
            last,
            left: left.saturating_sub(ids.len() as u64),
        }
    }

    /// The known ids, the first read at the front.
    pub fn known(&self) -> impl DoubleEndedIterator<Item = &Bytes> {
        self.earlier.iter().chain(&self.seen)
    }
}

impl ScanPlace {
    /// Forgets tasks that were read and that the caller has taken out of a list. The tasks before them stay known, so the
    /// place is found again however many are taken out.
    pub fn forget(&mut self, gone: &[TaskMark]) {
        let Self::Listed(place) = self else { return };
        let gone: std::collections::HashSet<&Bytes> = gone.iter().map(|mark| &mark.id).collect();
        place.position = place.position.saturating_sub(gone.len() as u64);
        place.seen.retain(|id| !gone.contains(id));
        place.earlier.retain(|id| !gone.contains(id));
    }

    /// Returns a shorter form for a text: of the tasks read last it keeps every one of the last 16, and some of the others.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        const LAST: usize = 16;
        if let Self::Listed(place) = &mut self {
            let others = place.seen.len().saturating_sub(LAST);
            let mut at = 0;
            place.seen.retain(|_| {
                at += 1;
                at > others || at % 32 == 0
            });
        }
        self
    }
}

/// A task as a scan read it: enough to tell later whether it is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskMark {
    /// The id as the storage has it.
    pub id: Bytes,
    /// The score, or what tells the time at which a pending task became pending.
    pub score: Bytes,
    /// A digest of the message; empty if the message cannot be read.
    pub digest: Bytes,
    /// Number of entries between the task and the tail of its list.
    pub position: u64,
}

/// A task that a scan read.
#[derive(Clone, Debug, PartialEq)]
pub struct ScannedTask {
    /// The task.
    pub info: TaskInfo,
    /// The mark, by which it is known later whether the task is still the same.
    pub mark: TaskMark,
}

/// The result of one step of a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanStep {
    /// The tasks, in the order of the list. Damaged ones are among them.
    pub tasks: Vec<ScannedTask>,
    /// The place of the next step; `None`: this was the last one.
    pub next: Option<ScanPlace>,
    /// Time of the storage.
    pub at: DateTime<Utc>,
}

/// The result of an act on tasks that were read before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActedOn {
    /// Number of tasks that were acted on.
    pub done: u32,
    /// Number of tasks that were left alone, because they had moved or changed since they were read.
    pub moved: u32,
    /// Number of ids without a task that were removed from the container.
    pub dropped: u32,
    /// The tasks that were quarantined because their data cannot be used.
    pub poisoned: Vec<(TaskId, PoisonKind)>,
}

impl ScanStep {
    /// Returns the place behind the first `count` tasks of this step, which was read from `before` on; `None` if the scan
    /// ends there.
    #[must_use]
    pub fn place_behind(&self, before: Option<&ScanPlace>, count: usize) -> Option<ScanPlace> {
        let (read, rest) = self.tasks.split_at_checked(count)?;
        let Some(after) = read.last() else {
            return before.cloned();
        };
        let Some(last) = rest.last() else {
            return self.next.clone();
        };
        let is_list = matches!(after.info.state, TaskState::Pending | TaskState::Active);
        let entry = |task: &ScannedTask| BulkEntry {
            score: task.mark.score.clone(),
            id: task.mark.id.clone(),
        };
        if !is_list {
            let last = match self.next.as_ref().or(before) {
                Some(ScanPlace::Sorted { last, .. }) => last.clone(),
                _ => entry(last),
            };
            return Some(ScanPlace::Sorted {
                after: entry(after),
                last,
            });
        }
        let before = match before {
            Some(ScanPlace::Listed(before)) => Some(before.as_ref()),
            _ => None,
        };
        let (last, left) = match (&self.next, before) {
            (Some(ScanPlace::Listed(next)), _) => (next.last.clone(), next.left + self.tasks.len() as u64),
            (_, Some(before)) => (before.last.clone(), before.left),
            _ => (last.mark.id.clone(), 2 * self.tasks.len() as u64),
        };
        let ids: Vec<Bytes> = read.iter().map(|task| task.mark.id.clone()).collect();
        let place = ListedPlace::behind(before, &ids, read[0].mark.position, last, left);
        Some(ScanPlace::Listed(Box::new(place)))
    }
}

/// The place where a search through several queues and states continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchPlace {
    /// The queue.
    pub queue: QueueName,
    /// The state, as its name.
    #[serde(with = "state")]
    pub state: TaskState,
    /// The group, for aggregating tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupKey>,
    /// The place among the tasks of the state or group; `None`: before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<ScanPlace>,
}

impl SearchPlace {
    /// Longest text that is read, in bytes.
    const MAX_TEXT: usize = 64 * 1024;

    /// Returns the place as a text of at most a few thousand bytes, unless ids are very long.
    #[must_use]
    pub fn encode(mut self) -> Cursor {
        self.place = self.place.map(ScanPlace::shortened);
        // Texts and numbers only: nothing that JSON cannot hold.
        Cursor(serde_json::to_string(&self).ok())
    }

    /// Reads a place; `None` for the beginning.
    ///
    /// # Errors
    /// [`NameError`] for a text that no search has returned.
    pub fn decode(cursor: &Cursor) -> Result<Option<Self>, NameError> {
        let Some(text) = &cursor.0 else { return Ok(None) };
        let read = (text.len() <= Self::MAX_TEXT).then(|| serde_json::from_str(text).ok());
        match read.flatten() {
            Some(place) => Ok(Some(place)),
            None => Err(NameError::new("cursor", NameFault::Unknown)),
        }
    }
}

mod state {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::task_state::TaskState;

    pub(super) fn serialize<S: Serializer>(state: &TaskState, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(state.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TaskState, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Bytes in a text: each byte becomes the character with its number.
mod text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn write(bytes: &Bytes) -> String {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    }

    pub(super) fn read(text: &str) -> Option<Bytes> {
        text.chars().map(|character| u8::try_from(character).ok()).collect()
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        read(&text).ok_or_else(|| D::Error::custom("a character above 255"))
    }
}

mod texts {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(list: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(super::text::write))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let bytes = texts.iter().map(|text| super::text::read(text)).collect::<Option<_>>();
        bytes.ok_or_else(|| D::Error::custom("a character above 255"))
    }
}

impl Serialize for BulkEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (text::write(&self.score), text::write(&self.id)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BulkEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let (score, id) = <(String, String)>::deserialize(deserializer)?;
        match (text::read(&score), text::read(&id)) {
            (Some(score), Some(id)) => Ok(Self { score, id }),
            _ => Err(D::Error::custom("a character above 255")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(from: usize, to: usize) -> Vec<Bytes> {
        (from..to).map(|n| format!("id{n}").into()).collect()
    }

    fn mark(id: &Bytes) -> TaskMark {
        TaskMark {
            id: id.clone(),
            score: Bytes::new(),
            digest: Bytes::new(),
            position: 0,
        }
    }

    /// The last ids all, and a few of the others at growing distances.
    #[test]
    fn a_place_in_a_list_stays_small() {
        let mut place: Option<ListedPlace> = None;
        for step in 0..500 {
            let ids = ids(step * 200, (step + 1) * 200);
            let before = place.take();
            place = Some(ListedPlace::behind(
                before.as_ref(),
                &ids,
                step as u64 * 200,
                "last".into(),
                1_000_000 - step as u64 * 200,
            ));
        }
        let place = place.unwrap();
        assert_eq!((place.position, place.left), (100_000, 900_000));
        assert_eq!(place.seen, ids(100_000 - SEEN, 100_000));
        assert!(
            (EARLIER / 2..=EARLIER).contains(&place.earlier.len()),
            "{:?}",
            place.earlier
        );
        let numbers: Vec<usize> = place
            .earlier
            .iter()
            .map(|id| std::str::from_utf8(&id[2..]).unwrap().parse().unwrap())
            .collect();
        assert!(numbers.is_sorted() && numbers[0] < 60_000, "{numbers:?}");
        let short = ScanPlace::Listed(Box::new(place)).shortened();
        let json = serde_json::to_string(&short).unwrap();
        assert!(json.len() < 1024, "{}", json.len());
    }

    #[test]
    fn what_the_caller_took_out_is_forgotten_and_those_before_it_are_not() {
        let place = ListedPlace::behind(None, &ids(0, 200), 0, "last".into(), 1000);
        let mut place = ScanPlace::Listed(Box::new(ListedPlace::behind(
            Some(&place),
            &ids(200, 400),
            200,
            "last".into(),
            800,
        )));
        place.forget(&ids(190, 400).iter().map(mark).collect::<Vec<_>>());
        let ScanPlace::Listed(place) = place else { panic!() };
        assert_eq!(
            (place.position, place.seen.last().unwrap().as_ref()),
            (190, b"id189".as_slice())
        );
    }

    /// Ids may hold any bytes.
    #[test]
    fn a_place_is_read_as_it_was_written() {
        let odd = Bytes::from_static(b"\xff\x00\"{}\xc3\xa4");
        let places = [
            ScanPlace::Sorted {
                after: BulkEntry {
                    score: "1.5".into(),
                    id: odd.clone(),
                },
                last: BulkEntry {
                    score: "2".into(),
                    id: "z".into(),
                },
            },
            ScanPlace::Listed(Box::new(ListedPlace::behind(
                None,
                std::slice::from_ref(&odd),
                3,
                odd.clone(),
                9,
            ))),
        ];
        for place in places {
            let json = serde_json::to_string(&place).unwrap();
            assert_eq!(serde_json::from_str::<ScanPlace>(&json).unwrap(), place);
        }
        let place = SearchPlace {
            queue: QueueName::new("q").unwrap(),
            state: TaskState::Aggregating,
            group: GroupKey::new("g").ok(),
            place: None,
        };
        assert_eq!(SearchPlace::decode(&place.clone().encode()).unwrap(), Some(place));
        assert_eq!(SearchPlace::decode(&Cursor::default()).unwrap(), None);
        let refused = SearchPlace::decode(&Cursor(Some("{}".to_owned()))).unwrap_err();
        assert_eq!(refused.to_string(), "cursor is not one that was returned before");
        assert!(serde_json::from_str::<ScanPlace>(r#"{"Sorted":{"after":["1","Ā"],"last":["",""]}}"#).is_err());
    }
}
