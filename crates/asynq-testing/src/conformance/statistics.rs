//! The statistics of servers, in keys of our own.

use asynq_core::{
    keys::own,
    statistics::{Bucket, MAX_BUCKETS, QueueStatistics, RunEnd, Span, StatisticsPart, Step, TimeRange},
    tree::ServerIdentity,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::kit::*;

fn server(id: &str) -> ServerIdentity {
    ServerIdentity {
        host: "h".into(),
        pid: 7,
        server_id: id.into(),
    }
}

/// A bucket of a type with this number of runs of a second.
fn bucket(task_type: &str, runs: u64) -> Bucket {
    let mut bucket = Bucket::new();
    for _ in 0..runs {
        bucket.ended(task_type, RunEnd::Done, Duration::from_secs(1));
    }
    bucket
}

fn minute(at: DateTime<Utc>, bucket: Bucket) -> StatisticsPart {
    StatisticsPart {
        span: Span::Minute(at),
        bucket,
    }
}

async fn write(fx: &Fixture, of: &str, parts: &[StatisticsPart]) -> u64 {
    let written = fx.storage.write_statistics(&queue(Q), &server(of), parts).await;
    written.unwrap()
}

async fn read(fx: &Fixture, points: u32, step: Step) -> QueueStatistics {
    let range = TimeRange::last(points, step, fx.now()).unwrap();
    fx.storage.statistics(&queue(Q), &range).await.unwrap()
}

/// The runs of each point.
fn runs(found: &QueueStatistics) -> Vec<u64> {
    found
        .points
        .iter()
        .map(|point| point.types.total().runs.total())
        .collect()
}

/// Several servers write into one minute, and each replaces only its own bucket.
pub(super) async fn servers_are_added_up_by_minute(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    write(fx, "s1", &[minute(now, bucket("mail", 3))]).await;
    write(
        fx,
        "s2",
        &[
            minute(now, bucket("mail", 4)),
            minute(now - TimeDelta::minutes(1), bucket("job", 1)),
        ],
    )
    .await;
    write(fx, "s1", &[minute(now, bucket("mail", 5))]).await;
    let found = read(fx, 60, Step::Minute).await;
    assert_eq!((runs(&found), found.unreadable), (vec![1, 9], 0));
    assert_eq!(found.points[1].at, Step::Minute.start_of(now));
    assert_eq!(found.total().get("job").unwrap().run_time.sum(), Duration::from_secs(1));
    assert_eq!(runs(&read(fx, 1, Step::Minute).await), [9]);
}

/// A write whose answer was lost is repeated, and one that arrives late does not take back what came after it.
pub(super) async fn a_write_can_be_repeated_and_be_late(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    for count in [5, 5, 7, 5] {
        write(fx, "s1", &[minute(now, bucket("mail", count))]).await;
    }
    assert_eq!(runs(&read(fx, 1, Step::Minute).await), [7]);
}

/// Hours are written beside minutes, and days are added up from them.
pub(super) async fn hours_and_days_have_their_own_buckets(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    let hours: Vec<_> = [0, 1, 24, 48]
        .into_iter()
        .map(|back| StatisticsPart {
            span: Span::Hour(now - TimeDelta::hours(back)),
            bucket: bucket("mail", 2),
        })
        .collect();
    write(fx, "s1", &hours).await;
    assert!(read(fx, 60, Step::Minute).await.points.is_empty());
    assert_eq!(runs(&read(fx, 25, Step::Hour).await), [2, 2, 2]);
    let days = read(fx, 3, Step::Day).await;
    assert_eq!(days.total().total().runs.total(), 8);
    assert_eq!(days.points.last().unwrap().at, Step::Day.start_of(now));
}

/// Each hash has its end, counted from the end of its hour or day.
pub(super) async fn statistics_go_by_themselves(fx: &Fixture) {
    let now = fx.now();
    let hour = StatisticsPart {
        span: Span::Hour(now),
        bucket: bucket("mail", 1),
    };
    write(fx, "s1", &[minute(now, bucket("mail", 1)), hour]).await;
    let kept = [
        (own::statistics_of_hour(&queue(Q), now), 48 * 3600..=49 * 3600),
        (own::statistics_of_day(&queue(Q), now), 90 * 86400..=91 * 86400),
    ];
    for (key, expected) in kept {
        let ttl = fx.ttl_of(&key).await.unwrap();
        assert!((expected.start() - 60..=*expected.end()).contains(&ttl), "{key}: {ttl}");
    }
    // They make no queue.
    assert!(fx.storage.queues().await.unwrap().is_empty());
    let range = TimeRange::last(1, Step::Minute, now).unwrap();
    let unknown = fx.storage.statistics(&queue(Q), &range).await;
    assert!(matches!(unknown, Err(BrokerError::QueueNotFound { .. })), "{unknown:?}");
    assert_eq!(fx.audit(&queue(Q)).await, []);
}

/// A value that cannot be read is counted, and replaced by the next write of its server.
pub(super) async fn a_damaged_bucket_harms_only_itself(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    let key = own::statistics_of_hour(&queue(Q), now);
    write(fx, "s1", &[minute(now, bucket("mail", 1))]).await;
    let (field, other) = (Span::Minute(now).field("s2"), Span::Minute(now).field("s3"));
    fx.edit(|state| {
        let Some(RawValue::Hash(fields)) = state.get_mut(key.as_str()) else {
            panic!("no statistics in {state:#?}");
        };
        fields.insert(field, "no bucket".into());
        fields.insert(other, "1 9 \u{1}\u{1}".into());
        fields.insert("xx".into(), "1 9 ".into());
    })
    .await;
    let found = read(fx, 1, Step::Minute).await;
    assert_eq!((runs(&found), found.unreadable), (vec![1], 3));
    write(fx, "s2", &[minute(now, bucket("mail", 1))]).await;
    let found = read(fx, 1, Step::Minute).await;
    assert_eq!((runs(&found), found.unreadable), (vec![2], 2));
}

/// A key of another type is refused, and keeps its value.
pub(super) async fn a_damaged_hash_is_refused(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "a")).await;
    let key = own::statistics_of_hour(&queue(Q), fx.now());
    fx.edit(|state| drop(state.insert(key.clone(), string("x")))).await;
    let parts = [minute(fx.now(), bucket("mail", 1))];
    let range = TimeRange::last(1, Step::Minute, fx.now()).unwrap();
    for answer in [
        fx.storage
            .write_statistics(&queue(Q), &server("s"), &parts)
            .await
            .map(drop),
        fx.storage.statistics(&queue(Q), &range).await.map(drop),
    ] {
        assert!(
            matches!(&answer, Err(BrokerError::WrongType { key: of }) if *of == key),
            "{answer:?}"
        );
    }
    let found = fx.audit(&queue(Q)).await;
    assert!(
        found.iter().any(|breach| breach.to_string().contains(&key)),
        "{found:?}"
    );
}

