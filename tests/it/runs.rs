//! The record of a task's runs, as whole systems write it, on the embedded broker and on Redis.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Connector, Env, Inspector, ServerConfig,
    clock::Clock,
    error::Error,
    memory::MemoryStore,
    redis::RedisConnectionType,
    task::{MAX_RUN_ERROR, MAX_RUNS, MAX_RUNS_BYTES, RunOutcome, Runs, Task, TaskInfo, TaskState},
};
use asynq_testing::{RedisServer, invariants};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(120);
const HOUR: Duration = Duration::from_secs(3600);
/// Length of an error.
const MIB: usize = 1 << 20;
/// Number of failures before the success.
const FAILURES: u32 = 12;

fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        ..Env::default()
    }
}

fn config() -> ServerConfig {
    ServerConfig::new().retry_delay(asynq::RetryDelay::new(|_, _, _| Duration::ZERO))
}

fn task(id: &str) -> Task {
    Task::new("t", b"").unwrap().with_task_id(id).with_retention(HOUR)
}

/// Waits until a task is in a state.
async fn until(inspector: &Inspector<dyn asynq::broker::Storage>, id: &str, state: TaskState) -> TaskInfo {
    let wait = async {
        loop {
            let info = inspector.get_task_info("default", id).await.unwrap();
            if info.state == state {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap()
}

fn outcomes(runs: &Runs) -> Vec<RunOutcome> {
    runs.recorded.iter().map(|run| run.outcome).collect()
}

async fn fails_often_and_then_succeeds(connector: Arc<dyn Connector>, env: Env) {
    let system = AsynqSystem::builder(connector)
        .env(env)
        .config(config())
        .handler(|task: Task| async move {
            match task.context().unwrap().retried() {
                retried if retried < FAILURES => Err(Error::other(format!("{retried} {}", "é".repeat(MIB / 2)))),
                _ => Ok(()),
            }
        })
        .spawn()
        .await
        .unwrap();
    system.client().enqueue(task("a")).await.unwrap();
    let inspector = Inspector::new(system.storage().await.unwrap());
    let info = until(&inspector, "a", TaskState::Completed).await;
    let runs = info.runs.unwrap();
    assert_eq!((runs.recorded.len(), runs.missing()), (MAX_RUNS, FAILURES + 1 - 10));
    let (last, failed) = runs.recorded.split_last().unwrap();
    assert_eq!((last.outcome, last.error.as_str()), (RunOutcome::Done, ""));
    assert_eq!(last.retried, FAILURES);
    for (retried, run) in (3..).zip(failed) {
        assert_eq!((run.outcome, run.retried), (RunOutcome::Retried, retried));
        assert!(run.error.starts_with(&format!("{retried} é")) && run.error.ends_with('…'));
        assert!(run.error.len() <= MAX_RUN_ERROR, "{}", run.error.len());
    }
    for (run, next) in runs.recorded.iter().zip(&runs.recorded[1..]) {
        assert!(
            run.started <= run.ended && run.ended <= next.started,
            "{run:?} {next:?}"
        );
    }
    assert!(info.last_error.len() > MIB / 2, "{}", info.last_error.len());
    let servers: BTreeSet<_> = runs.recorded.iter().map(|run| run.server.clone().unwrap()).collect();
    let shown = &inspector.servers().await.unwrap()[0];
    let expected = asynq::broker::ServerIdentity::from(shown);
    assert_eq!(servers, BTreeSet::from([expected]));
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_tells_its_last_runs_in_memory() {
    fails_often_and_then_succeeds(Arc::new(MemoryStore::new()), env()).await;
}

#[tokio::test]
async fn a_task_tells_its_last_runs_on_redis() {
    let server = RedisServer::start().await;
    let connector = RedisConnectionType::single(server.url()).unwrap();
    fails_often_and_then_succeeds(Arc::new(connector), Env::default()).await;
    let mut raw = server.client().await;
    let field = raw.ok(&["HGET", "asynq:{default}:t:a", "x:runs"]).await.text();
    assert!(field.len() <= MAX_RUNS_BYTES, "{}", field.len());
    invariants::assert_hold(&raw.raw_state().await);
}

/// The server that is shut down gives the run back; the next one ends it.
async fn given_back_and_run_by_another(connector: Arc<dyn Connector>, env: impl Fn() -> Env) {
    let (started, mut starts) = mpsc::unbounded_channel();
    let first = AsynqSystem::builder(Arc::clone(&connector))
        .env(env())
        .config(config().shutdown_timeout(Duration::from_millis(1)))
        .handler(move |_: Task| {
            let _ = started.send(());
            std::future::pending()
        })
        .spawn()
        .await
        .unwrap();
    let inspector = Inspector::new(first.storage().await.unwrap());
    first.client().enqueue(task("a")).await.unwrap();
    // Gone with its success, whatever it was before.
    let deleted = Task::new("t", b"").unwrap().with_task_id("b");
    first.client().enqueue(deleted).await.unwrap();
    for _ in 0..2 {
        starts.recv().await.unwrap();
    }
    // A run in progress has no record yet.
    assert_eq!(
        inspector.get_task_info("default", "a").await.unwrap().runs,
        Some(Runs::default())
    );
    let one = asynq::broker::ServerIdentity::from(&inspector.servers().await.unwrap()[0]);
    first.shutdown().await;

    let second = AsynqSystem::builder(connector)
        .env(env())
        .config(config())
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    let inspector = Inspector::new(second.storage().await.unwrap());
    let runs = until(&inspector, "a", TaskState::Completed).await.runs.unwrap();
    assert_eq!(outcomes(&runs), [RunOutcome::GivenBack, RunOutcome::Done]);
    assert_eq!(runs.missing(), 0);
    let [given_back, done] = &runs.recorded[..] else {
        panic!("{runs:?}")
    };
    assert_eq!(given_back.server.as_ref(), Some(&one));
    assert!(!given_back.is_lost() && given_back.error.is_empty());
    let two = done.server.as_ref().unwrap();
    assert_eq!((&two.host, two.pid), (&one.host, one.pid));
    assert_ne!(two.server_id, one.server_id);
    second.drain().await;
    assert!(inspector.get_task_info("default", "b").await.is_err());
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_recorded_in_memory() {
    let (store, shared) = (MemoryStore::new(), env());
    given_back_and_run_by_another(Arc::new(store), || shared.clone()).await;
}

#[tokio::test]
async fn a_shutdown_is_recorded_on_redis() {
    let server = RedisServer::start().await;
    let connector = RedisConnectionType::single(server.url()).unwrap();
    given_back_and_run_by_another(Arc::new(connector), Env::default).await;
    invariants::assert_hold(&server.client().await.raw_state().await);
}
