//! One type of client, wherever an application has it from.

use std::{sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Connector, Env, HandleTask, HandlerActorSpec, TaskPayload,
    client::{Client, TaskContextExt as _},
    config::ServerConfig,
    error::{BrokerError, EnqueueError, Error, Result},
    memory::MemoryStore,
    names::{QueueName, TaskId},
    serve_mux::ServeMux,
    task::{Task, TaskContext, TaskOptions, TaskState},
    testing::TestKit,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize, TaskPayload)]
#[task(type = "email:receipt")]
struct Receipt {
    order: u32,
}

/// Returns what an application does with a client; all tasks go to the queue.
async fn uses(client: &Client, queue: &str) -> Result<()> {
    let task = |task_type: &str| Task::new(task_type, b"").unwrap().with_queue(queue);
    client.ping().await?;
    let to_queue = TaskOptions::new().queue(queue);
    client.enqueue_with(Receipt { order: 42 }, &to_queue).await?;
    client.try_enqueue_with(Receipt { order: 43 }, to_queue).await?;
    client.enqueue(task("plain")).await?;
    client.try_enqueue(task("at once")).await?;
    client.enqueue_in(task("later"), HOUR).await?;
    client.enqueue_at(task("exactly"), chrono::Utc::now() + HOUR).await?;
    client.enqueue_unique(task("unique"), HOUR).await?;
    let twice = client.enqueue_unique(task("unique"), HOUR).await;
    assert!(
        matches!(twice, Err(Error::Enqueue(EnqueueError::DuplicateTask))),
        "{twice:?}"
    );
    client.add_to_group(task("grouped"), "daily").await?;
    for answer in client.enqueue_many([task("a"), task("b")]).await {
        answer?;
    }
    Ok(())
}

fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// That all of it arrived.
async fn check(connector: &impl Connector, queue: &str) {
    let storage = connector.connect(connector.env()).await.unwrap();
    let info = storage.queue_info(&queue_name(queue)).await.unwrap();
    let found = (info.pending, info.scheduled, info.aggregating);
    assert_eq!(found, (7, 2, 1), "{queue}: {info:?}");
    storage.close().await;
}

/// The types of tasks that ended, with their errors.
type Ends = mpsc::UnboundedSender<(String, Option<String>)>;

/// Enqueues from within an actor of the user's own.
struct Desk(Ends);

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Desk {
    type Msg = HandleTask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<HandleTask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<HandleTask>, task: HandleTask, (): &mut ()) -> Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            let client = task.context().unwrap().client();
            let end = uses(&client, "actor").await;
            let text = end.as_ref().err().map(ToString::to_string);
            self.0.send((task.get_type().to_owned(), text)).unwrap();
            reply.send(end);
        }
        Ok(())
    }
}

async fn same_everywhere(connector: impl Connector + Clone) {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let of_actor = ended.clone();
    let mut mux = ServeMux::new();
    mux.route_on(
        "argument",
        |client: Client| async move { uses(&client, "argument").await },
    );
    mux.route_on("context", |run: TaskContext| async move {
        uses(&run.client(), "context").await
    });
    mux.handle_func("blocking", |task: Task| {
        let client = task.context().unwrap().client();
        tokio::runtime::Handle::current().block_on(uses(&client, "blocking"))
    });
    mux.wrap(move |task: Task, next: asynq::serve_mux::Next| {
        let ended = ended.clone();
        async move {
            let task_type = task.get_type().to_owned();
            let end = next.run(task).await;
            ended
                .send((task_type, end.as_ref().err().map(ToString::to_string)))
                .unwrap();
            end
        }
    });
    let system = AsynqSystem::builder(connector.clone())
        .config(ServerConfig::new().queues([("default", 1)]))
        .handler(mux)
        .handler_actor(HandlerActorSpec::new("actor", move || (Desk(of_actor.clone()), ())))
        .spawn()
        .await
        .unwrap();
    uses(&system.client(), "system").await.unwrap();
    let own = Client::new(connector.clone()).await.unwrap();
    uses(&own, "own").await.unwrap();
    for from in ["argument", "context", "blocking", "actor"] {
        own.enqueue(Task::new(from, b"").unwrap()).await.unwrap();
        assert_eq!(ends.recv().await.unwrap(), (from.to_owned(), None));
    }
    own.close().await;
    system.shutdown().await;
    for queue in ["system", "own", "argument", "context", "blocking", "actor"] {
        check(&connector, queue).await;
    }
}

#[tokio::test]
async fn every_client_does_the_same_in_memory() {
    same_everywhere(MemoryStore::new()).await;
}

#[tokio::test]
async fn every_client_does_the_same_on_redis() {
    let redis = asynq_testing::RedisServer::start().await;
    same_everywhere(asynq::redis::RedisConnectionType::single(redis.url()).unwrap()).await;
}

