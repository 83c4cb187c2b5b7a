//! The statistics of one span of time.

use std::{borrow::Cow, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{
    MAX_TYPE_BYTES, MAX_TYPES, OTHER,
    counts::{RunCounts, RunEnd},
    histogram::Histogram,
};

/// The statistics of one task type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypeStatistics {
    /// Runs that ended in this time, by their end.
    pub runs: RunCounts,
    /// Time from the start of each of these runs to its end. Tasks that were given back before their run began have none.
    pub run_time: Histogram,
    /// Time from which each task was pending to the start of its run, of runs that began in this time. A task that was
    /// delayed is pending once it is due and a forwarder has moved it. Runs are missing whose server does not know
    /// since when the task was pending.
    pub wait_time: Histogram,
}

impl TypeStatistics {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.runs.merge(&other.runs);
        self.run_time.merge(&other.run_time);
        self.wait_time.merge(&other.wait_time);
    }
}

impl Serialize for TypeStatistics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("TypeStatistics", 3)?;
        out.serialize_field("runs", &self.runs)?;
        out.serialize_field("run_seconds", &self.run_time)?;
        out.serialize_field("wait_seconds", &self.wait_time)?;
        out.end()
    }
}

/// The statistics of one queue in one span of time, by task type: of one server as it writes them, or of all as a reader
/// adds them up. It tells [`MAX_TYPES`] types apart. As JSON it is an object with the types as names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Sorted by type. With [`OTHER`] there may be one more than [`MAX_TYPES`].
    types: Vec<(String, TypeStatistics)>,
}

impl Bucket {
    /// An empty bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the start of a run whose task was pending for this time.
    pub fn started(&mut self, task_type: &str, waited: Duration) {
        self.of_mut(task_type).wait_time.record(waited);
    }

    /// Counts the end of a run that took this time.
    pub fn ended(&mut self, task_type: &str, end: RunEnd, took: Duration) {
        let of_type = self.of_mut(task_type);
        of_type.runs.add(end);
        of_type.run_time.record(took);
    }

    /// Counts a task that was given back before its run began: it has no time.
    pub fn put_back(&mut self, task_type: &str) {
        self.of_mut(task_type).runs.add(RunEnd::GivenBack);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (task_type, statistics) in &other.types {
            self.of_mut(task_type).merge(statistics);
        }
    }

    /// Returns the statistics of a type, which may be those of [`OTHER`].
    pub(super) fn of_mut(&mut self, task_type: &str) -> &mut TypeStatistics {
        let name = &*kept_type(task_type);
        let place = self.place(name).or_else(|place| {
            let told_apart = self.types.len() - usize::from(self.place(OTHER).is_ok());
            if told_apart < MAX_TYPES || name == OTHER {
                Err((place, name))
            } else {
                self.place(OTHER).map_err(|place| (place, OTHER))
            }
        });
        let place = place.unwrap_or_else(|(place, name)| {
            self.types.insert(place, (name.to_owned(), TypeStatistics::default()));
            place
        });
        &mut self.types[place].1
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.types.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// Returns whether nothing is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Returns the statistics of a type; `None` if it has none.
    #[must_use]
    pub fn get(&self, task_type: &str) -> Option<&TypeStatistics> {
        self.place(task_type).ok().map(|place| &self.types[place].1)
    }

    /// Returns the statistics of all types, sorted by type.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (&str, &TypeStatistics)> {
        self.types.iter().map(|(name, statistics)| (name.as_str(), statistics))
    }

    /// Returns the statistics of all types together.
    #[must_use]
    pub fn total(&self) -> TypeStatistics {
        let mut total = TypeStatistics::default();
        for (_, statistics) in &self.types {
            total.merge(statistics);
        }
        total
    }

    /// Returns the number of starts and ends that it counts, which only grows while a server adds to it.
    #[must_use]
    pub fn records(&self) -> u64 {
        let of_type = |(_, of): &(String, TypeStatistics)| of.runs.total().saturating_add(of.wait_time.count());
        self.types.iter().map(of_type).fold(0, u64::saturating_add)
    }
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.types())
    }
}

/// Returns a task type as statistics keep it: one of more than [`MAX_TYPE_BYTES`] bytes is cut and ends with `…`.
#[must_use]
pub fn kept_type(name: &str) -> Cow<'_, str> {
    const END: char = '…';
    if name.len() <= MAX_TYPE_BYTES {
        return Cow::Borrowed(name);
    }
    let most = MAX_TYPE_BYTES - END.len_utf8();
    let end = (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let mut kept = name[..end].to_owned();
    kept.push(END);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn types_beyond_the_bound_are_counted_together() {
        let mut bucket = Bucket::new();
        for number in 0..MAX_TYPES + 30 {
            bucket.ended(&format!("t{number:04}"), RunEnd::Done, MS);
        }
        bucket.ended("t0007", RunEnd::Done, MS);
        assert_eq!(bucket.types().count(), MAX_TYPES + 1);
        assert_eq!(bucket.get(OTHER).unwrap().runs.total(), 30);
        assert_eq!(bucket.get("t0007").unwrap().runs.total(), 2);
        assert_eq!(bucket.total().runs.total(), MAX_TYPES as u64 + 31);
        // So are those of a sum.
        let mut sum = Bucket::new();
        sum.ended("a", RunEnd::Lost, MS);
        sum.merge(&bucket);
        assert_eq!(sum.types().count(), MAX_TYPES + 1);
        assert_eq!(sum.records(), bucket.records() + 1);
    }

    #[test]
    fn long_types_are_cut_between_characters() {
        let mut bucket = Bucket::new();
        for number in 0..3 {
            bucket.started(&format!("{}{number}", "ü".repeat(MAX_TYPE_BYTES)), MS);
        }
        let (name, of_type) = bucket.types().next().unwrap();
        assert!(name.len() <= MAX_TYPE_BYTES && name.ends_with("ü…"), "{name}");
        assert_eq!((of_type.wait_time.count(), bucket.records()), (3, 3));
        assert_eq!(bucket.types().count(), 1);
    }

    #[test]
    fn a_task_that_is_put_back_has_no_time() {
        let mut bucket = Bucket::new();
        bucket.put_back("t");
        let of_type = bucket.get("t").unwrap();
        assert_eq!((of_type.runs.of(RunEnd::GivenBack), of_type.runs.total()), (1, 1));
        assert!(of_type.run_time.is_empty());
        assert_eq!(bucket.records(), 1);
    }

    #[test]
    fn json_has_stable_names() {
        let mut bucket = Bucket::new();
        bucket.started("mail", Duration::ZERO);
        bucket.ended("mail", RunEnd::Retried, 2000 * MS);
        let json: serde_json::Value = serde_json::to_value(&bucket).unwrap();
        assert_eq!(json["mail"]["runs"]["retried"], 1);
        assert_eq!(json["mail"]["run_seconds"]["mean"], 2.0);
        assert_eq!(json["mail"]["wait_seconds"]["p99"], 0.001);
    }
}
