//! Groups on Redis, in real time, while the aggregator crashes.

use std::{collections::BTreeSet, time::Duration};

use asynq::{
    AsynqSystem, Error, Exit, GroupAggregatorFunc, ServerConfig, Task, TaskState, redis::RedisConnectionType,
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
    let left = raw
        .keys()
        .filter(|key| key.contains(":t:") || key.contains(":unique:") || key.contains(":g:"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<&String>::new());
}
