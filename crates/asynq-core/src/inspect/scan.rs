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
    /// The tasks that were read last, the very last at the end. In place of a score each has the time at which it came into
    /// the list, or the token of the call that took it: a task that comes back is not the one that was read.
    pub seen: Vec<BulkEntry>,
    /// Tasks that were read earlier, the first read at the front.
    pub earlier: Vec<BulkEntry>,
    /// The id at the head at the time of the first step, with which the last step ends.
    #[serde(with = "text")]
    pub last: Bytes,
    /// Number of entries that the steps may still read.
    pub left: u64,
}

impl ListedPlace {
    /// Returns the place behind a step that read these tasks, `position` entries from the tail.
    #[must_use]
    pub fn behind(before: Option<&Self>, read: &[ScannedTask], position: u64, last: Bytes, left: u64) -> Self {
        let (mut seen, mut earlier) =
            before.map_or_else(Default::default, |before| (before.seen.clone(), before.earlier.clone()));
        seen.extend(read.iter().map(|task| task.mark.entry()));
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
            position: position + read.len() as u64,
            seen,
            earlier,
            last,
            left: left.saturating_sub(read.len() as u64),
        }
    }

    /// The known tasks, the first read at the front.
    pub fn known(&self) -> impl DoubleEndedIterator<Item = &BulkEntry> {
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
        place.seen.retain(|task| !gone.contains(&task.id));
        place.earlier.retain(|task| !gone.contains(&task.id));
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
    /// The score. For a pending task the time at which it became pending, and for an active one the token of the call that
    /// took it, if there is one.
    pub score: Bytes,
    /// A digest of the message; empty if the message cannot be read.
    pub digest: Bytes,
    /// Number of entries between the task and the tail of its list.
    pub position: u64,
}

impl TaskMark {
    fn entry(&self) -> BulkEntry {
        BulkEntry {
            score: self.score.clone(),
            id: self.id.clone(),
        }
    }
}

/// A task that a scan read.
#[derive(Clone, Debug, PartialEq)]
pub struct ScannedTask {
    /// Bytes of its message, result and progress.
    pub size: u64,
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
        if !is_list {
            let last = match self.next.as_ref().or(before) {
                Some(ScanPlace::Sorted { last, .. }) => last.clone(),
                _ => last.mark.entry(),
            };
            return Some(ScanPlace::Sorted {
                after: after.mark.entry(),
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
        let place = ListedPlace::behind(before, read, read[0].mark.position, last, left);
        Some(ScanPlace::Listed(Box::new(place)))
    }
}

/// The place where a search through several queues and states continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchPlace {
    /// The queue.
    #[serde(with = "name")]
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
    /// Longest text, in bytes.
    const MAX_TEXT: usize = 64 * 1024;

    /// Returns whether the scores are numbers, as those of a storage are.
    fn has_numbers(&self) -> bool {
        let is_number = |entry: &BulkEntry| {
            let text = std::str::from_utf8(&entry.score).ok();
            text.and_then(|text| text.parse::<f64>().ok())
                .is_some_and(|score| !score.is_nan())
        };
        match &self.place {
            Some(ScanPlace::Sorted { after, last }) => is_number(after) && is_number(last),
            _ => true,
        }
    }

    /// Returns the place as a text of at most a few thousand bytes. Where ids are very long, it knows fewer of them.
    #[must_use]
    pub fn encode(mut self) -> Cursor {
        self.place = self.place.map(ScanPlace::shortened);
        loop {
            // Texts and numbers only: nothing that JSON cannot hold.
            let text = serde_json::to_string(&self).ok();
            let is_long = text.as_ref().is_some_and(|text| text.len() > Self::MAX_TEXT);
            match &mut self.place {
                Some(ScanPlace::Listed(place)) if is_long && place.seen.len() > 1 => {
                    place.earlier.clear();
                    place.seen.drain(..place.seen.len().div_ceil(2));
                }
                _ => return Cursor(text),
            }
        }
    }

    /// Reads a place; `None` for the beginning.
    ///
    /// # Errors
    /// [`NameError`] for a text that no search has returned.
    pub fn decode(cursor: &Cursor) -> Result<Option<Self>, NameError> {
        let Some(text) = &cursor.0 else { return Ok(None) };
        let read = (text.len() <= Self::MAX_TEXT).then(|| serde_json::from_str::<Self>(text).ok());
        match read.flatten() {
            Some(place) if place.has_numbers() => Ok(Some(place)),
            _ => Err(NameError::new("cursor", NameFault::Unknown)),
        }
    }
}

/// The name of a queue, which another program may have given it.
mod name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::names::QueueName;

