//! Ranges of time, and the answer to a question about one.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde::{Serialize, Serializer};

use super::{HOURS_KEPT, MAX_READ_TYPES, MINUTES_KEPT, OTHER, bucket::Bucket};
use crate::{
    error::{ConfigError, ConfigFault, Error},
    keys::own,
    names::QueueName,
};

/// Largest number of points of a [`TimeRange`]: two days by minute.
pub const MAX_POINTS: u64 = 2880;

/// The distance between two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Step {
    /// A minute. Minutes are kept for [`MINUTES_KEPT`].
    Minute,
    /// An hour. Hours are kept for [`HOURS_KEPT`].
    Hour,
    /// A day (UTC), added up from its hours.
    Day,
}

impl Step {
    /// Its length.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
        })
    }

    /// Returns the beginning of the step that has this time.
    #[must_use]
    pub fn start_of(self, at: DateTime<Utc>) -> DateTime<Utc> {
        // It fails only for times far away from ours, which are left as they are.
        at.duration_trunc(self.delta()).unwrap_or(at)
    }

    fn delta(self) -> TimeDelta {
        TimeDelta::from_std(self.duration()).unwrap_or_default()
    }
}

/// A range of time that cannot be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// It ends before it begins, or has no length.
    #[error("range must end after it begins")]
    Empty,
    /// It has too many points.
    #[error("range must have at most {MAX_POINTS} points, not {points}")]
    TooManyPoints {
        /// Number of its points.
        points: u64,
    },
    /// It ends before the year 1970 or after the year 9999.
    #[error("range must be within the years 1970 to 9999")]
    OutOfTime,
}

impl From<RangeError> for Error {
    fn from(error: RangeError) -> Self {
        let text = error.to_string();
        let problem = text.strip_prefix("range ").unwrap_or(&text).to_owned();
        ConfigError {
            faults: vec![ConfigFault {
                field: "range",
                problem,
            }],
        }
        .into()
    }
}

/// A checked range of time in steps, of at most [`MAX_POINTS`] points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    step: Step,
}

impl TimeRange {
    /// Returns the range of all steps that begin before `to` and end after `from`.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>, step: Step) -> Result<Self, RangeError> {
        let years = 0..253_402_300_800;
        if !years.contains(&from.timestamp()) || !years.contains(&to.timestamp()) {
            return Err(RangeError::OutOfTime);
        }
        if to <= from {
            return Err(RangeError::Empty);
        }
        let from = step.start_of(from);
        let mut end = step.start_of(to);
        if end < to {
            end += step.delta();
        }
        let points = (end - from).num_seconds() / step.delta().num_seconds();
        let points = u64::try_from(points).unwrap_or(u64::MAX);
        if points > MAX_POINTS {
            return Err(RangeError::TooManyPoints { points });
        }
        Ok(Self { from, to: end, step })
    }

    /// Returns the range of the last `points` steps, the one that has the time `now` included.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn last(points: u32, step: Step, now: DateTime<Utc>) -> Result<Self, RangeError> {
        if points == 0 {
            return Err(RangeError::Empty);
        }
        if u64::from(points) > MAX_POINTS {
            return Err(RangeError::TooManyPoints { points: points.into() });
        }
        let last = step.start_of(now);
        let back = TimeDelta::try_seconds(step.delta().num_seconds() * i64::from(points - 1)).unwrap_or_default();
        let from = last.checked_sub_signed(back).ok_or(RangeError::OutOfTime)?;
        let to = last.checked_add_signed(step.delta()).ok_or(RangeError::OutOfTime)?;
        Self::new(from, to, step)
    }

    /// The beginning of its first step.
    #[must_use]
    pub fn from(&self) -> DateTime<Utc> {
        self.from
    }

    /// The end of its last step.
    #[must_use]
    pub fn to(&self) -> DateTime<Utc> {
        self.to
    }

    /// Its steps.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Returns the hashes that have its buckets, in the order of time.
    #[must_use]
    pub fn hashes(&self) -> Vec<Span> {
        let (first, length) = match self.step {
            Step::Minute => (Step::Hour.start_of(self.from), Step::Hour.delta()),
            Step::Hour | Step::Day => (Step::Day.start_of(self.from), Step::Day.delta()),
        };
        let mut hashes = Vec::new();
        let mut at = first;
        while at < self.to {
            hashes.push(match self.step {
                Step::Minute => Span::Minute(at),
                Step::Hour | Step::Day => Span::Hour(at),
            });
            at += length;
        }
        hashes
    }
}

/// The minute or the hour of a bucket, by its beginning. A time within it names it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// A minute.
    Minute(DateTime<Utc>),
    /// An hour.
    Hour(DateTime<Utc>),
}

impl Span {
    /// Returns the key of the hash that has its bucket.
    #[must_use]
    pub fn key(self, queue: &QueueName) -> String {
        match self {
            Self::Minute(at) => own::statistics_of_hour(queue, at),
            Self::Hour(at) => own::statistics_of_day(queue, at),
        }
    }

