//! The past of the shop: statistics by minute and hour, and Go's counters by day.

use std::{collections::BTreeMap, time::Duration};

use asynq_core::{
    QueueName, keys,
    statistics::{Bucket, RunEnd, Span},
};
use asynq_testing::RedisServer;
use chrono::{DateTime, Datelike as _, TimeDelta, Timelike as _, Utc};

/// A task type in a queue: runs in a minute at noon, parts of a thousand that fail, usual time of a run in milliseconds.
const TYPES: [(&str, &str, f64, u64, u64); 8] = [
    ("default", "email:send", 42.0, 4, 38),
    ("default", "email:digest", 6.0, 0, 120),
    ("default", "cache:warm", 3.0, 0, 9),
    ("payments", "payment:charge", 18.0, 60, 410),
    ("payments", "payment:refund", 1.5, 150, 530),
    ("images", "image:resize", 9.0, 10, 2_900),
    ("inventory", "inventory:sync", 4.0, 0, 800),
    ("reports", "report:build", 0.8, 20, 21_000),
];

/// Minutes that have statistics.
const MINUTES: i64 = 180;

/// Hours that have statistics.
const HOURS: i64 = 72;

/// Fields of a hash, with their values.
type Fields = Vec<(String, Vec<u8>)>;

/// Writes statistics as servers have left them.
pub(crate) async fn write(redis: &RedisServer) {
    let now = Utc::now();
    let mut hashes: BTreeMap<String, (i64, Fields)> = BTreeMap::new();
    let queues: std::collections::BTreeSet<_> = TYPES.iter().map(|(queue, ..)| *queue).collect();
    for queue in queues {
        let name = QueueName::new(queue).unwrap();
        let minutes = (1..=MINUTES).map(|ago| (Span::Minute(now - TimeDelta::minutes(ago)), 1.0));
        let hours = (0..HOURS).map(|ago| (Span::Hour(now - TimeDelta::hours(ago)), 60.0));
        for (span, length) in minutes.chain(hours) {
            let bucket = bucket(queue, at(span), length);
            let until = span.kept_until().timestamp();
            let fields = &mut hashes.entry(span.key(&name)).or_insert((until, Vec::new())).1;
            fields.push((span.field("shop-1"), bucket.encode().to_vec()));
        }
    }
    let mut client = redis.client().await;
    for (key, (until, fields)) in hashes {
        let mut command = vec![b"HSET".to_vec(), key.clone().into_bytes()];
        command.extend(
            fields
                .into_iter()
                .flat_map(|(field, value)| [field.into_bytes(), value]),
        );
        client.ok(&command).await;
        client.ok(&["EXPIREAT", &key, &until.to_string()]).await;
    }
    for ago in 1..=30 {
        let day = now - TimeDelta::days(ago);
        for (queue, _, runs, failures, _) in TYPES {
            let name = QueueName::new(queue).unwrap();
            let processed = (runs * 700.0 * (1.0 + wave(day, 3))) as u64;
            for (counter, count) in [("processed", processed), ("failed", processed * failures / 1000)] {
                let key = keys::of_queue(&name, &format!("{counter}:{}", keys::day(day)));
                client.ok(&["INCRBY", &key, &count.to_string()]).await;
                let until = (day + TimeDelta::days(90)).timestamp();
                client.ok(&["EXPIREAT", &key, &until.to_string()]).await;
            }
        }
    }
}

fn at(span: Span) -> DateTime<Utc> {
    match span {
        Span::Minute(at) | Span::Hour(at) => at,
    }
}

/// A number from -0.3 to 0.3 that is always the same for a time.
fn wave(at: DateTime<Utc>, salt: u32) -> f64 {
    let seed = at.ordinal() * 1440 + at.hour() * 60 + at.minute();
    let mut mixed = (u64::from(seed) << 32 | u64::from(salt)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = f64::from((mixed >> 40) as u32) / f64::from(1_u32 << 24);
    part * 0.6 - 0.3
}

/// The statistics of one minute or hour.
fn bucket(queue: &str, at: DateTime<Utc>, length: f64) -> Bucket {
    let mut bucket = Bucket::new();
    let hour = f64::from(at.hour()) + f64::from(at.minute()) / 60.0;
    let day = 0.65 + 0.35 * ((hour - 6.0) / 24.0 * std::f64::consts::TAU).sin();
    for (number, (_, kind, runs, failures, usual)) in TYPES.iter().enumerate().filter(|(_, of)| of.0 == queue) {
        let salt = number as u32;
        let count = (runs * day * (1.0 + wave(at, salt)) * length).round().min(600.0) as u64;
        for run in 0..count {
            let part = wave(at, salt + 31 * run as u32) + 0.3;
            let took = Duration::from_micros((*usual as f64 * 1000.0 * (0.6 + 2.2 * part * part / 0.36)) as u64);
            let waited = Duration::from_micros((2_000.0 + 90_000.0 * part * part) as u64);
            bucket.started(kind, waited);
            let fails = (run * 1000 / count.max(1)) < *failures;
            bucket.ended(kind, if fails { RunEnd::Retried } else { RunEnd::Done }, took);
        }
    }
    bucket
}
