//! Groups on Redis, in real time, while the aggregator crashes or fails.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use asynq::{
    AsynqSystem, Error, Exit, GroupAggregatorFunc, Inspector, ServerConfig, Task, TaskState,
    redis::{RedisBroker, RedisConnectionType},
    supervisor,
};
use asynq_testing::{RedisServer, invariants};
use tokio::sync::mpsc;

const MEMBERS: usize = 300;
const GROUPS: usize = 7;
/// Less than a set lives: one that a crash left behind would not be back in time.
const PATIENCE: Duration = Duration::from_secs(90);

/// No crash leaves a set behind, so every member is aggregated soon, and once.
#[tokio::test]
async fn crashes_of_the_aggregator_cost_no_set() {
    let server = RedisServer::start().await;
    let (sums, mut seen) = mpsc::unbounded_channel();
    let often = Duration::from_millis(20);
    let config = ServerConfig::new()
        .concurrency(10)
        .group_grace_period(Duration::from_secs(1))
        .unwrap()
        .group_max_size(9)
        .group_check_interval(often);
    let system = AsynqSystem::builder(RedisConnectionType::single(server.url()).unwrap())
        .config(config)
        .intensity(supervisor::Intensity {
            restarts: 1000,
            within: Duration::from_secs(60),
        })
        .backoff(supervisor::Backoff {
            first: Duration::from_millis(5),
            most: often,
        })
        .aggregator(GroupAggregatorFunc::new(|group, tasks| {
            let members: Vec<_> = tasks.iter().map(|task| task.get_payload()).collect();
            Task::new(group, &members.join(&b","[..]))
        }))
        .handler(move |sum: Task| {
            let sent = sums.send(String::from_utf8_lossy(sum.get_payload()).into_owned());
            std::future::ready(sent.map_err(Error::other))
        })
        .spawn()
        .await
        .unwrap();
    for number in 0..MEMBERS {
        let member = Task::new("member", number.to_string().as_bytes()).unwrap();
        let member = member.with_group(format!("g{}", number % GROUPS));
        let unique = member.with_unique_ttl(Duration::from_secs(3600));
        let info = system.client().enqueue(unique).await.unwrap();
        assert_eq!(info.state, TaskState::Aggregating);
        // While it is away there is nothing to kill.
        match number % 20 {
            5 => drop(system.kill_actor("maintenance/aggregator")),
            15 => drop(system.kill_actor("maintenance")),
            _ => {}
        }
    }
    let mut members = BTreeSet::new();
    while members.len() < MEMBERS {
        let sum = tokio::time::timeout(PATIENCE, seen.recv()).await;
        let sum = sum.unwrap_or_else(|_| panic!("{} members, then no more\n{system:?}", members.len()));
        let sum = sum.unwrap();
        assert!(sum.split(',').count() <= 9, "{sum}");
        for member in sum.split(',') {
            assert!(members.insert(member.to_owned()), "{member} came twice");
        }
    }
    let restarts = |path: &[&str]| system.tree().unwrap().find(path).unwrap().restarts;
    assert!(restarts(&["maintenance"]) > 0, "{system:?}");
    assert_eq!(system.shutdown().await, Exit::Stopped);
    let raw = server.client().await.raw_state().await;
    invariants::assert_hold(&raw);
    crate::doctor::finds_nothing(RedisConnectionType::single(server.url()).unwrap()).await;
    let left = raw
        .keys()
        .filter(|key| key.contains(":t:") || key.contains(":unique:") || key.contains(":g:"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The members of a group whose aggregator fails three times: always seen, back soon each time, and aggregated
/// once.
#[tokio::test]
async fn an_aggregator_that_fails_costs_seconds_and_hides_nothing() {
    const EACH: u64 = 60;
    let server = RedisServer::start().await;
    let connection = || RedisConnectionType::single(server.url()).unwrap();
    let (sums, mut seen) = mpsc::unbounded_channel();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let called = Arc::clone(&calls);
    let often = Duration::from_millis(50);
    let config = ServerConfig::new()
        .group_grace_period(Duration::from_secs(3600))
        .unwrap()
        .group_max_size(u32::try_from(EACH).unwrap())
        .group_check_interval(often);
    let system = AsynqSystem::builder(connection())
        .config(config)
        .aggregator(GroupAggregatorFunc::new(move |group, tasks| {
            let mut calls = called.lock().unwrap();
            calls.push(Instant::now());
            if calls.len() <= 3 {
                return Err(Error::other("not yet"));
            }
            let mut members: Vec<_> = tasks.iter().map(|task| task.get_payload()).collect();
            members.sort_unstable();
            Task::new(group, &members.join(&b","[..]))
        }))
        .handler(move |sum: Task| {
            let sent = sums.send(String::from_utf8_lossy(sum.get_payload()).into_owned());
            std::future::ready(sent.map_err(Error::other))
        })
        .spawn()
        .await
        .unwrap();
    let mut names: Vec<_> = (0..EACH).map(|number| number.to_string()).collect();
    for name in &names {
        let member = Task::new("member", name.as_bytes()).unwrap().with_group("g");
        system.client().enqueue(member).await.unwrap();
    }
    let inspector = Inspector::new(Arc::new(RedisBroker::new(connection()).await.unwrap()));
    let mut in_sets = 0;
    let sum = tokio::time::timeout(PATIENCE, async {
        loop {
            let counted = inspector.get_queue_stats("default").await.unwrap().aggregating;
            for group in inspector.list_groups("default").await.unwrap() {
                assert!(group.size + group.in_sets <= EACH, "{group:?}");
                in_sets = in_sets.max(group.in_sets);
            }
            match seen.try_recv() {
                Ok(sum) => return sum,
                Err(_) => assert!(
                    counted == EACH || calls.lock().unwrap().len() == 4,
                    "{counted} tasks are seen"
                ),
            }
            tokio::time::sleep(often / 2).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not aggregated: {:?}", calls.lock().unwrap()));
    names.sort_unstable();
    assert_eq!(sum, names.join(","));
    // They may wait in the group for a moment that no look falls into.
    assert_eq!(in_sets, EACH);
    let gaps: Vec<_> = calls.lock().unwrap().windows(2).map(|two| two[1] - two[0]).collect();
    for (gap, least) in gaps.iter().zip([1, 2, 4]) {
        let least = Duration::from_secs(least);
        assert!(least <= *gap && *gap < least + Duration::from_secs(30), "{gaps:?}");
    }
    assert_eq!(gaps.len(), 3);
    let stats = inspector.get_queue_stats("default").await.unwrap();
    assert_eq!((stats.aggregating, stats.groups), (0, 0));
    assert_eq!(system.shutdown().await, Exit::Stopped);
    invariants::assert_hold(&server.client().await.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(server.url()).unwrap()).await;
}
