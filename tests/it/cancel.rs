//! A cancel that sticks, as an operator asks for it, on the embedded broker and on Redis.

use std::{sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Connector, HandleTask, HandlerActorSpec,
    error::{BrokerError, Error, Result},
    inspector::{Cancelled, Inspector, Then},
    memory::MemoryStore,
    redis::RedisConnectionType,
    task::{Task, TaskInfo, TaskState},
};
use asynq_testing::RedisServer;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(60);

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
    ) -> std::result::Result<Self::State, ActorProcessingErr> {
        Ok(started)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        started: &mut Self::State,
    ) -> std::result::Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            let _ = started.send(());
            task.context().unwrap().cancelled().await;
            reply.send(Err(Error::other("broken off")));
        }
        Ok(())
    }
}

/// Waits until the task has left the state active; `None`: it is gone.
async fn ended<B: asynq::inspect::Inspect + ?Sized>(inspector: &Inspector<B>, id: &str) -> Option<TaskInfo> {
    tokio::time::timeout(LIMIT, async {
        loop {
            match inspector.get_task_info("default", id).await {
                Ok(info) if info.state == TaskState::Active => tokio::time::sleep(Duration::from_millis(5)).await,
                Ok(info) => return Some(info),
                Err(Error::Broker(BrokerError::TaskNotFound { .. })) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .unwrap()
}

async fn cancelled_on(connector: Arc<dyn Connector>) -> Result<()> {
    let (started, mut starts) = mpsc::unbounded_channel();
    let of_actors = started.clone();
    let system = AsynqSystem::builder(connector)
        .handler_actor(HandlerActorSpec::new("actor", move || (Worker, of_actors.clone())))
        .handler(move |_: Task| {
            let _ = started.send(());
            std::future::pending()
        })
        .spawn()
        .await?;
    let inspector = Inspector::new(system.storage().await?);
    for kind in ["plain", "actor"] {
        let task = || Task::new(kind, b"").unwrap().with_unique_ttl(Duration::from_secs(3600));
        for then in [Then::Delete, Then::Archive] {
            let info = system.client().enqueue(task()).await?;
            starts.recv().await.unwrap();
            let id = info.id.as_str();
            assert_eq!(inspector.cancel_task("default", id, then).await?, Cancelled::Kept);
            let left = ended(&inspector, id).await;
            let left = left.map(|info| (info.state, info.last_error, info.max_retry > info.retried));
            match then {
                Then::Delete => assert_eq!(left, None),
                _ => assert_eq!(left, Some((TaskState::Archived, "context canceled".to_owned(), true))),
            }
        }
        // The archived one holds its lock. Run again, it is cancelled as a Go tool would.
        let archived = &inspector.list_tasks("default", TaskState::Archived, 1, 10).await?[0];
        let id = archived.id.as_str();
        let error = inspector.cancel_task("default", id, Then::Delete).await.unwrap_err();
        assert!(
            matches!(
                error,
                Error::Broker(BrokerError::WrongState {
                    state: TaskState::Archived,
                    ..
                })
            ),
            "{error}"
        );
        inspector.run_task("default", id).await?;
        starts.recv().await.unwrap();
        inspector.cancel_processing(id).await?;
        let left = ended(&inspector, id).await.unwrap();
        assert_eq!(
            (left.state, left.last_error.as_str()),
            (TaskState::Retry, "context canceled")
        );
    }
    system.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_cancelled_task_ends_as_was_asked_for_on_the_embedded_broker() {
    cancelled_on(Arc::new(MemoryStore::new())).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_task_ends_as_was_asked_for_on_redis() {
    let redis = RedisServer::start().await;
    let connection = RedisConnectionType::single(redis.url()).unwrap();
    cancelled_on(Arc::new(connection)).await.unwrap();
}
