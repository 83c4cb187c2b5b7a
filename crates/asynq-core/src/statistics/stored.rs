//! The stored form of a bucket.
//!
//! A version, a space, the number of records, a space, and a protobuf message. The number of records stands in front so
//! that the script that writes a bucket can see which of two is the later one.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{
    bucket::Bucket,
    counts::{RunCounts, RunEnd},
    histogram::Histogram,
};

/// Largest size of a stored bucket, in bytes. What is longer was not written by this library.
pub const MAX_BUCKET_BYTES: usize = 2 << 20;
/// Values with another version are not read.
const VERSION: &str = "1";

#[derive(Clone, PartialEq, prost::Message)]
struct StoredBucket {
    #[prost(message, repeated, tag = "1")]
    types: Vec<StoredType>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredType {
    #[prost(string, tag = "1")]
    name: String,
    /// In the order of [`RunEnd::ALL`]. A later version may have more.
    #[prost(uint64, repeated, tag = "2")]
    runs: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    run_time: Option<StoredHistogram>,
    #[prost(message, optional, tag = "4")]
    wait_time: Option<StoredHistogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredHistogram {
    /// Classes that are not empty.
    #[prost(uint32, repeated, tag = "1")]
    classes: Vec<u32>,
    /// Their counts.
    #[prost(uint64, repeated, tag = "2")]
    counts: Vec<u64>,
    /// The lower half of the sum.
    #[prost(uint64, tag = "3")]
    sum_nanos: u64,
    /// The upper half, mostly 0.
    #[prost(uint64, tag = "4")]
    sum_high: u64,
}

impl From<&Histogram> for StoredHistogram {
    fn from(histogram: &Histogram) -> Self {
        let (counts, sum_nanos) = histogram.parts();
        let (classes, counts) = counts.iter().map(|(class, count)| (u32::from(*class), *count)).unzip();
        Self {
            classes,
            counts,
            // The halves.
            sum_nanos: sum_nanos as u64,
            sum_high: (sum_nanos >> 64) as u64,
        }
    }
}

impl StoredHistogram {
    fn read(self) -> Option<Histogram> {
        if self.classes.len() != self.counts.len() {
            return None;
        }
        let sum = u128::from(self.sum_high) << 64 | u128::from(self.sum_nanos);
        Histogram::from_parts(self.classes.into_iter().zip(self.counts), sum)
    }
}

impl Bucket {
    /// The value that is stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let histogram = |of: &Histogram| (!of.is_empty()).then(|| of.into());
        let types = self.types().map(|(name, of)| {
            let mut runs: Vec<_> = RunEnd::ALL.into_iter().map(|end| of.runs.of(end)).collect();
            let used = runs.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
            runs.truncate(used);
            StoredType {
                name: name.to_owned(),
                runs,
                run_time: histogram(&of.run_time),
                wait_time: histogram(&of.wait_time),
            }
        });
        let stored = StoredBucket { types: types.collect() };
        let head = format!("{VERSION} {} ", self.records());
        let mut bytes = BytesMut::with_capacity(head.len() + stored.encoded_len());
        bytes.extend_from_slice(head.as_bytes());
        // It fails only if there is no room.
        let _ = stored.encode(&mut bytes);
        bytes.freeze()
    }

    /// Reads a stored value; `None` if it is something else, or of another version.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_BUCKET_BYTES {
            return None;
        }
        let (_, message) = head_of(value)?;
        let stored = StoredBucket::decode(message).ok()?;
        let mut bucket = Self::new();
        for StoredType {
            name,
            runs,
            run_time,
            wait_time,
        } in stored.types
        {
            let mut counts = RunCounts::default();
            for (end, count) in RunEnd::ALL.into_iter().zip(runs) {
                counts.add_many(end, count);
            }
            let run_time = run_time.map_or(Some(Histogram::default()), StoredHistogram::read)?;
            let wait_time = wait_time.map_or(Some(Histogram::default()), StoredHistogram::read)?;
            let of_type = bucket.of_mut(&name);
            of_type.runs.merge(&counts);
            of_type.run_time.merge(&run_time);
            of_type.wait_time.merge(&wait_time);
        }
        Some(bucket)
    }

    /// Returns the number of records in front of a stored value; `None` if it is something else, or of another version.
    #[must_use]
    pub fn records_in(value: &[u8]) -> Option<u64> {
        head_of(value).map(|(records, _)| records)
    }
}

