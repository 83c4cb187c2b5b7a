//! Work that goes in several calls may end after each of them: nothing is lost, and nothing happens twice.

use std::{collections::BTreeSet, time::Duration};

use asynq_core::{
    BrokerError, EnqueueError,
    broker::{AggregationSet, GroupLimits},
};
use asynq_testing::request::{group, request};

use crate::support::{Bench, key, q, script};

const NOW: GroupLimits = GroupLimits {
    grace: Duration::ZERO,
    max_delay: None,
    max_size: None,
};

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n:05}")).collect()
}

async fn add(bench: &Bench, ids: &[String]) {
    let new = |id: &String| {
        let payload = id.clone().into_bytes();
        request("q", id)
            .group("g")
            .payload(payload)
            .unique(Duration::from_secs(6000))
    };
    bench.enqueue(ids.iter().map(new).collect()).await;
}

async fn collect(bench: &Bench) -> AggregationSet {
    let found = bench.storage.collect_group(&q(), &group("g"), NOW).await;
    found.unwrap().unwrap()
}

async fn members(bench: &mut Bench, key: &str) -> BTreeSet<String> {
    let members = bench.raw(&["ZRANGE", key, "0", "-1"]).await.array();
    members.iter().map(asynq_testing::RespValue::text).collect()
}

async fn keys(bench: &mut Bench, prefix: &str) -> Vec<String> {
    let keys = bench.client.keys().await;
    let keys = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
    keys.filter(|key| key.starts_with(prefix)).collect()
}

fn is_gone<T: std::fmt::Debug>(answer: &Result<T, EnqueueError>) -> bool {
    matches!(
        answer,
        Err(EnqueueError::Broker(BrokerError::AggregationSetGone { .. }))
    )
}

/// One call of reclaim_sets, as a server makes that is killed after it.
async fn reclaim_once(bench: &mut Bench, most: usize) -> i64 {
    let source = script("reclaim_sets", &["container"]);
    let (now, later) = (bench.secs().to_string(), (bench.secs() + 60).to_string());
    let reply = bench
        .raw(&[
            "EVAL",
            &source,
            "3",
            &key("aggregation_sets"),
            &key("groups"),
            &key("x:finished"),
            &key(""),
            &now,
            "100",
            &most.to_string(),
            "0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab",
            &later,
        ])
        .await
        .array();
    reply[0].int()
}

/// A set that went back in part is no longer its owner's, who comes late; the rest follows.
#[tokio::test]
async fn a_set_that_went_back_in_part_is_nobodys() {
    let mut bench = Bench::start().await;
    let old = names("old", 1200);
    add(&bench, &old).await;
    let set = collect(&bench).await;
    assert_eq!(set.tasks.len(), 1200);
    add(&bench, &names("new", 3)).await;
    bench.advance(121);
    assert_eq!(reclaim_once(&mut bench, 500).await, 0);
    assert_eq!(members(&mut bench, &key("g:g")).await.len(), 503);
    assert_eq!(bench.raw_int(&["ZCARD", &key("aggregation_sets")]).await, 1);
    assert_eq!(bench.audit(&q()).await, []);

    // The owner was slow, not dead.
    let late = bench
        .storage
        .finish_aggregation(&set, request("q", "sum").build())
        .await;
    assert!(is_gone(&late), "{late:?}");
    assert!(bench.storage.extend_aggregation(&set).await.is_err());
    assert!(bench.storage.heal(&q(), 10_000).await.unwrap().is_empty());

    assert_eq!(bench.storage.reclaim_aggregation_sets(&q()).await.unwrap(), 1);
    let mut all: BTreeSet<String> = old.into_iter().collect();
    all.extend(names("new", 3));
    assert_eq!(members(&mut bench, &key("g:g")).await, all);
    assert_eq!(bench.raw_int(&["EXISTS", &key("aggregation_sets")]).await, 0);
    assert_eq!(bench.audit(&q()).await, []);
    assert_eq!(collect(&bench).await.tasks.len(), 1203);
}