#[tokio::test]
async fn the_test_kit_gives_the_same_client_to_a_test_and_to_handlers() {
    let kit = TestKit::new().await;
    uses(kit.client(), "kit").await.unwrap();
    check(&kit.connector(), "kit").await;

    async fn order(task: Task, client: Client) -> Result<()> {
        let order = task.get_payload_with_json()?;
        client.enqueue(Receipt { order }).await?;
        // The kit's client is not the handler's to close.
        client.close().await;
        Ok(())
    }
    let mut mux = ServeMux::new();
    mux.route_on("order", order);
    mux.route(|_: Receipt, run: TaskContext| async move {
        run.client().ping().await?;
        Ok::<_, Error>(())
    });
    let kit = TestKit::new().await;
    kit.client().enqueue(Task::new("order", b"42").unwrap()).await.unwrap();
    assert!(kit.run_one(&mux).await.unwrap().end.is_done());
    kit.assert_enqueued("email:receipt").payload(br#"{"order":42}"#);
    assert!(kit.drain(&mux).await[0].end.is_done());
    kit.client().enqueue(Task::new("order", b"43").unwrap()).await.unwrap();
}

#[tokio::test]
async fn nobody_ends_a_system_by_closing_its_client() {
    let (done, mut ends) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.route_on("close", move |client: Client| {
        let done = done.clone();
        async move {
            client.clone().close().await;
            drop(client);
            done.send(()).unwrap();
        }
    });
    let system = AsynqSystem::builder(MemoryStore::new())
        .handler(mux)
        .spawn()
        .await
        .unwrap();
    for _ in 0..2 {
        let client = system.client();
        client.enqueue(Task::new("close", b"").unwrap()).await.unwrap();
        ends.recv().await.unwrap();
        client.close().await;
        client.ping().await.unwrap();
    }
    system.shutdown().await;
    let client = system.client();
    let closed = client.enqueue(Task::new("late", b"").unwrap()).await;
    assert!(
        matches!(closed, Err(Error::Enqueue(EnqueueError::Closed))),
        "{closed:?}"
    );
    let closed = client.ping().await;
    assert!(matches!(closed, Err(Error::Broker(BrokerError::Closed))), "{closed:?}");
}

/// A run enqueues while a shutdown waits for it, and once more after its cancel.
async fn enqueues_at_the_shutdown(connector: impl Connector + Clone) {
    let (began, mut runs) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.route_on("long", move |run: TaskContext, client: Client| {
        let (began, task) = (began.clone(), |id: &str| {
            Task::new("next", b"").unwrap().with_task_id(id)
        });
        async move {
            let (go_on, told) = oneshot::channel();
            began.send((client.clone(), go_on)).unwrap();
            told.await.unwrap();
            client.enqueue(task("while it waits").with_queue("next")).await?;
            run.cancelled().await;
            client.enqueue(task("after the cancel").with_queue("next")).await?;
            Ok::<_, Error>(())
        }
    });
    let system = AsynqSystem::builder(connector.clone())
        .config(ServerConfig::new().shutdown_timeout(Duration::from_millis(300)))
        .handler(mux)
        .spawn()
        .await
        .unwrap();
    let long = Task::new("long", b"")
        .unwrap()
        .with_task_id("long")
        .with_retention(HOUR);
    system.client().enqueue(long).await.unwrap();
    let (client, go_on) = runs.recv().await.unwrap();
    system.stop();
    go_on.send(()).unwrap();
    system.wait().await;
    let closed = client.enqueue(Task::new("late", b"").unwrap()).await;
    assert!(
        matches!(closed, Err(Error::Enqueue(EnqueueError::Closed))),
        "{closed:?}"
    );
    let storage = connector.connect(Env::default()).await.unwrap();
    for id in ["while it waits", "after the cancel"] {
        let info = storage.task_info(&queue_name("next"), &TaskId::new(id).unwrap()).await;
        assert_eq!(info.unwrap().state, TaskState::Pending, "{id}");
    }
    let long = storage
        .task_info(&queue_name("default"), &TaskId::new("long").unwrap())
        .await;
    assert_eq!(long.unwrap().state, TaskState::Completed);
    storage.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_enqueues_until_the_shutdown_drops_it() {
    enqueues_at_the_shutdown(MemoryStore::new()).await;
}

#[tokio::test]
async fn a_run_enqueues_until_the_shutdown_drops_it_on_redis() {
    let redis = asynq_testing::RedisServer::start().await;
    enqueues_at_the_shutdown(asynq::redis::RedisConnectionType::single(redis.url()).unwrap()).await;
}

/// After the system has ended at once, its clients still answer, and nothing waits.
#[tokio::test(start_paused = true)]
async fn a_client_that_outlives_its_system_is_closed() {
    let (began, mut runs) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new();
    mux.route_on("long", move |client: Client| {
        let began = began.clone();
        async move {
            began.send(client).unwrap();
            std::future::pending::<()>().await;
        }
    });
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(store.clone()).handler(mux).spawn().await.unwrap();
    system.client().enqueue(Task::new("long", b"").unwrap()).await.unwrap();
    let client = runs.recv().await.unwrap();
    system.shutdown_at_once().await;
    let closed = client.enqueue(Task::new("late", b"").unwrap()).await;
    assert!(
        matches!(closed, Err(Error::Enqueue(EnqueueError::Closed))),
        "{closed:?}"
    );
    drop((system, client));
    let storage: Arc<_> = store.connect(Env::default()).await.unwrap();
    let queue = storage.queue_info(&queue_name("default")).await.unwrap();
    assert_eq!((queue.pending, queue.active), (1, 0));
}
