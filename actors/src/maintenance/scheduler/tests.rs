use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_core::{Clock, Connector as _, Entropy, Env, Task};
use asynq_memory::MemoryStore;
use chrono::{DateTime, TimeDelta, Utc};
use ractor::Actor;

use super::*;
use crate::broker::Lending;

/// Every tick of a year, of all kinds of specs, is enqueued once and in its second.
#[tokio::test(start_paused = true)]
async fn a_year_of_mixed_entries() {
    const ENTRIES: [(&str, usize); 11] = [
        ("*/15 * * * *", 366 * 96),
        ("@hourly", 366 * 24),
        // Not in the hour that is skipped in March, twice in the one that is repeated in November.
        ("CRON_TZ=America/New_York 30 2 * * *", 365),
        ("CRON_TZ=America/New_York 30 1 * * *", 367),
        ("@weekly", 52),
        ("@monthly", 12),
        ("0 0 29 2 *", 1),
        // Twelve thirteenths, fifty-two Fridays, two of them thirteenths.
        ("0 0 13 * fri", 62),
        ("0 12 1 jan,jul ?", 2),
        ("@every 90m", 366 * 16),
        ("0 0 30 2 *", 0),
    ];
    let start: DateTime<Utc> = "2023-12-31T23:59:30Z".parse().unwrap();
    let env = Env {
        clock: Clock::tokio_at(start),
        entropy: Entropy::seeded(3),
    };
    let ticks: Arc<Mutex<BTreeMap<String, Vec<DateTime<Utc>>>>> = Arc::default();
    let (seen, clock) = (Arc::clone(&ticks), env.clock.clone());
    let config = SchedulerConfig::new()
        .heartbeat_interval(Duration::from_secs(3600))
        .post_enqueue(move |answer| {
            let task_type = answer.unwrap().task_type.clone();
            seen.lock().unwrap().entry(task_type).or_default().push(clock.now());
        });
    let handle = SchedulerHandle::new(config, env.clone()).unwrap();
    for (spec, _) in ENTRIES {
        handle.register(spec, Task::new(spec, b"").unwrap()).unwrap();
    }
    let storage = MemoryStore::new().connect(env.clone()).await.unwrap();
    let lending = Lending::of(Arc::clone(&storage));
    let args = SchedulerArgs {
        handle: handle.clone(),
        broker: lending.handle(),
        tree: Tree::new(env.clock.clone()),
        path: "scheduler".to_owned(),
        longest_sleep: Duration::from_secs(24 * 3600),
    };
    let (actor, ended) = Actor::spawn(None, Scheduler, args).await.unwrap();
    tokio::time::sleep(Duration::from_secs(366 * 24 * 3600 + 10)).await;

    let mut all = 0;
    for (spec, expected) in ENTRIES {
        let ticks = ticks.lock().unwrap().remove(spec).unwrap_or_default();
        assert_eq!(ticks.len(), expected, "{spec}");
        assert!(ticks.is_sorted_by(|a, b| *b - *a >= TimeDelta::minutes(14)), "{spec}");
        let late = ticks.iter().map(|at| at.timestamp_subsec_millis()).max();
        assert!(late.is_none_or(|late| late < 10), "{spec} was late by {late:?} ms");
        all += expected as u64;
    }
    let info = storage.queue_info(&Default::default()).await.unwrap();
    assert_eq!(info.pending, all);
    actor.stop(None);
    ended.await.unwrap();
}

/// Unregistered entries are remembered, up to a limit.
#[test]
fn entries_that_are_ever_new() {
    let start: DateTime<Utc> = "2024-01-01T00:00:00Z".parse().unwrap();
    let env = Env {
        clock: Clock::manual(start),
        entropy: Entropy::seeded(3),
    };
    let handle = SchedulerHandle::new(SchedulerConfig::new(), env.clone()).unwrap();
    let mut most = 0;
    for round in 0..105 {
        let new = |number| Task::new(format!("{round}/{number}"), b"").unwrap();
        let ids: Vec<_> = (0..100)
            .map(|number| handle.register("@hourly", new(number)).unwrap())
            .collect();
        env.clock.set(start + TimeDelta::minutes(round));
        for id in ids {
            handle.unregister(&id).unwrap();
        }
        most = most.max(handle.entries.unregistered());
    }
    assert!((10_000..=10_100).contains(&most), "{most}");
    let left = handle.entries.unregistered();
    assert!((5_000..6_000).contains(&left), "{left}");
}
