//! The end of a system: at once, in its own time, or on a signal.

use std::{future::pending, time::Duration};

use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{Connector, Error, Result, ServerConfig, Task, TaskId, TaskState};
use asynq_memory::MemoryStore;
use futures::poll;
use rustix::process::{Signal, getpid, kill_process};
use tokio::{sync::mpsc, time::Instant};

use crate::env;

/// Runs `for`: tasks that take so many seconds, or never end. Tells that they began.
async fn system(store: &MemoryStore) -> (AsynqSystem, mpsc::UnboundedReceiver<()>) {
    let (began, runs) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(store.clone())
        .env(env())
        .config(ServerConfig::new().concurrency(4))
        .handler(move |task: Task| {
            let _ = began.send(());
            async move {
                match String::from_utf8_lossy(task.get_payload()).parse() {
                    Ok(secs) => tokio::time::sleep(Duration::from_secs(secs)).await,
                    Err(_) => pending().await,
                }
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    (system, runs)
}

fn task(id: &str, lasts: &str) -> Task {
    Task::new("t", lasts.as_bytes()).unwrap().with_task_id(id)
}

async fn state(store: &MemoryStore, id: &str) -> Option<(TaskState, u32)> {
    let storage = store.connect(env()).await.unwrap();
    let info = storage
        .task_info(&Default::default(), &TaskId::new(id).unwrap())
        .await
        .ok()?;
    Some((info.state, info.retried))
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_in_a_hurry_gives_back_what_does_not_end_in_time() {
    let store = MemoryStore::new();
    let (system, mut runs) = system(&store).await;
    for (id, lasts) in [("short", "1"), ("long", "6"), ("endless", "-")] {
        system.client().enqueue(task(id, lasts)).await.unwrap();
        runs.recv().await.unwrap();
    }
    let began = Instant::now();
    assert_eq!(system.shutdown_within(Duration::from_secs(2)).await, Exit::Stopped);
    // With two seconds of grace for cancelled handlers; the setting would wait for eight.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(state(&store, "short").await, None, "done");
    for id in ["long", "endless"] {
        assert_eq!(
            state(&store, id).await,
            Some((TaskState::Pending, 0)),
            "{id}: no retry is used up"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_turns_out_too_long_can_end_at_once() {
    let store = MemoryStore::new();
    let (system, mut runs) = system(&store).await;
    for (id, lasts) in [("long", "6"), ("endless", "-")] {
        system.client().enqueue(task(id, lasts)).await.unwrap();
        runs.recv().await.unwrap();
    }
    system.stop();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    assert_eq!(system.shutdown_at_once().await, Exit::Stopped);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for id in ["long", "endless"] {
        assert_eq!(state(&store, id).await, Some((TaskState::Pending, 0)), "{id}");
    }
}

/// Ends as its type says when it is told to.
async fn ends_when_cancelled(task: Task) -> Result<()> {
    task.context().unwrap().cancelled().await;
    match task.get_type() {
        "ok" => Ok(()),
        "panics" => panic!("told to end"),
        "skips" => Err(Error::skip_retry("no time left")),
        "canceled" => Err(Error::Canceled),
        _ => Err(Error::other(std::io::Error::other(Error::Canceled))),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_run_makes_of_the_shutdown_its_task_goes_back_unless_it_succeeded() {
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(store.clone())
        .env(env())
        .config(ServerConfig::new().concurrency(5))
        .handler(ends_when_cancelled)
        .spawn()
        .await
        .unwrap();
    let types = ["ok", "panics", "skips", "canceled", "wraps"];
    for task_type in types {
        let last_try = Task::new(task_type, b"")
            .unwrap()
            .with_task_id(task_type)
            .with_max_retry(0);
        system.client().enqueue(last_try).await.unwrap();
    }
    while system.running() < types.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(system.shutdown_within(Duration::ZERO).await, Exit::Stopped);
    assert_eq!(state(&store, "ok").await, None, "done");
    for task_type in &types[1..] {
        assert_eq!(
            state(&store, task_type).await,
            Some((TaskState::Pending, 0)),
            "{task_type}: neither archived nor retried"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_somebody_cancels_fails_as_cancelled_unless_it_says_how_to_end() {
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(store.clone())
        .env(env())
        .config(ServerConfig::new().concurrency(2))
        .handler(ends_when_cancelled)
        .spawn()
        .await
        .unwrap();
    for task_type in ["skips", "wraps"] {
        let task = Task::new(task_type, b"").unwrap().with_task_id(task_type);
        system.client().enqueue(task).await.unwrap();
    }
    while system.running() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for id in ["skips", "wraps"] {
        assert_eq!(system.cancel_task(&TaskId::new(id).unwrap()), 1);
    }
    system.shutdown().await;
    assert_eq!(state(&store, "skips").await, Some((TaskState::Archived, 0)));
    assert_eq!(state(&store, "wraps").await, Some((TaskState::Retry, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_drained_system_has_nothing_in_flight_and_can_go_on() {
    let store = MemoryStore::new();
    let (system, mut runs) = system(&store).await;
    for id in ["a", "b"] {
        system.client().enqueue(task(id, "20")).await.unwrap();
        runs.recv().await.unwrap();
    }
    let began = Instant::now();
    let client = system.client();
    let (_, enqueued) = tokio::join!(system.drain(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.enqueue(task("later", "1")).await
    });
    enqueued.unwrap();
    assert_eq!(began.elapsed().as_secs(), 20, "however long it takes");
    assert_eq!((state(&store, "a").await, state(&store, "b").await), (None, None));
    assert_eq!(state(&store, "later").await, Some((TaskState::Pending, 0)));
    system.resume_fetching();
    runs.recv().await.unwrap();
    assert_eq!(system.shutdown().await, Exit::Stopped);
    system.drain().await;
}

/// One test for all signals: they go to the process.
#[tokio::test]
async fn signals_are_heard_only_where_the_app_asks() {
    let store = MemoryStore::new();
    let raise = |signal| kill_process(getpid(), signal).unwrap();
    for last in [Signal::TERM, Signal::INT] {
        let (system, mut runs) = system(&store).await;
        let mut lives = std::pin::pin!(system.run_until_signal());
        assert!(poll!(&mut lives).is_pending());
        system.client().enqueue(task("before", "0")).await.unwrap();
        runs.recv().await.unwrap();
        let mut other = AsynqSystem::builder(store.clone()).env(env()).spawn().await.unwrap();
        raise(Signal::TSTP);
        // Heard when a task is no longer taken; it is then not taken by later looks either.
        let stopped = async {
            while system.is_fetching() {
                let _ = tokio::time::timeout(Duration::from_millis(10), &mut lives).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), stopped).await.unwrap();
        system.client().enqueue(task("after", "0")).await.unwrap();
        raise(last);
        let exit = tokio::time::timeout(Duration::from_secs(30), lives).await.unwrap();
        assert_eq!(exit.unwrap(), Exit::Stopped);
        assert_eq!(state(&store, "after").await, Some((TaskState::Pending, 0)));
        // The other system has asked for no signal and lives on.
        other.ping().await.unwrap();
        other.shutdown().await;
        let storage = store.connect(env()).await.unwrap();
        assert!(runs.try_recv().is_err());
        other = AsynqSystem::builder(store.clone())
            .env(env())
            .handler(|_: Task| async { Ok(()) })
            .spawn()
            .await
            .unwrap();
        while storage
            .task_info(&Default::default(), &TaskId::new("after").unwrap())
            .await
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
        other.shutdown().await;
    }

    // A second one does not wait for what runs.
    let (system, mut runs) = system(&store).await;
    let mut lives = std::pin::pin!(system.run_until_signal());
    system.client().enqueue(task("endless", "-")).await.unwrap();
    assert!(poll!(&mut lives).is_pending());
    runs.recv().await.unwrap();
    let began = Instant::now();
    let exit = loop {
        raise(Signal::INT);
        if let Ok(exit) = tokio::time::timeout(Duration::from_millis(50), &mut lives).await {
            break exit.unwrap();
        }
    };
    assert_eq!(exit, Exit::Stopped);
    // Less than the shutdown timeout.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(state(&store, "endless").await, Some((TaskState::Pending, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_system_that_ends_by_itself_is_not_waited_for() {
    let store = MemoryStore::new();
    let (system, _runs) = system(&store).await;
    let again = system.clone();
    let (exit, ()) = tokio::join!(system.run_until_signal(), async move {
        again.shutdown().await;
    });
    assert_eq!(exit.unwrap(), Exit::Stopped);
}
