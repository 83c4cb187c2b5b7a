//! Groups that one side fills and the other one aggregates.

use std::{collections::BTreeSet, time::Duration};

use asynq_interop::{GoAggregation, GoEvent, GoGroup, GoTask, PATIENCE};

use crate::{
    pair::Pair,
    sides::{Producer, Runner, Settings, Side},
};

const HOUR_MS: i64 = 3_600_000;

fn settings(group_max_size: u32) -> Settings {
    Settings {
        // Go takes no less.
        aggregate_after: Some(Duration::from_secs(1)),
        group_max_size,
        ..Settings::queues(&["default", "low"])
    }
}

fn lines(payload: Option<Vec<u8>>) -> Vec<String> {
    let text = String::from_utf8(payload.unwrap_or_default()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Both sides fill a group; this one makes one task of its members, in the group's queue, and runs it.
async fn aggregated_by(side: Side) {
    let mut pair = Pair::start().await;
    let mut clients = [
        Producer::start(side, &pair.redis).await,
        Producer::start(side.other(), &pair.redis).await,
    ];
    let member = |id: &str| GoTask::new("member").id(id).payload(id).group("gruppe ü").queue("low");
    for (n, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let info = clients[n % 2].enqueue(&member(id).header("k", id)).await;
        assert_eq!((info.state.as_str(), info.group.as_str()), ("aggregating", "gruppe ü"));
    }
    // Go forgets locks of members until they expire; ours go with their members.
    if side == Side::Rust {
        clients[1].enqueue(&member("e").unique_ms(HOUR_MS)).await;
    } else {
        clients[1].enqueue(&member("e")).await;
    }
    let group = GoGroup {
        group: "gruppe ü".to_owned(),
        size: 5,
    };
    assert_eq!(pair.groups("low").await, [group]);

    let mut server = Runner::start(side, &pair, &settings(0)).await;
    let run = server
        .ended_like("the aggregated task", |run| run.r#type == "aggregated:gruppe ü")
        .await;
    assert_eq!((run.queue.as_str(), run.max_retry), ("low", 25));
    let mut members = lines(run.payload);
    members.sort();
    assert_eq!(members, ["a", "b", "c", "d", "e"]);
    pair.until_gone("low", &run.id).await;
    if let Runner::Go(go) = &mut server {
        let told = |event: &GoEvent| match event {
            GoEvent::Aggregate(GoAggregation { group, payloads, .. }) => Some((group.clone(), payloads.len())),
            _ => None,
        };
        let told = go.expect("aggregation", PATIENCE, told).await;
        assert_eq!(told, ("gruppe ü".to_owned(), 5));
    }
    assert_eq!(server.unexpected().len(), 1, "no member is run");
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(pair.look("low", id).await, None);
    }
    assert_eq!(pair.groups("low").await, []);
    server.shutdown().await;
    let raw = pair.raw().await;
    let left: Vec<_> = raw
        .keys()
        .filter(|key| {
            [":t:", ":g:", ":groups", ":aggregation_sets", ":unique:"]
                .iter()
                .any(|part| key.contains(part))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(pair.breaches().await, []);
}

#[tokio::test]
async fn we_aggregate_what_go_enqueued() {
    aggregated_by(Side::Rust).await;
}

#[tokio::test]
async fn go_aggregates_what_we_enqueued() {
    aggregated_by(Side::Go).await;
}

/// Servers of both sides on the same groups: each member is in one aggregated task.
#[tokio::test]
async fn both_sides_aggregate_the_same_groups() {
    const MEMBERS: usize = 90;
    let mut pair = Pair::start().await;
    let mut gos = Runner::start(Side::Go, &pair, &settings(7)).await;
    let mut ours = Runner::start(Side::Rust, &pair, &settings(7)).await;
    let mut clients = [
        Producer::start(Side::Go, &pair.redis).await,
        Producer::start(Side::Rust, &pair.redis).await,
    ];
    for n in 0..MEMBERS {
        let task = GoTask::new("member").id(&format!("{n:02}")).payload(format!("{n:02}"));
        clients[n % 2].enqueue(&task.group(&format!("g{}", n % 4))).await;
    }
    let (mut seen, mut runs) = (BTreeSet::new(), 0);
    while seen.len() < MEMBERS {
        let aggregated = |run: &asynq_interop::GoRun| run.r#type.starts_with("aggregated:g");
        let run = tokio::select! {
            run = gos.ended_like("an aggregated task", aggregated) => run,
            run = ours.ended_like("an aggregated task", aggregated) => run,
        };
        runs += 1;
        let members = lines(run.payload);
        assert!((1..=7).contains(&members.len()), "{members:?}");
        for member in members {
            assert!(seen.insert(member.clone()), "{member} was aggregated twice");
        }
        pair.until_gone("default", &run.id).await;
    }
    gos.shutdown().await;
    ours.shutdown().await;
    assert_eq!(pair.counted("default").await, (runs, 0));
    assert_eq!(pair.groups("default").await, []);
    assert_eq!(pair.breaches().await, []);
}
