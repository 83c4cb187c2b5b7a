//! What a crash may cost (DESIGN section 3): each actor is killed under load, again and again; every
//! task is settled, no attempt runs twice, and the tree shows the restarts.

use std::time::Duration;

use asynq_memory::MemoryStore;

use crate::load::Load;

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
