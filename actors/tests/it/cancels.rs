//! Tasks whose runs are cancelled on request end as was asked for, whoever hears of it and when.

use std::time::Duration;

use asynq_actors::{AsynqSystem, AsynqSystemBuilder, HandleTask, HandlerActorSpec};
use asynq_core::{
    Broker as _, BrokerError, Cancelled, Connector, Error, Inspect as _, QueueName, Result, RetryDelay, ServerConfig,
    Storage, Task, TaskInfo, TaskState, Then, broker::Want,
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::mpsc, time::timeout};

use crate::env;

const MINUTE: Duration = Duration::from_secs(60);
/// Kinds of handlers, by how they take a cancel.
const KINDS: [&str; 4] = ["waits", "errs", "snoozes", "actor"];

fn config() -> ServerConfig {
    ServerConfig::new()
        .concurrency(4)
        .retry_delay(RetryDelay::new(|_, _, _| 60 * MINUTE))
}

struct Worker;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = HandleTask;
    type State = mpsc::UnboundedSender<()>;
    type Arguments = mpsc::UnboundedSender<()>;

    async fn pre_start(
        &self,
        _: ActorRef<HandleTask>,
        started: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(started)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        started: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            let _ = started.send(());
            task.context().unwrap().cancelled().await;
            reply.send(Err(Error::other("too late")));
        }
        Ok(())
    }
}

/// A system whose handlers do what the type of the task says, and tell when they start.
fn system(connector: impl Connector, config: ServerConfig) -> (AsynqSystemBuilder, mpsc::UnboundedReceiver<()>) {
    let (started, starts) = mpsc::unbounded_channel();
    let of_actors = started.clone();
    let builder = AsynqSystem::builder(connector)
        .config(config)
        .env(env())
        .handler_actor(HandlerActorSpec::new("actor", move || (Worker, of_actors.clone())))
        .handler(move |task: Task| {
            let started = started.clone();
            async move {
                let _ = started.send(());
                let context = task.context().unwrap();
                match task.get_type() {
                    "waits" => std::future::pending().await,
                    "errs" => context.cancelled().await,
                    _ => {}
                }
                if task.get_type() == "snoozes" {
                    context.cancelled().await;
                    return Err(Error::snooze(MINUTE));
                }
                Err(Error::other("broken off"))
            }
        });
    (builder, starts)
}

/// Waits, in virtual time, until a run begins.
async fn began(starts: &mut mpsc::UnboundedReceiver<()>) {
    timeout(10 * MINUTE, starts.recv()).await.unwrap().unwrap();
}

