//! What a crash may cost (DESIGN section 3): each actor is killed under load, again and again; every
//! task is settled, no attempt runs twice, and the tree shows the restarts.

use std::time::Duration;

use asynq_actors::AsynqSystem;
use asynq_core::Task;
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;

use crate::load::{Load, env};

const KILLS: u64 = 6;

async fn survives_kills_of(path: &str) {
    let store = MemoryStore::new();
    let load = Load::start(store.clone(), store).await;
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(150 + 37 * kill)).await;
        assert!(load.system.kill_actor(path), "no actor at {path}");
    }
    let tree = load.system.tree().unwrap();
    let names: Vec<_> = path.split('/').collect();
    assert!(tree.find(&names).unwrap().restarts >= KILLS - 1, "{tree}");
    load.balance().await;
}

macro_rules! survives {
    ($($name:ident: $path:literal),+ $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                survives_kills_of($path).await;
            }
        )+
    };
}

survives! {
    broker: "broker",
    client: "client",
    maintenance: "maintenance",
    forwarder: "maintenance/forwarder",
    recoverer: "maintenance/recoverer",
    janitor: "maintenance/janitor",
    work: "work",
    heartbeater: "work/heartbeater",
    syncer: "work/syncer",
    processor: "work/processor",
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