    /// Returns the field of a server's bucket in that hash.
    #[must_use]
    pub fn field(self, server: &str) -> String {
        let part = match self {
            Self::Minute(at) => at.format("%M"),
            Self::Hour(at) => at.format("%H"),
        };
        format!("{part}:{server}")
    }

    /// Returns the end of the hash: the time from which on it is not kept.
    #[must_use]
    pub fn kept_until(self) -> DateTime<Utc> {
        let (start, length, kept) = match self {
            Self::Minute(at) => (Step::Hour.start_of(at), Step::Hour, MINUTES_KEPT),
            Self::Hour(at) => (Step::Day.start_of(at), Step::Day, HOURS_KEPT),
        };
        start + length.duration() + kept
    }

    /// Returns the minute or the hour that a field of this span's hash names; `None` if it names none.
    #[must_use]
    pub fn of_field(self, field: &[u8]) -> Option<DateTime<Utc>> {
        let digits = field.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        if field.get(2) != Some(&b':') {
            return None;
        }
        let number = i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0');
        let (start, delta, most) = match self {
            Self::Minute(at) => (Step::Hour.start_of(at), Step::Minute.delta(), 60),
            Self::Hour(at) => (Step::Day.start_of(at), Step::Hour.delta(), 24),
        };
        (number < most).then(|| start + delta * i32::try_from(number).unwrap_or(0))
    }
}

/// A bucket that a server writes: all that it has counted in this minute or hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsPart {
    /// The minute or hour.
    pub span: Span,
    /// The bucket.
    pub bucket: Bucket,
}

/// The statistics of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// The beginning of the step.
    pub at: DateTime<Utc>,
    /// The statistics of all servers, by task type.
    pub types: Bucket,
}

/// The statistics of a queue over a range of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QueueStatistics {
    /// The queue.
    #[serde(serialize_with = "as_text")]
    pub queue: QueueName,
    /// The beginning of the first step.
    pub from: DateTime<Utc>,
    /// The end of the last step.
    pub to: DateTime<Utc>,
    /// The distance between two points.
    pub step: Step,
    /// Number of stored values in the range that cannot be read, and are left out.
    pub unreadable: u64,
    /// The steps with statistics, in the order of time. All others have none: nothing ran, nothing was kept, or only
    /// servers of Go asynq ran tasks.
    pub points: Vec<Point>,
}

fn as_text<S: Serializer>(queue: &QueueName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(queue.as_str())
}

/// Adds stored values up, in parts: nothing else than the sum is kept.
#[derive(Debug)]
pub struct Adding {
    range: TimeRange,
    points: BTreeMap<DateTime<Utc>, Bucket>,
    /// Number of types of all points.
    types: usize,
    most_types: usize,
    unreadable: u64,
}

impl Adding {
    /// Begins with nothing.
    #[must_use]
    pub fn new(range: &TimeRange) -> Self {
        Self {
            range: *range,
            points: BTreeMap::new(),
            types: 0,
            most_types: MAX_READ_TYPES,
            unreadable: 0,
        }
    }

    /// Adds a stored value: the span that names its hash, its field and its bytes. A field of another step is left out. No field may
    /// come twice.
    pub fn add(&mut self, span: Span, field: &[u8], value: &[u8]) {
        let Some(at) = span.of_field(field) else {
            self.unreadable += 1;
            return;
        };
        if at < self.range.from || at >= self.range.to {
            return;
        }
        let Some(bucket) = Bucket::decode(value) else {
            self.unreadable += 1;
            return;
        };
        let sum = self.points.entry(self.range.step.start_of(at)).or_default();
        for (task_type, statistics) in bucket.types() {
            let before = sum.types().len();
            let name = match self.types < self.most_types || sum.get(task_type).is_some() {
                true => task_type,
                false => OTHER,
            };
            sum.of_mut(name).merge(statistics);
            self.types += sum.types().len() - before;
        }
    }

    /// Returns the sum.
    #[must_use]
    pub fn finish(self, queue: QueueName) -> QueueStatistics {
        QueueStatistics {
            queue,
            from: self.range.from,
            to: self.range.to,
            step: self.range.step,
            unreadable: self.unreadable,
            points: self.points.into_iter().map(|(at, types)| Point { at, types }).collect(),
        }
    }
}

