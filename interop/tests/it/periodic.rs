//! Schedulers of ours in processes of their own, which die by SIGKILL.

use std::collections::BTreeSet;

use asynq::{
    Connector as _, TaskState,
    broker::Env,
    inspect::{ListFilter, PageRequest},
    redis::RedisConnectionType,
    scheduler::PeriodicTaskConfig,
    task::{Task, TaskOptions},
};
use asynq_core::{EntryKey, QueueName};
use asynq_interop::{PATIENCE, SchedulerProcess, ToldTick};
use asynq_testing::RedisServer;
use tokio::{sync::mpsc, time::timeout};

const KILLS: usize = 12;

/// Of three schedulers the one that enqueued last is killed, and another one started, again and again: each
/// tick from the first to the last is enqueued once.
#[tokio::test]
async fn whoever_enqueued_last_is_killed_and_each_tick_is_enqueued_once() {
    let config = PeriodicTaskConfig::new("@every 1s", Task::new("periodic", b"").unwrap());
    let redis = RedisServer::start().await;
    let (tell, mut told) = mpsc::unbounded_channel::<ToldTick>();
    let (mut ticks, mut started) = (Vec::new(), 0);
    let mut another = async || {
        started += 1;
        let program = env!("CARGO_BIN_EXE_asynq-interop-scheduler");
        let spec = config.get_cronspec();
        (
            started,
            SchedulerProcess::start(program, &redis.url(), spec, started, tell.clone()).await,
        )
    };
    // The second begins when there is a first tick.
    let mut running = vec![another().await];
    ticks.push(timeout(PATIENCE, told.recv()).await.unwrap().unwrap());
    for _ in 0..2 {
        running.push(another().await);
    }
    for _ in 0..KILLS {
        let last = loop {
            let tick = timeout(PATIENCE, told.recv()).await.expect("no tick").unwrap();
            let alive = running.iter().position(|(number, _)| *number == tick.by);
            ticks.push(tick);
            // Told before it was killed.
            let Some(alive) = alive else { continue };
            if told.is_empty() {
                break alive;
            }
        };
        let (_, doomed) = running.swap_remove(last);
        doomed.kill().await;
        running.push(another().await);
    }
    for (_, scheduler) in running {
        scheduler.shutdown().await;
    }
    while let Ok(tick) = told.try_recv() {
        ticks.push(tick);
    }

    let storage = RedisConnectionType::single(redis.url()).unwrap();
    let storage = storage.connect(Env::default()).await.unwrap();
    let queue = QueueName::default();
    let key = EntryKey::new(
        "default",
        config.get_cronspec(),
        "UTC",
        config.get_task(),
        &TaskOptions::new(),
    );
    let last = storage
        .last_ticks(&[(queue.clone(), key)])
        .await
        .remove(0)
        .unwrap()
        .unwrap();
    let told: BTreeSet<_> = ticks.iter().map(|tick| tick.at).collect();
    assert_eq!(told.len(), ticks.len(), "no tick is told twice: {ticks:?}");
    let first = *told.first().unwrap();
    let all = usize::try_from(last.at - first + 1).unwrap();
    // One that was killed may have been about to tell.
    assert!(
        told.len() <= all && told.len() + KILLS >= all,
        "{all} ticks, told: {ticks:?}"
    );
    let pending = ListFilter::State(TaskState::Pending);
    let page = storage
        .list_tasks(&queue, &pending, PageRequest::new(1, 1000))
        .await
        .unwrap();
    assert_eq!(page.tasks.len(), all, "{ticks:?}");
    let ids: BTreeSet<_> = page.tasks.iter().map(|info| info.id.as_str()).collect();
    assert!(ticks.iter().all(|tick| ids.contains(tick.task.as_str())), "{ticks:?}");
    storage.close().await;
    asynq_testing::invariants::assert_hold(&redis.client().await.raw_state().await);
}