/// Waits, in virtual time, until the task has left the state active; `None`: it is gone.
async fn ended(storage: &dyn Storage, info: &TaskInfo) -> Option<TaskInfo> {
    timeout(10 * MINUTE, async {
        loop {
            match storage.task_info(&info.queue, &info.id).await {
                Ok(now) if now.state == TaskState::Active => tokio::time::sleep(Duration::from_millis(20)).await,
                Ok(now) => return Some(now),
                Err(BrokerError::TaskNotFound { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .unwrap()
}

async fn cancel(storage: &dyn Storage, info: &TaskInfo, then: Then) {
    let cancelled = storage.cancel_task(&info.queue, &info.id, then).await.unwrap();
    assert_eq!(cancelled, Cancelled::Kept);
}

fn unique(kind: &str) -> Task {
    Task::new(kind, b"").unwrap().with_unique_ttl(60 * MINUTE)
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_ends_as_was_asked_for_whatever_its_handler_returns() {
    let store = MemoryStore::new();
    let (system, mut starts) = system(store, config());
    let system = system.spawn().await.unwrap();
    let storage = system.storage().await.unwrap();
    for kind in KINDS {
        for then in Then::ALL {
            let info = system.client().enqueue(unique(kind)).await.unwrap();
            began(&mut starts).await;
            cancel(&*storage, &info, then).await;
            let left = ended(&*storage, &info).await;
            match then {
                Then::Delete => assert_eq!(left, None, "{kind}"),
                _ => {
                    let left = left.unwrap();
                    let state = if then == Then::Archive {
                        TaskState::Archived
                    } else {
                        TaskState::Retry
                    };
                    assert_eq!(left.state, state, "{kind}");
                    let text = if kind == "snoozes" {
                        "snoozed"
                    } else {
                        "context canceled"
                    };
                    assert!(left.last_error.starts_with(text), "{kind}: {}", left.last_error);
                }
            }
            // Deleted, it has freed its lock; otherwise the next one is another task.
            let again = system.client().enqueue(unique(kind)).await;
            assert_eq!(again.is_ok(), then == Then::Delete, "{kind}, {then}");
            if let Ok(info) = again {
                began(&mut starts).await;
                cancel(&*storage, &info, Then::Delete).await;
                assert_eq!(ended(&*storage, &info).await, None);
            } else {
                storage.run_task(&info.queue, &info.id).await.unwrap();
                began(&mut starts).await;
                cancel(&*storage, &info, Then::Delete).await;
                assert_eq!(
                    ended(&*storage, &info).await,
                    None,
                    "{kind}: one that runs again can be cancelled again"
                );
            }
        }
    }
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_succeeds_in_spite_of_the_request_is_a_success() {
    let store = MemoryStore::new();
    let (started, mut starts) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(store)
        .config(config())
        .env(env())
        .handler(move |task: Task| {
            let started = started.clone();
            async move {
                // Code that cannot be broken off holds its run.
                let context = task.context().unwrap().clone();
                let hold = context.hold();
                let _ = started.send(());
                context.cancelled().await;
                drop(hold);
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    let storage = system.storage().await.unwrap();
    let task = Task::new("t", b"").unwrap().with_retention(60 * MINUTE);
    let info = system.client().enqueue(task).await.unwrap();
    began(&mut starts).await;
    cancel(&*storage, &info, Then::Delete).await;
    assert_eq!(ended(&*storage, &info).await.unwrap().state, TaskState::Completed);
    system.shutdown().await;
}

/// The server hears of nothing while its subscription is lost; it does once it listens again.
#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_heard_reaches_the_run_with_the_next_extension() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    faults.always(Op::SubscribeCancellations, Fault::unavailable());
    let (system, mut starts) = system(FaultyConnector::new(store.clone(), faults.clone()), config());
    let system = system.spawn().await.unwrap();
    let info = system.client().enqueue(unique("waits")).await.unwrap();
    began(&mut starts).await;
    let operator = store.open(env());
    cancel(&operator, &info, Then::Archive).await;
    // Long enough for many extensions, none of which is heard.
    tokio::time::sleep(MINUTE).await;
    let deaf = operator.task_info(&info.queue, &info.id).await.unwrap();
    assert_eq!(deaf.state, TaskState::Active);
    faults.clear();
    let left = ended(&operator, &info).await.unwrap();
    assert_eq!(
        (left.state, left.last_error.as_str()),
        (TaskState::Archived, "context canceled")
    );
    system.shutdown().await;
}

/// The server ends before it has heard of the request: what goes back to the queue is archived instead.
#[tokio::test(start_paused = true)]
async fn a_request_is_kept_through_a_shutdown() {
    for then in Then::ALL {
        let store = MemoryStore::new();
        let faults = Faults::new();
        faults.always(Op::SubscribeCancellations, Fault::unavailable());
        let connector = FaultyConnector::new(store.clone(), faults.clone());
        let (system, mut starts) = system(connector, config().shutdown_timeout(Duration::from_secs(1)));
        let system = system.spawn().await.unwrap();
        let info = system.client().enqueue(unique("waits")).await.unwrap();
        began(&mut starts).await;
        let operator = store.open(env());
        cancel(&operator, &info, then).await;
        system.shutdown().await;
        let left = ended(&operator, &info).await.map(|info| info.state);
        let expected = match then {
            Then::Archive => Some(TaskState::Archived),
            Then::Delete => None,
            _ => Some(TaskState::Pending),
        };
        assert_eq!(left, expected, "{then}");
    }
}

/// The server died with the run; another one recovers the task.
#[tokio::test(start_paused = true)]
async fn a_request_outlives_the_server_that_ran_the_task() {
    for then in Then::ALL {
        let store = MemoryStore::new();
        let dead = store.open(env());
        let (system, mut starts) = system(store.clone(), config().concurrency(1));
        let system = system.spawn().await.unwrap();
        system.stop_fetching();
        let info = system.client().enqueue(unique("waits")).await.unwrap();
        let queue = QueueName::new("default").unwrap();
        let taken = dead.exchange(&dead.begin(), &[], &[Want { queue, max: 1 }]).await;
        // Extended once, so that it is certain that it was started.
        tokio::time::sleep(Duration::from_secs(5)).await;
        dead.extend_leases(vec![taken.leased[0].lease.clone()])
            .await
            .remove(0)
            .unwrap();
        let operator = store.open(env());
        cancel(&operator, &info, then).await;
        let left = ended(&operator, &info).await.map(|info| info.state);
        let expected = match then {
            Then::Archive => Some(TaskState::Archived),
            Then::Delete => None,
            _ => Some(TaskState::Retry),
        };
        assert_eq!(left, expected, "{then}");
        assert!(starts.try_recv().is_err(), "nobody ran it again");
        system.shutdown().await;
    }
}

/// The answer of the take was lost, and the request comes before the task is found.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_cancelled_on_its_way_ends_as_was_asked_for() {
    let store = MemoryStore::new();
    let faults = Faults::new();
    let (system, _starts) = system(FaultyConnector::new(store.clone(), faults.clone()), config());
    let system = system.spawn().await.unwrap();
    let operator = store.open(env());
    // Until it has looked and found nothing.
    faults.called(Op::Exchange, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    faults.next(Op::Exchange, Fault::LoseReply);
    faults.always(Op::Adopt, Fault::Hang);
    let info = system.client().enqueue(unique("errs")).await.unwrap();
    timeout(10 * MINUTE, faults.hung(Op::Adopt, 1)).await.unwrap();
    assert_eq!(
        operator.task_info(&info.queue, &info.id).await.unwrap().state,
        TaskState::Active
    );
    cancel(&operator, &info, Then::Archive).await;
    faults.clear();
    faults.release();
    let left = ended(&operator, &info).await.unwrap();
    assert_eq!(left.state, TaskState::Archived);
    system.shutdown().await;
}