impl QueueStatistics {
    /// Returns the statistics of the whole range, by task type.
    #[must_use]
    pub fn total(&self) -> Bucket {
        let mut total = Bucket::new();
        for point in &self.points {
            total.merge(&point.types);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunEnd;
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_has_whole_steps_and_not_too_many() {
        let range = TimeRange::new(at("2026-11-29T10:07:59Z"), at("2026-11-29T11:00:01Z"), Step::Minute).unwrap();
        assert_eq!(
            (range.from(), range.to()),
            (at("2026-11-29T10:07:00Z"), at("2026-11-29T11:01:00Z"))
        );
        assert_eq!(range.hashes().len(), 2);
        let day = TimeRange::last(2, Step::Day, at("2026-11-29T10:07:59Z")).unwrap();
        assert_eq!(
            (day.from(), day.to()),
            (at("2026-11-28T00:00:00Z"), at("2026-11-30T00:00:00Z"))
        );
        assert_eq!(
            day.hashes(),
            [Span::Hour(day.from()), Span::Hour(at("2026-11-29T00:00:00Z"))]
        );
        let from = at("2026-11-29T00:00:00Z");
        assert_eq!(TimeRange::new(from, from, Step::Hour), Err(RangeError::Empty));
        assert_eq!(TimeRange::last(0, Step::Hour, from), Err(RangeError::Empty));
        assert!(TimeRange::last(2880, Step::Minute, from).is_ok());
        let many = TimeRange::new(from, from + TimeDelta::days(2) + TimeDelta::seconds(1), Step::Minute);
        let refused = Error::from(many.unwrap_err()).to_string();
        assert_eq!(
            refused,
            "invalid configuration: range must have at most 2880 points, not 2881"
        );
        for far in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
            assert_eq!(TimeRange::last(1, Step::Day, far), Err(RangeError::OutOfTime));
            assert_eq!(TimeRange::new(from, far, Step::Day), Err(RangeError::OutOfTime));
        }
    }

    #[test]
    fn a_field_names_its_step_in_the_hash() {
        let queue = QueueName::new("q").unwrap();
        let minute = Span::Minute(at("2026-11-29T10:07:30Z"));
        assert_eq!(minute.key(&queue), "asynq:{q}:x:stats:2026-11-29T10");
        assert_eq!(minute.field("s"), "07:s");
        assert_eq!(minute.of_field(b"07:s"), Some(at("2026-11-29T10:07:00Z")));
        assert_eq!(minute.kept_until(), at("2026-12-01T11:00:00Z"));
        let hour = Span::Hour(at("2026-11-29T10:07:30Z"));
        assert_eq!(hour.key(&queue), "asynq:{q}:x:stats:2026-11-29");
        assert_eq!(
            hour.of_field(hour.field("s").as_bytes()),
            Some(at("2026-11-29T10:00:00Z"))
        );
        assert_eq!(hour.kept_until(), at("2027-02-28T00:00:00Z"));
        for bad in ["", "7:s", "60:s", "xx:s", "07s", "07"] {
            assert_eq!(minute.of_field(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(hour.of_field(b"24:s"), None);
    }

    #[test]
    fn servers_are_added_up_and_a_damaged_value_harms_itself() {
        let span = Span::Minute(at("2026-11-29T10:00:00Z"));
        let mut one = Bucket::new();
        one.ended("t", RunEnd::Done, Duration::from_secs(1));
        let range = TimeRange::last(5, Step::Minute, at("2026-11-29T10:08:30Z")).unwrap();
        let values: Vec<(Span, &[u8], Vec<u8>)> = vec![
            (span, b"07:a", one.encode().to_vec()),
            (span, b"07:b", one.encode().to_vec()),
            (span, b"08:a", one.encode().to_vec()),
            (span, b"03:a", one.encode().to_vec()), // before the range
            (span, b"06:a", b"garbage".to_vec()),
            (span, b"no field", one.encode().to_vec()),
        ];
        let mut adding = Adding::new(&range);
        for (span, field, value) in values {
            adding.add(span, field, &value);
        }
        let found = adding.finish(QueueName::default());
        let runs: Vec<_> = found
            .points
            .iter()
            .map(|point| point.types.total().runs.total())
            .collect();
        assert_eq!((runs, found.unreadable), (vec![2, 1], 2));
        assert_eq!(found.total().get("t").unwrap().runs.total(), 3);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!((&json["queue"], &json["step"]), (&"default".into(), &"minute".into()));
        assert_eq!(json["points"][0]["types"]["t"]["runs"]["done"], 2);
        assert_eq!(json["points"][0]["at"], "2026-11-29T10:07:00Z");
    }

    #[test]
    fn an_answer_tells_a_bounded_number_of_types_apart() {
        let mut adding = Adding::new(&TimeRange::last(3, Step::Minute, at("2026-11-29T10:08:30Z")).unwrap());
        adding.most_types = 5;
        let span = Span::Minute(at("2026-11-29T10:00:00Z"));
        for minute in ["06", "07", "08"] {
            let mut bucket = Bucket::new();
            for number in 0..4 {
                bucket.ended(&format!("t{number}"), RunEnd::Done, Duration::from_secs(1));
            }
            for server in ["a", "b"] {
                adding.add(span, format!("{minute}:{server}").as_bytes(), &bucket.encode());
            }
        }
        let found = adding.finish(QueueName::default());
        let types: Vec<_> = found.points.iter().map(|point| point.types.types().len()).collect();
        // The second has one, and the rest together.
        assert_eq!(types, [4, 2, 1]);
        assert!(found.points.iter().all(|point| point.types.total().runs.total() == 8));
    }
}
