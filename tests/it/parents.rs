//! A user's actor above a system ends, on Redis: what ran goes back at once, however slow Redis is.

use std::{future::pending, time::Duration};

use asynq::{AsynqSystem, Connector as _, Env, Exit, ServerConfig, Task, redis::RedisConnectionType};
use asynq_testing::{RedisServer, invariants};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::mpsc, time::Instant};

const RUNNING: usize = 20;

struct Boss;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Boss {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

/// Runs tasks that never end, has the boss end, and looks where they are; Redis stands still for a second meanwhile.
async fn ends(end: End) {
    let server = RedisServer::start().await;
    let connector = || RedisConnectionType::single(server.url()).unwrap();
    let (boss, _) = Actor::spawn(None, Boss, ()).await.unwrap();
    let (began, mut runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(connector())
        .config(ServerConfig::new().concurrency(RUNNING))
        .handler(move |_: Task| {
            let _ = began.send(());
            pending()
        })
        .spawn_linked(boss.get_cell())
        .await
        .unwrap();
    for _ in 0..RUNNING {
        system.client().enqueue(Task::new("t", b"").unwrap()).await.unwrap();
        runs.recv().await.unwrap();
    }
    let at = Instant::now();
    server.pause();
    match end {
        End::Stop => boss.stop(None),
        End::Kill => boss.kill(),
    }
    let (exit, ()) = tokio::join!(system.wait(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.resume();
    });
    assert_eq!(exit, Exit::Killed);
    // Far below the minute after which others would find them.
    assert!(at.elapsed() < Duration::from_secs(20), "{end:?}: {:?}", at.elapsed());
    let storage = connector().connect(Env::default()).await.unwrap();
    let queue = storage.queue_info(&Default::default()).await.unwrap();
    assert_eq!(
        (queue.pending, queue.active, queue.retry),
        (RUNNING as u64, 0, 0),
        "{end:?}"
    );
    storage.close().await;
    invariants::assert_hold(&server.client().await.raw_state().await);
    crate::doctor::finds_nothing(RedisConnectionType::single(server.url()).unwrap()).await;
}

#[tokio::test]
async fn what_runs_goes_back_when_the_parent_ends() {
    tokio::join!(ends(End::Stop), ends(End::Kill));
}