/// More buckets of an hour than there is room for are left out; those that are there can still be replaced.
pub(super) async fn the_number_of_buckets_is_bounded(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    let key = own::statistics_of_hour(&queue(Q), now);
    fx.edit(|state| {
        let fields = (0..MAX_BUCKETS).map(|number| (Span::Minute(now).field(&format!("s{number}")), "1 0 ".into()));
        state.insert(key, RawValue::Hash(fields.collect()));
    })
    .await;
    assert_eq!(write(fx, "new", &[minute(now, bucket("mail", 1))]).await, 1);
    assert_eq!(write(fx, "s17", &[minute(now, bucket("mail", 2))]).await, 0);
    assert_eq!(runs(&read(fx, 1, Step::Minute).await), [2]);
}

/// A deleted queue has no statistics.
pub(super) async fn statistics_go_with_their_queue(fx: &Fixture) {
    fx.enqueue(request(Q, "a")).await;
    let now = fx.now();
    let mut parts = Vec::new();
    for back in [0, 2, 47] {
        let at = now - TimeDelta::hours(back);
        parts.push(minute(at, bucket("mail", 1)));
        parts.push(StatisticsPart {
            span: Span::Hour(at),
            bucket: bucket("mail", 1),
        });
    }
    write(fx, "s1", &parts).await;
    fx.storage.delete_queue(&queue(Q), true).await.unwrap();
    let left: Vec<_> = fx
        .raw()
        .await
        .state
        .into_keys()
        .filter(|key| key.contains(own::STATISTICS))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}
