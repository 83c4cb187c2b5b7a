//! The user's hooks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::{Crash, SchedulerConfig, SchedulerHandle};
use asynq_core::{TaskOptions, error::BrokerError};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use super::kit::{env, other, start, task, tasks, until};

/// A scheduler whose hooks write down what they are told, and then panic if they are to.
fn told(config: SchedulerConfig, panics: bool) -> (SchedulerConfig, Arc<Mutex<Vec<String>>>) {
    let words: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = |words: &Arc<Mutex<Vec<String>>>| {
        let words = Arc::clone(words);
        move |word: String| {
            words.lock().unwrap().push(word);
            assert!(!panics, "a hook of the user's");
        }
    };
    let (pre, post, failed) = (note(&words), note(&words), note(&words));
    let config = config
        .pre_enqueue(move |task, options| {
            assert_eq!(*options, TaskOptions::new().max_retry(3));
            pre(format!("pre {}", task.get_type()));
        })
        .post_enqueue(move |answer| match answer {
            Ok(info) => post(format!("post {} {}", info.task_type, info.max_retry)),
            Err(error) => post(format!("post: {error}")),
        })
        .error_handler(move |task, options, error| {
            assert_eq!(*options, TaskOptions::new().max_retry(3));
            failed(format!("failed {}: {error}", task.get_type()));
        });
    (config, words)
}

const AWAY: &str = "failed t: storage is not reachable";

async fn three_ticks(panics: bool) {
    let (store, env, faults) = (MemoryStore::new(), env(), Faults::new());
    let (config, words) = told(SchedulerConfig::new(), panics);
    let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
    let options = TaskOptions::new().max_retry(3);
    scheduler.register_with("* * * * *", task("t"), &options).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T12:01:00Z").await;
    faults.next(Op::EnqueueTick, Fault::unavailable());
    faults.next(Op::EnqueueTick, Fault::unavailable());
    until(&env, "2024-03-10T12:02:30Z").await;
    let refused = || BrokerError::Refused {
        source: "NOPERM".into(),
    };
    faults.next(Op::EnqueueTick, Fault::Fail(refused));
    until(&env, "2024-03-10T12:03:00Z").await;
    let no = "storage refused the operation";
    assert_eq!(
        *words.lock().unwrap(),
        [
            "pre t",
            "post t 3",
            "pre t",
            AWAY,
            AWAY,
            "post t 3",
            "pre t",
            &format!("failed t: {no}"),
            &format!("post: {no}"),
        ]
    );
    assert_eq!(tasks(&store, &env).await, 2);
    let tree = system.tree().unwrap();
    assert_eq!(tree.find(&["maintenance", "scheduler"]).unwrap().restarts, 0);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn each_tick_is_told_once() {
    three_ticks(false).await;
}

#[tokio::test(start_paused = true)]
async fn hooks_that_panic_change_nothing() {
    three_ticks(true).await;
}

/// A tick that goes on after a crash is not announced again; one that is given up is told of.
#[tokio::test(start_paused = true)]
async fn a_crash_and_a_tick_that_is_too_late() {
    let (env, faults) = (env(), Faults::new());
    let (config, words) = told(SchedulerConfig::new(), false);
    let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
    let options = TaskOptions::new().max_retry(3);
    scheduler.register_with("5 12 * * *", task("t"), &options).unwrap();
    let system = start(
        FaultyConnector::new(MemoryStore::new(), faults.clone()),
        &env,
        &scheduler,
    )
    .await;
    faults.always(Op::EnqueueTick, Fault::unavailable());
    until(&env, "2024-03-10T12:05:30Z").await;
    assert!(system.crash_actor("maintenance/scheduler", Crash::Kill));
    until(&env, "2024-03-10T12:11:00Z").await;
    let mut words = words.lock().unwrap().clone();
    assert!(words.len() > 20, "{words:?}");
    assert_eq!(words.pop().unwrap(), "post: storage is not reachable");
    assert_eq!(words.remove(0), "pre t");
    assert!(words.iter().all(|word| word == AWAY), "{words:?}");
    system.shutdown().await;
}

/// A scheduler that loses a tick to another one does not report that it enqueued it.
#[tokio::test(start_paused = true)]
async fn a_tick_of_another_scheduler_is_not_told() {
    let (store, env) = (MemoryStore::new(), env());
    let mut all = Vec::new();
    for seed in [6, 7] {
        let env = other(&env, seed);
        let (config, words) = told(SchedulerConfig::new(), false);
        let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
        let options = TaskOptions::new().max_retry(3);
        scheduler.register_with("* * * * *", task("t"), &options).unwrap();
        all.push((start(store.clone(), &env, &scheduler).await, words));
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut posts = 0;
    for (system, words) in all {
        system.shutdown().await;
        let words = words.lock().unwrap();
        assert_eq!(words.iter().filter(|word| *word == "pre t").count(), 10);
        posts += words.iter().filter(|word| *word == "post t 3").count();
    }
    assert_eq!(posts, 10);
}
