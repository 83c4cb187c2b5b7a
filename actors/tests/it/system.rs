//! A whole system on the embedded broker: what becomes of tasks, however their runs end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq_actors::{AsynqSystem, EnqueueMsg, Exit};
use asynq_core::{
    Clock, EnqueueError, Entropy, Error, Inspect, IsFailure, Result, RetryDelay, ServerConfig, Storage, Task, TaskInfo,
    TaskState, broker::Env, error::BrokerError, extract::State, handler::Handler, names::QueueName,
};
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;

const MINUTE: Duration = Duration::from_secs(60);

fn env() -> Env {
    Env {
        clock: Clock::tokio(),
        entropy: Entropy::seeded(7),
    }
}

fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(8)
        .retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(10)))
}

async fn spawn(store: &MemoryStore, config: ServerConfig, handler: impl Handler) -> AsynqSystem {
    AsynqSystem::builder(store.clone())
        .config(config)
        .env(env())
        .handler(handler)
        .spawn()
        .await
        .unwrap()
}

/// Waits, in virtual time, until the task is in the state.
async fn until(storage: &dyn Storage, info: &TaskInfo, state: TaskState) -> TaskInfo {
    tokio::time::timeout(10 * MINUTE, async {
        loop {
            match storage.task_info(&info.queue, &info.id).await {
                Ok(now) if now.state == state => return now,
                Ok(_) | Err(BrokerError::TaskNotFound { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("task {} never became {state}", info.id))
}

/// Waits, in virtual time, until the task is gone.
async fn until_gone(storage: &dyn Storage, info: &TaskInfo) {
    tokio::time::timeout(10 * MINUTE, async {
        while !matches!(
            storage.task_info(&info.queue, &info.id).await,
            Err(BrokerError::TaskNotFound { .. })
        ) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("task {} never went", info.id));
}

async fn no_breach(store: &MemoryStore) {
    let broker = store.open(env());
    for queue in broker.queues().await.unwrap() {
        let page = broker.audit(&queue, Default::default()).await.unwrap();
        assert_eq!(page.items, [], "{queue}");
    }
}

fn task(task_type: &str) -> Task {
    Task::new(task_type, b"p").unwrap()
}

#[tokio::test(start_paused = true)]
async fn success_deletes_the_task_or_keeps_it_for_its_retention() {
    let store = MemoryStore::new();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let system = spawn(&store, config(), move |task: Task| {
        let ran = ran.clone();
        async move {
            if let Some(context) = task.context() {
                assert_eq!((context.retried(), context.max_retry()), (0, 25));
                assert_eq!(context.write_result("fine").await?, 4);
                let refused = context.set_progress(101, "").await.unwrap_err();
                assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
                context.set_progress(50, "half").await?;
            }
            let _ = ran.send(task.get_type().to_owned());
            Ok(())
        }
    })
    .await;
    let client = system.client();
    let plain = client.enqueue(task("plain")).await.unwrap();
    assert_eq!(plain.state, TaskState::Pending);
    let kept = client.enqueue(task("kept").with_retention(MINUTE)).await.unwrap();
    let mut seen = [runs.recv().await.unwrap(), runs.recv().await.unwrap()];
    seen.sort();
    assert_eq!(seen, ["kept", "plain"]);
    let storage = system.storage().await.unwrap();
    until_gone(&*storage, &plain).await;
    let kept = until(&*storage, &kept, TaskState::Completed).await;
    assert_eq!(kept.result.as_deref(), Some(&b"fine"[..]));
    let progress = kept.progress.clone().unwrap();
    assert_eq!((progress.percent, progress.note.as_str()), (50, "half"));
    assert!(kept.completed_at.is_some());
    until_gone(&*storage, &kept).await;
    let info = storage.queue_info(&QueueName::default()).await.unwrap();
    assert_eq!((info.processed_total, info.failed_total), (2, 0));
    assert_eq!(system.shutdown().await, Exit::Stopped);
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn failures_retry_and_then_archive() {
    let store = MemoryStore::new();
    let system = spawn(&store, config(), |_task: Task| async {
        Err::<(), _>(Error::other("boom"))
    })
    .await;
    let info = system.client().enqueue(task("t").with_max_retry(2)).await.unwrap();
    let storage = system.storage().await.unwrap();
    let first = until(&*storage, &info, TaskState::Retry).await;
    assert_eq!((first.retried, first.last_error.as_str()), (1, "boom"));
    let dead = until(&*storage, &info, TaskState::Archived).await;
    assert_eq!((dead.retried, dead.last_error.as_str()), (2, "boom"));
    let queue = storage.queue_info(&info.queue).await.unwrap();
    assert_eq!((queue.processed_total, queue.failed_total), (3, 3));
    system.shutdown().await;
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn the_error_decides_what_becomes_of_the_task() {
    let store = MemoryStore::new();
    let config = config().is_failure(IsFailure::new(|error| error.to_string() != "later"));
    let system = spawn(&store, config, |task: Task| async move {
        match task.get_type() {
            "skip" => Err(Error::skip_retry("no such user")),
            "revoke" => Err(Error::revoke("obsolete")),
            "panic" => panic!("index out of bounds"),
            "later" if task.context().is_some_and(|c| c.retried() == 0) => Err(Error::other("later")),
            "slow" => {
                tokio::time::sleep(10 * MINUTE).await;
                Ok(())
            }
            _ => Ok(()),
        }
    })
    .await;
    let client = system.client();
    let storage = system.storage().await.unwrap();
    let enqueue = |task: Task| client.enqueue(task);
    let skip = enqueue(task("skip")).await.unwrap();
    let revoke = enqueue(task("revoke").with_retention(MINUTE)).await.unwrap();
    let panic = enqueue(task("panic")).await.unwrap();
    let later = enqueue(task("later")).await.unwrap();
    let slow = enqueue(task("slow").with_timeout(Duration::from_secs(5)))
        .await
        .unwrap();
    let late = enqueue(task("late").with_deadline(env().clock.now() - MINUTE))
        .await
        .unwrap();

    assert_eq!(
        until(&*storage, &skip, TaskState::Archived).await.last_error,
        "no such user"
    );
    until_gone(&*storage, &revoke).await;
    let panic = until(&*storage, &panic, TaskState::Retry).await;
    assert_eq!(
        crate::placeless(&panic.last_error),
        "panic error cause by: panic: index out of bounds"
    );
    let later = until(&*storage, &later, TaskState::Retry).await;
    assert_eq!(
        (later.retried, later.last_error.as_str()),
        (0, "later"),
        "not a failure: no retry is used up"
    );
    let slow = until(&*storage, &slow, TaskState::Retry).await;
    assert_eq!(
        (slow.retried, slow.last_error.as_str()),
        (1, "context deadline exceeded")
    );
    assert_eq!(
        until(&*storage, &late, TaskState::Retry).await.last_error,
        "context deadline exceeded"
    );
    system.shutdown().await;
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_fails_and_is_retried() {
    let store = MemoryStore::new();
    let (started, mut starts) = mpsc::unbounded_channel();
    let system = spawn(&store, config(), move |task: Task| {
        let started = started.clone();
        async move {
            let _ = started.send(());
            task.context().unwrap().cancelled().await;
            std::future::pending().await
        }
    })
    .await;
    let info = system.client().enqueue(task("t")).await.unwrap();
    starts.recv().await.unwrap();
    assert_eq!(system.cancel_task(&info.id), 1);
    let storage = system.storage().await.unwrap();
    let failed = until(&*storage, &info, TaskState::Retry).await;
    assert_eq!((failed.last_error.as_str(), failed.retried), ("context canceled", 1));
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn delayed_tasks_start_when_they_are_due() {
    let store = MemoryStore::new();
    let clock = env().clock;
    let (ran, mut runs) = mpsc::unbounded_channel();
    let due = clock.now() + Duration::from_secs(30);
    let system = spawn(&store, config(), move |_task: Task| {
        let (ran, clock) = (ran.clone(), clock.clone());
        async move {
            let _ = ran.send(clock.now());
            Ok(())
        }
    })
    .await;
    let info = system.client().enqueue(task("t").with_process_at(due)).await.unwrap();
    assert_eq!(info.state, TaskState::Scheduled);
    let started = runs.recv().await.unwrap();
    assert!(
        started >= due - Duration::from_secs(1),
        "floored to seconds, so at most one early"
    );
    assert!(started <= due + Duration::from_secs(6), "{}", started - due);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_a_limit_and_is_used() {
    let store = MemoryStore::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (n, m) = (Arc::clone(&now), Arc::clone(&most));
    let system = spawn(&store, config().concurrency(3), move |_task: Task| {
        let (now, most, ended) = (Arc::clone(&n), Arc::clone(&m), ended.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let _ = ended.send(());
            Ok(())
        }
    })
    .await;
    let client = system.client();
    for answer in client.enqueue_many((0..30).map(|_| task("t"))).await {
        answer.unwrap();
    }
    for _ in 0..30 {
        ends.recv().await.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    system.shutdown().await;
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_tasks_end_and_gives_back_what_does_not() {
    let store = MemoryStore::new();
    let (started, mut starts) = mpsc::unbounded_channel();
    let system = spawn(
        &store,
        config().shutdown_timeout(Duration::from_secs(3)),
        move |task: Task| {
            let started = started.clone();
            async move {
                let _ = started.send(());
                match task.get_type() {
                    "short" => tokio::time::sleep(Duration::from_secs(2)).await,
                    // Sees the cancel and ends well within the grace.
                    "polite" => task.context().unwrap().cancelled().await,
                    _ => std::future::pending().await,
                }
                Ok(())
            }
        },
    )
    .await;
    let client = system.client();
    let short = client.enqueue(task("short").with_retention(MINUTE)).await.unwrap();
    let polite = client.enqueue(task("polite").with_retention(MINUTE)).await.unwrap();
    let first = client.enqueue(task("endless")).await.unwrap();
    let second = client.enqueue(task("endless")).await.unwrap();
    for _ in 0..4 {
        starts.recv().await.unwrap();
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
    let broker = store.open(env());
    let state = |info: TaskInfo| {
        let broker = &broker;
        async move { broker.task_info(&info.queue, &info.id).await.unwrap() }
    };
    assert_eq!(state(short).await.state, TaskState::Completed);
    assert_eq!(state(polite).await.state, TaskState::Completed);
    let back = state(first.clone()).await;
    assert_eq!(
        (back.state, back.retried, back.last_error.as_str()),
        (TaskState::Pending, 0, "")
    );
    assert_eq!(state(second.clone()).await.state, TaskState::Pending);
    let listed = broker
        .list_tasks(
            &first.queue,
            &asynq_core::inspect::ListFilter::State(TaskState::Pending),
            Default::default(),
        )
        .await
        .unwrap();
    let order: Vec<_> = listed.tasks.into_iter().map(|t| t.id).collect();
    assert_eq!(order, [first.id, second.id], "the first taken runs next");
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn raw_enqueue_messages_are_answered() {
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(store.clone()).env(env()).spawn().await.unwrap();
    let actor = system.enqueue_ref().unwrap();
    actor
        .send_message(EnqueueMsg::new(task("cast").with_task_id("a")))
        .unwrap();
    let (reply, answer) = ractor::concurrency::oneshot();
    actor
        .send_message(EnqueueMsg::call(task("call").with_task_id("b"), reply.into()))
        .unwrap();
    assert_eq!(answer.await.unwrap().unwrap().id, "b");
    let (reply, answer) = ractor::concurrency::oneshot();
    actor
        .send_message(EnqueueMsg::call(task("call").with_task_id("a"), reply.into()))
        .unwrap();
    assert!(matches!(answer.await.unwrap(), Err(EnqueueError::TaskIdConflict)));
    let (reply, answer) = ractor::concurrency::oneshot();
    actor
        .send_message(EnqueueMsg::call(task("call").with_queue(" "), reply.into()))
        .unwrap();
    assert!(matches!(answer.await.unwrap(), Err(EnqueueError::Invalid(_))));
    system.shutdown().await;
    assert!(matches!(
        system.client().enqueue(task("late")).await,
        Err(Error::Enqueue(EnqueueError::Closed))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_put_off_uses_up_no_retry() {
    let store = MemoryStore::new();
    let began = tokio::time::Instant::now();
    let system = spawn(&store, config(), move |_: Task| async move {
        if began.elapsed() < 3 * MINUTE {
            return Err(Error::snooze(2 * MINUTE));
        }
        Err(Error::snooze(Duration::MAX))
    })
    .await;
    let info = system.client().enqueue(task("t").with_max_retry(0)).await.unwrap();
    let storage = system.storage().await.unwrap();
    let first = until(&*storage, &info, TaskState::Retry).await;
    assert_eq!((first.retried, first.last_error.as_str()), (0, "snoozed for 120s"));
    tokio::time::sleep(5 * MINUTE).await;
    let last = storage.task_info(&info.queue, &info.id).await.unwrap();
    assert_eq!((last.state, last.retried), (TaskState::Retry, 0));
    let due = last.next_process_at.unwrap();
    assert!(due > chrono::Utc::now() + chrono::TimeDelta::days(365), "{due}");
    let counted = storage.queue_info(&info.queue).await.unwrap();
    assert_eq!(counted.failed_total, 0);
    system.shutdown().await;
    no_breach(&store).await;
}

#[tokio::test(start_paused = true)]
async fn routes_go_before_the_plain_handler() {
    let store = MemoryStore::new();
    let (ran, mut runs) = mpsc::unbounded_channel();
    let plain = ran.clone();
    let system = AsynqSystem::builder(store.clone())
        .env(env())
        .config(config().state(ran))
        .route_on(
            "add",
            |sum: State<mpsc::UnboundedSender<String>>, payload: bytes::Bytes| async move {
                sum.send(format!("routed {}", payload.len()))
            },
        )
        .handler(move |task: Task| {
            let _ = plain.send(format!("plain {}", task.get_type()));
            std::future::ready(Ok(()))
        })
        .spawn()
        .await
        .unwrap();
    for (task_type, expected) in [("add:one", "routed 1"), ("other", "plain other")] {
        system.client().enqueue(task(task_type)).await.unwrap();
        assert_eq!(runs.recv().await.unwrap(), expected);
    }
    system.shutdown().await;
    let twice = AsynqSystem::builder(store)
        .route_on("a", || async {})
        .route_on("a", || async {});
    assert!(matches!(twice.spawn().await, Err(Error::Config(_))));
}

#[tokio::test(start_paused = true)]
async fn the_tree_is_published_and_goes_with_the_system() {
    let store = MemoryStore::new();
    let system = spawn(&store, config(), |_: Task| async { Ok(()) }).await;
    let storage = system.storage().await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let mut trees = storage.trees().await.unwrap();
    assert_eq!(trees.len(), 1);
    let published = trees.remove(0);
    let servers = storage.servers().await.unwrap();
    assert_eq!(published.server_id, servers[0].server_id);
    let processor = published.tree.find(&["work", "processor"]).unwrap();
    assert_eq!(
        (processor.note.as_deref(), processor.backlog),
        (Some("watching"), Some(0))
    );
    assert_eq!(published.tree.find(&["client"]).unwrap().backlog, Some(0));
    let names = |tree: &asynq_actors::TreeNode| tree.children.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&published.tree), names(&system.tree().unwrap()));
    system.shutdown().await;
    assert!(store.open(env()).trees().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn bad_configuration_is_refused_with_all_its_faults() {
    let error = AsynqSystem::builder(MemoryStore::new())
        .config(ServerConfig::new().concurrency(0).queues([("", 1)]))
        .spawn()
        .await
        .unwrap_err();
    let Error::Config(error) = error else { panic!("{error}") };
    assert_eq!(error.faults.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_systems_in_one_process_do_not_meet() {
    let (a, b) = (MemoryStore::new(), MemoryStore::new());
    let count = |counter: &Arc<AtomicU32>| {
        let counter = Arc::clone(counter);
        move |_task: Task| {
            let counter = Arc::clone(&counter);
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(()) as Result<()>
            }
        }
    };
    let (ran_a, ran_b) = (Arc::default(), Arc::default());
    let (first, second) = (
        spawn(&a, config(), count(&ran_a)).await,
        spawn(&b, config(), count(&ran_b)).await,
    );
    let info = first.client().enqueue(task("t")).await.unwrap();
    until_gone(&*first.storage().await.unwrap(), &info).await;
    first.shutdown().await;
    let info = second.client().enqueue(task("t")).await.unwrap();
    until_gone(&*second.storage().await.unwrap(), &info).await;
    assert_eq!((ran_a.load(Ordering::SeqCst), ran_b.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(second.shutdown().await, Exit::Stopped);
}

/// The first exchange may end before the supervisor hears that the processor runs; its end must
/// not be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_works_however_fast_its_storage_answers() {
    for round in 0..200 {
        let (ran, mut runs) = mpsc::unbounded_channel();
        let system = AsynqSystem::builder(MemoryStore::new())
            .config(ServerConfig::new().concurrency(4))
            .handler(move |_task: Task| {
                let _ = ran.send(());
                std::future::ready(Ok(()))
            })
            .spawn()
            .await
            .unwrap();
        system.client().enqueue(task("t")).await.unwrap();
        let run = tokio::time::timeout(Duration::from_secs(10), runs.recv()).await;
        assert!(
            run.is_ok(),
            "round {round}: the task was never run\n{:?}",
            system.tree()
        );
        system.shutdown().await;
    }
}
