//! Nothing is earlier than asked, to the millisecond, though the wire has whole seconds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, Exit, SchedulerConfig, SchedulerHandle};
use asynq_core::{Clock, Connector, Error, QueueName, RetryDelay, ServerConfig, Task, TaskState, broker::Env};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Faults, FaultyConnector, Op};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use crate::env;

/// The latest that a start is where tasks come all the time: how long the forwarder waits between two looks, and
/// its jitter.
const LATE: TimeDelta = TimeDelta::milliseconds(310);

type Starts = Arc<Mutex<BTreeMap<String, Vec<DateTime<Utc>>>>>;

fn clock_at(millis: i64) -> (Clock, Env) {
    let clock = Clock::tokio_at(DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap());
    let env = Env {
        clock: clock.clone(),
        ..env()
    };
    (clock, env)
}

/// A system that writes down when each run begins, by task. A first run of payload `fail` is to be retried after
/// 1.7 s; one of `snooze` puts itself off for 1.3 s.
fn system(storage: impl Connector, env: Env, starts: &Starts) -> AsynqSystemBuilder {
    let (starts, now) = (Arc::clone(starts), env.clock.clone());
    AsynqSystem::builder(storage)
        .env(env)
        .config(ServerConfig::new().retry_delay(RetryDelay::new(|_, _, _| Duration::from_millis(1700))))
        .handler(move |task: Task| {
            let mut starts = starts.lock().unwrap();
            let id = match task.get_type() {
                "tick" => "tick".to_owned(),
                _ => task.context().unwrap().id().to_string(),
            };
            let runs = starts.entry(id).or_default();
            runs.push(now.now());
            std::future::ready(match (task.get_payload(), runs.len()) {
                (b"fail", 1) => Err(Error::other("once")),
                (b"snooze", 1) => Err(Error::snooze(Duration::from_millis(1300))),
                _ => Ok(()),
            })
        })
}

#[track_caller]
fn assert_on_time(what: &str, late: TimeDelta, most: TimeDelta) {
    assert!(late >= TimeDelta::zero() && late <= most, "{what}: {late}");
}

#[tokio::test(start_paused = true)]
async fn no_run_begins_before_its_millisecond() {
    let (clock, env) = clock_at(250);
    let starts = Starts::default();
    let system = system(MemoryStore::new(), env, &starts).spawn().await.unwrap();
    let mut asked = BTreeMap::new();
    for n in 0..60 {
        let delay = Duration::from_millis(37 + 73 * n);
        let task = Task::new("t", b"").unwrap().with_task_id(n.to_string());
        let at = clock.now() + delay;
        let task = if n % 2 == 0 {
            task.with_process_in(delay)
        } else {
            task.with_process_at(at)
        };
        asked.insert(n.to_string(), at);
        system.client().enqueue(task).await.unwrap();
    }
    for payload in ["fail", "snooze"] {
        let task = Task::new("t", payload.as_bytes()).unwrap().with_task_id(payload);
        system.client().enqueue(task).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let starts = starts.lock().unwrap().clone();
    for (id, at) in asked {
        assert_on_time(&id, starts[&id][0] - at, LATE);
    }
    for (id, delay) in [("fail", 1700), ("snooze", 1300)] {
        let late = starts[id][1] - starts[id][0] - TimeDelta::milliseconds(delay);
        assert_on_time(id, late, LATE);
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_single_delayed_task_is_late_by_the_jitter_at_most_and_costs_few_looks() {
    let (clock, env) = clock_at(250);
    let (starts, faults) = (Starts::default(), Faults::new());
    let storage = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let system = system(storage, env, &starts).spawn().await.unwrap();
    let looks = || faults.calls(Op::Forward);
    for (n, millis) in [300, 1900, 700, 2400].into_iter().enumerate() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (id, before) = (n.to_string(), looks());
        let task = Task::new("t", b"").unwrap().with_task_id(&id);
        let at = clock.now() + TimeDelta::milliseconds(millis);
        let delay = Duration::from_millis(millis.unsigned_abs());
        system.client().enqueue(task.with_process_in(delay)).await.unwrap();
        tokio::time::sleep(delay + Duration::from_millis(200)).await;
        let started = starts.lock().unwrap()[&id][0];
        assert_on_time(&id, started - at, TimeDelta::milliseconds(60));
        // At the enqueue, when its second comes, and when it is due; each look that moves one is followed by
        // another, as the set changed.
        assert!(looks() - before <= 6, "{id}: {}", looks() - before);
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn no_tick_is_run_before_its_second() {
    let (clock, env) = clock_at(999);
    let starts = Starts::default();
    let scheduler = SchedulerHandle::new(SchedulerConfig::new(), env.clone()).unwrap();
    scheduler
        .register("@every 1s", Task::new("tick", b"").unwrap())
        .unwrap();
    let system = system(MemoryStore::new(), env, &starts)
        .scheduler_handle(scheduler)
        .spawn()
        .await
        .unwrap();
    let began = clock.now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let ticks = starts.lock().unwrap()["tick"].clone();
    assert!((18..=20).contains(&ticks.len()), "{ticks:?}");
    for (n, tick) in ticks.iter().enumerate() {
        let into = TimeDelta::nanoseconds(tick.timestamp_subsec_nanos().into());
        assert_on_time(&format!("{n}"), into, TimeDelta::milliseconds(100));
        assert!(*tick - began >= TimeDelta::milliseconds(1000 * i64::try_from(n).unwrap()));
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_run_lasts_until_its_deadline_to_the_millisecond() {
    let (clock, env) = clock_at(100);
    let (told, mut ended) = mpsc::unbounded_channel();
    let now = clock.clone();
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env)
        .handler(move |task: Task| {
            let (told, now, context) = (told.clone(), now.clone(), task.context().unwrap().clone());
            async move {
                let began = now.now();
                // The run is broken off at its deadline, which the drop tells.
                let _tell = Tell(told, now, (context.deadline(), began));
                std::future::pending::<asynq_core::Result<()>>().await
            }
        })
        .spawn()
        .await
        .unwrap();
    // The first in the second that it is enqueued in, the next right before the end of one.
    for millis in [500, 2999, 5000] {
        let asked = clock.now();
        let deadline = DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap();
        let task = Task::new("t", b"").unwrap().with_max_retry(0).with_deadline(deadline);
        let id = system.client().enqueue(task).await.unwrap().id;
        let (shown, began, over) = tokio::time::timeout(Duration::from_secs(10), ended.recv())
            .await
            .expect("it runs")
            .unwrap();
        assert_eq!(shown, deadline);
        let soon = TimeDelta::milliseconds(50);
        assert!(began - asked <= soon, "at once");
        let late = over - deadline;
        assert!(late >= TimeDelta::zero() && late <= soon, "{millis}: {late}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let storage = system.storage().await.unwrap();
        let info = storage.task_info(&QueueName::default(), &id).await.unwrap();
        assert_eq!(info.state, TaskState::Archived);
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

type Run = (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>);

/// Tells of a run when it is over.
struct Tell(mpsc::UnboundedSender<Run>, Clock, (DateTime<Utc>, DateTime<Utc>));

impl Drop for Tell {
    fn drop(&mut self) {
        let Self(told, now, (deadline, began)) = self;
        let _ = told.send((*deadline, *began, now.now()));
    }
}