    pub(super) fn serialize<S: Serializer>(name: &QueueName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueName, D::Error> {
        Ok(QueueName::from_storage(&String::deserialize(deserializer)?))
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

    fn tasks(from: usize, to: usize) -> Vec<ScannedTask> {
        (from..to).map(|n| task(&format!("id{n}"))).collect()
    }

    fn task(id: &str) -> ScannedTask {
        let name = TaskId::from_storage(id);
        ScannedTask {
            size: 0,
            info: TaskInfo::damaged(
                &QueueName::new("q").unwrap(),
                &name,
                TaskState::Pending,
                PoisonKind::NoHash,
            ),
            mark: TaskMark {
                id: id.to_owned().into(),
                score: "7".into(),
                digest: Bytes::new(),
                position: 0,
            },
        }
    }

    fn number(entry: &BulkEntry) -> usize {
        std::str::from_utf8(&entry.id[2..]).unwrap().parse().unwrap()
    }

    /// The last ids all, and a few of the others at growing distances.
    #[test]
    fn a_place_in_a_list_stays_small() {
        let mut place: Option<ListedPlace> = None;
        for step in 0..500 {
            let read = tasks(step * 200, (step + 1) * 200);
            let before = place.take();
            place = Some(ListedPlace::behind(
                before.as_ref(),
                &read,
                step as u64 * 200,
                "last".into(),
                1_000_000 - step as u64 * 200,
            ));
        }
        let place = place.unwrap();
        assert_eq!((place.position, place.left), (100_000, 900_000));
        let seen: Vec<usize> = place.seen.iter().map(number).collect();
        assert_eq!(seen, (100_000 - SEEN..100_000).collect::<Vec<_>>());
        assert!(
            (EARLIER / 2..=EARLIER).contains(&place.earlier.len()),
            "{:?}",
            place.earlier
        );
        let numbers: Vec<usize> = place.earlier.iter().map(number).collect();
        assert!(numbers.is_sorted() && numbers[0] < 60_000, "{numbers:?}");
        let short = ScanPlace::Listed(Box::new(place)).shortened();
        let json = serde_json::to_string(&short).unwrap();
        assert!(json.len() < 2048, "{}", json.len());
    }

    #[test]
    fn what_the_caller_took_out_is_forgotten_and_those_before_it_are_not() {
        let place = ListedPlace::behind(None, &tasks(0, 200), 0, "last".into(), 1000);
        let place = ListedPlace::behind(Some(&place), &tasks(200, 400), 200, "last".into(), 800);
        let mut place = ScanPlace::Listed(Box::new(place));
        let gone: Vec<TaskMark> = tasks(190, 400).into_iter().map(|task| task.mark).collect();
        place.forget(&gone);
        let ScanPlace::Listed(place) = place else { panic!() };
        assert_eq!((place.position, place.seen.last().map(number)), (190, Some(189)));
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
            ScanPlace::Listed(Box::new(ListedPlace {
                position: 3,
                seen: vec![BulkEntry {
                    score: "7".into(),
                    id: odd.clone(),
                }],
                earlier: vec![],
                last: odd,
                left: 9,
            })),
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
        // The scores of a place are numbers.
        let cursor = Cursor(Some(
            r#"{"queue":"q","state":"retry","place":{"Sorted":{"after":["abc","a"],"last":["1","a"]}}}"#.to_owned(),
        ));
        assert!(SearchPlace::decode(&cursor).is_err());
        // A queue as another program names it, and ids that are very long.
        let mut long = tasks(0, 40);
        for task in &mut long {
            task.mark.id = vec![0xff; 8000].into();
        }
        let place = SearchPlace {
            queue: QueueName::from_storage("}x"),
            state: TaskState::Pending,
            group: None,
            place: Some(ScanPlace::Listed(Box::new(ListedPlace::behind(
                None,
                &long,
                0,
                "last".into(),
                99,
            )))),
        };
        let read = SearchPlace::decode(&place.encode()).unwrap().unwrap();
        assert_eq!(read.queue.as_str(), "}x");
        assert!(serde_json::from_str::<ScanPlace>(r#"{"Sorted":{"after":["1","Ā"],"last":["",""]}}"#).is_err());
    }
}