/// A crash between the result and the end of the deletion: the tasks never run again, whoever looks.
#[tokio::test]
async fn a_set_that_was_finished_in_part_never_runs_again() {
    let mut bench = Bench::start().await;
    add(&bench, &names("id", 600)).await;
    let set = collect(&bench).await;
    // The first call alone, with the arguments that the broker sends.
    let source = script("finish_aggregation", &["container", "create"]);
    let result = request("q", "sum").token(7);
    let (set_key, finished) = (
        key(&format!("g:g:{}", set.id)),
        key(&format!("x:finished:g:{}", set.id)),
    );
    let now = bench.secs();
    let nanos = format!("{now}000000000");
    let message = result.clone().encoded();
    let (prefix, sets, pending) = (key(""), key("aggregation_sets"), key("pending"));
    let (scheduled, groups, index, now) = (key("scheduled"), key("groups"), key("x:finished"), now.to_string());
    let words: Vec<&[u8]> = vec![
        b"EVAL",
        source.as_bytes(),
        b"7",
        pending.as_bytes(),
        scheduled.as_bytes(),
        groups.as_bytes(),
        set_key.as_bytes(),
        sets.as_bytes(),
        index.as_bytes(),
        finished.as_bytes(),
        prefix.as_bytes(),
        now.as_bytes(),
        nanos.as_bytes(),
        b"sum",
        b"p0000000000000007",
        &message,
    ];
    assert_eq!(bench.client.ok(&words).await.text(), "1");
    assert_eq!(bench.raw_int(&["ZCARD", &finished]).await, 600);

    // Neither repairs nor reclaims, ours or Go's, see tasks there that wait.
    assert!(bench.storage.heal(&q(), 10_000).await.unwrap().is_empty());
    assert_eq!(bench.audit(&q()).await, []);
    assert_eq!(bench.raw_int(&["EXISTS", &key("g:g"), &sets]).await, 0);
    bench.advance(200);
    // A new task that took the id of one of them, in its group, is none of them.
    bench.raw(&["DEL", &key("t:id00000")]).await;
    bench.enqueue(vec![request("q", "id00000").group("g")]).await;
    assert_eq!(reclaim_once(&mut bench, 500).await, 0);
    assert_eq!(bench.raw_int(&["ZCARD", &finished]).await, 600);

    // The recoverer of any server deletes what is left, with the locks.
    assert_eq!(bench.storage.reclaim_aggregation_sets(&q()).await.unwrap(), 0);
    assert_eq!(keys(&mut bench, &key("t:")).await.len(), 2);
    assert_eq!(keys(&mut bench, &key("x:finished")).await.len(), 0);
    assert_eq!(
        keys(&mut bench, &key("unique:")).await.len(),
        1,
        "of the one that was deleted by hand"
    );
    assert_eq!(bench.audit(&q()).await, []);

    // And the owner who asks again, having heard no answer, is told of its success.
    bench.storage.finish_aggregation(&set, result.build()).await.unwrap();
    assert_eq!(bench.raw_int(&["LLEN", &pending]).await, 1);
}

/// A set that was collected in part is listed, and goes back when its time is over.
#[tokio::test]
async fn a_set_that_was_collected_in_part_goes_back() {
    let mut bench = Bench::start().await;
    let all = names("id", 700);
    add(&bench, &all).await;
    let source = script("collect_group", &["container"]);
    let set = key("g:g:0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab");
    let end = (bench.secs() + 120).to_string();
    let (group, sets, groups, now) = (
        key("g:g"),
        key("aggregation_sets"),
        key("groups"),
        bench.secs().to_string(),
    );
    let words = [
        "EVAL", &source, "4", &group, &set, &sets, &groups, "g", "600", "", &now, &end, "250", "0",
    ];
    let reply: Vec<_> = bench
        .raw(&words)
        .await
        .array()
        .iter()
        .map(asynq_testing::RespValue::int)
        .collect();
    assert_eq!(reply, [250, 1]);
    assert_eq!(bench.audit(&q()).await, []);
    assert!(bench.storage.heal(&q(), 10_000).await.unwrap().is_empty());
    bench.advance(121);
    assert_eq!(bench.storage.reclaim_aggregation_sets(&q()).await.unwrap(), 1);
    assert_eq!(members(&mut bench, &group).await, all.into_iter().collect());
    assert_eq!(bench.audit(&q()).await, []);
}