fn head_of(value: &[u8]) -> Option<(u64, &[u8])> {
    let rest = value.strip_prefix(VERSION.as_bytes())?.strip_prefix(b" ")?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let (records, message) = rest.split_at(end);
    let is_number = !records.is_empty() && records.iter().all(u8::is_ascii_digit);
    let records = is_number.then(|| std::str::from_utf8(records).ok()?.parse().ok())?;
    Some((records?, &message[1..]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn bucket(records: &[(String, Option<usize>, u64)]) -> Bucket {
        let mut bucket = Bucket::new();
        for (name, end, nanos) in records {
            let time = Duration::from_nanos(*nanos);
            match end {
                Some(end) => bucket.ended(name, RunEnd::ALL[end % RunEnd::ALL.len()], time),
                None => bucket.started(name, time),
            }
        }
        bucket
    }

    fn records() -> impl Strategy<Value = Vec<(String, Option<usize>, u64)>> {
        prop::collection::vec((".{0,6}", prop::option::of(0_usize..6), any::<u64>()), 0..60)
    }

    #[test]
    fn a_minute_of_a_type_is_small() {
        let mut bucket = Bucket::new();
        for number in 0..10_000_u64 {
            bucket.started("email:welcome", Duration::from_micros(900 + number));
            bucket.ended(
                "email:welcome",
                RunEnd::Done,
                Duration::from_micros(20_000 + 7 * number),
            );
        }
        assert!(bucket.encode().len() < 130, "{}", bucket.encode().len());
    }

    #[test]
    fn a_full_bucket_is_below_the_bound() {
        let mut bucket = Bucket::new();
        for number in 0..=super::super::MAX_TYPES {
            let name = format!("{number:0>128}");
            for class in 0..122 {
                let time = Duration::from_nanos(1_000_000 << (class / 4)) * (4 + class % 4) / 4;
                for _ in 0..3 {
                    bucket.started(&name, time);
                    bucket.ended(&name, RunEnd::Lost, time);
                }
            }
        }
        assert!(
            bucket.encode().len() < MAX_BUCKET_BYTES / 2,
            "{}",
            bucket.encode().len()
        );
    }

    #[test]
    fn what_is_no_bucket_is_not_read() {
        let bad = [
            "",
            "1",
            "1 ",
            "1 5",
            "1 x ",
            "1 +5 ",
            "1  ",
            "2 5 ",
            "15 ",
            "1 5 \u{8}",
            "1 99999999999999999999 ",
        ];
        for text in bad {
            assert_eq!(Bucket::decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Bucket::decode(b"1 5 "), Some(Bucket::new()));
        let no_such_class = StoredBucket {
            types: vec![StoredType {
                name: "t".into(),
                run_time: Some(StoredHistogram {
                    classes: vec![122],
                    counts: vec![1],
                    sum_nanos: 0,
                    sum_high: 0,
                }),
                ..StoredType::default()
            }],
        };
        let value = [b"1 1 ".as_slice(), &no_such_class.encode_to_vec()].concat();
        assert_eq!(Bucket::decode(&value), None);
    }

    #[test]
    fn a_sum_above_584_years_is_read_as_it_was_written() {
        let mut bucket = Bucket::new();
        for _ in 0..3 {
            bucket.started("t", Duration::from_nanos(u64::MAX));
        }
        let read = Bucket::decode(&bucket.encode()).unwrap();
        assert_eq!(
            read.get("t").unwrap().wait_time.sum(),
            Duration::from_nanos(u64::MAX) * 3
        );
    }

    /// A later version may count more ends, and have more fields.
    #[test]
    fn what_a_later_version_adds_is_left_out() {
        let later = StoredBucket {
            types: vec![StoredType {
                name: "t".into(),
                runs: vec![1, 0, 0, 0, 0, 0, 9],
                ..StoredType::default()
            }],
        };
        let mut value = [b"1 1 ".as_slice(), &later.encode_to_vec()].concat();
        value.extend([0x78, 0x01]); // field 15, a number
        assert_eq!(Bucket::decode(&value).unwrap().get("t").unwrap().runs.total(), 1);
    }

    proptest! {
        #[test]
        fn a_bucket_is_read_as_it_was_written(records in records()) {
            let bucket = bucket(&records);
            let value = bucket.encode();
            prop_assert_eq!(Bucket::records_in(&value), Some(records.len() as u64));
            prop_assert_eq!(Bucket::decode(&value), Some(bucket));
        }

        #[test]
        fn no_value_panics(mut value in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            if head {
                value.splice(0..0, *b"1 7 ");
            }
            if let Some(bucket) = Bucket::decode(&value) {
                let _ = (bucket.encode(), bucket.total().run_time.percentile(0.99));
            }
        }
    }
}
