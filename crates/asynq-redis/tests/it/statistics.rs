//! The commands that statistics cost, and what they show of a whole system.

use std::{collections::BTreeMap, time::Duration};

use asynq_core::{
    statistics::{Bucket, MAX_TYPES, RunEnd, Span, StatisticsPart, Step, TimeRange},
    tree::ServerIdentity,
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::support::{Bench, q};

fn server(number: usize) -> ServerIdentity {
    ServerIdentity {
        host: "h".into(),
        pid: 7,
        server_id: format!("server-{number}"),
    }
}

fn bucket(types: usize) -> Bucket {
    let mut bucket = Bucket::new();
    for number in 0..types {
        bucket.ended(&format!("type-{number}"), RunEnd::Done, Duration::from_millis(7));
    }
    bucket
}

/// The minute and the hour of a time, as a server writes them together.
fn present(at: DateTime<Utc>, types: usize) -> [StatisticsPart; 2] {
    [Span::Minute(at), Span::Hour(at)].map(|span| StatisticsPart {
        span,
        bucket: bucket(types),
    })
}

/// The commands that the server has executed, those in scripts included.
async fn executed(bench: &mut Bench) -> BTreeMap<String, u64> {
    let info = bench.raw(&["INFO", "commandstats"]).await.text();
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    let calls = lines.filter_map(|line| {
        let (name, rest) = line.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    calls.collect()
}

fn of(executed: &BTreeMap<String, u64>, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| executed.get(*name)).sum()
}

/// The script that a server sends every ten seconds for a queue in which something ran: one script of a few commands, however many
/// tasks and types there were.
#[tokio::test]
async fn a_write_is_one_script_of_a_few_commands() {
    let mut bench = Bench::start().await;
    let now = bench.after(0);
    for types in [1, MAX_TYPES] {
        bench.raw(&["CONFIG", "RESETSTAT"]).await;
        let parts = present(now, types);
        bench.storage.write_statistics(&q(), &server(1), &parts).await.unwrap();
        let executed = executed(&mut bench).await;
        assert_eq!(
            of(&executed, &["evalsha", "eval"]),
            1 + of(&executed, &["script|load"]),
            "{executed:?}"
        );
        let within = of(&executed, &["type", "hget", "hlen", "hset", "expireat"]);
        assert!(within <= 10, "{executed:?}");
    }
}

/// A page of an hour, of a day, and of ninety days: at most a look at each hash, and at the index.
#[tokio::test]
async fn a_read_is_a_command_for_each_hour_or_day() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    let now = bench.after(0);
    for number in 0..4 {
        let mut parts = Vec::new();
        for minute in 0..120 {
            parts.extend(present(now - TimeDelta::minutes(minute), 2));
        }
        bench
            .storage
            .write_statistics(&q(), &server(number), &parts)
            .await
            .unwrap();
    }
    // An hour of four servers has 240 values, which are read in a few parts.
    for (points, step, most) in [
        (60, Step::Minute, 8),
        (24, Step::Hour, 2),
        (90 * 24, Step::Hour, 91),
        (90, Step::Day, 91),
        (2880, Step::Minute, 49 + 8),
    ] {
        bench.raw(&["CONFIG", "RESETSTAT"]).await;
        let range = TimeRange::last(points, step, now).unwrap();
        let found = bench.storage.statistics(&q(), &range).await.unwrap();
        assert!(found.total().total().runs.total() > 0);
        let executed = executed(&mut bench).await;
        let reads = of(&executed, &["hscan"]);
        assert!(reads <= most, "{points} by {step:?}: {executed:?}");
        assert_eq!(
            of(&executed, &["evalsha", "eval", "keys", "scan", "hgetall"]),
            0,
            "{executed:?}"
        );
        assert_eq!(of(&executed, &["sismember"]), 1);
    }
}
