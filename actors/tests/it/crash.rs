//! The cost of a crash: each actor is crashed under load, again and again, in each way; every task is settled, no
//! attempt runs twice, and the tree shows the restarts.

use std::time::Duration;

use asynq_actors::{AsynqSystem, Crash};
use asynq_core::Task;
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;

use crate::{
    env,
    load::{Crashing, Load},
};

const TIMES: u64 = 4;
const STORM: usize = 300;

async fn survives(path: &str, crash: Crash) {
    let store = MemoryStore::new();
    let load = Load::start(store.clone(), store, env()).await;
    for time in 0..TIMES {
        tokio::time::sleep(Duration::from_millis(50 + 37 * time)).await;
        load.crash(path, crash).await;
    }
    load.balance().await;
}

async fn serves_on(who: Crashing, crash: Crash) {
    let store = MemoryStore::new();
    Load::serves_on(store.clone(), store, env(), (who, crash, TIMES)).await;
}

crate::load::crash_table!(#[tokio::test(start_paused = true)]);

/// Random actors crash in random ways while tasks run: each task is settled exactly once all the same.
#[tokio::test(start_paused = true)]
async fn storm() {
    let store = MemoryStore::new();
    let load = Load::start(store.clone(), store, env()).await;
    load.storm(STORM).await;
    load.balance().await;
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_gives_up_is_restarted_and_works_on() {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .handler(move |_task: Task| {
            let _ = ran.send(());
            std::future::ready(Ok(()))
        })
        .spawn()
        .await
        .unwrap();
    // One more than the intensity of `work` allows, each after the restart from the one before.
    let mut restarts = 0;
    while system.tree().unwrap().find(&["work"]).unwrap().restarts == 0 {
        system.kill_actor("work/heartbeater");
        tokio::time::sleep(Duration::from_secs(8)).await;
        restarts += 1;
        assert!(restarts < 20, "work never gave up\n{:?}", system.tree());
    }
    system.client().enqueue(Task::new("t", b"").unwrap()).await.unwrap();
    let run = tokio::time::timeout(Duration::from_secs(60), runs.recv()).await;
    assert!(run.is_ok(), "nothing is taken any more");
    system.shutdown().await;
}
