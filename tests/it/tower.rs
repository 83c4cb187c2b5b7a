//! Middleware of the tower family around handlers.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use asynq::{
    AsynqSystem, Env, HandleTask, Handler, HandlerActorSpec,
    clock::Clock,
    error::{Error, Result},
    inspector::Inspector,
    memory::MemoryStore,
    serve_mux::ServeMux,
    task::{Task, TaskState},
    tower::{HandlerService, ServiceHandler, layered},
};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;
use tower::{
    Service,
    limit::ConcurrencyLimitLayer,
    timeout::{TimeoutLayer, error::Elapsed},
};

fn task() -> Task {
    Task::new("t", b"").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_timeout_layer_ends_a_handler_that_hangs() {
    let handler = layered(
        |_: Task| pending::<Result<()>>(),
        &TimeoutLayer::new(Duration::from_secs(3)),
    );
    let Err(Error::Handler(error)) = handler.process_task(task()).await else {
        panic!("no failure of the layer");
    };
    assert!(error.is::<Elapsed>(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_says_passes_through_a_layer_that_boxes_errors() {
    let skips = |_: Task| async { Err(Error::skip_retry("no such user")) };
    let handler = layered(skips, &TimeoutLayer::new(Duration::from_secs(3)));
    let error = handler.process_task(task()).await.unwrap_err();
    assert!(matches!(error, Error::SkipRetry(_)), "{error:?}");
}

#[tokio::test]
async fn a_concurrency_limit_holds_for_all_runs_and_is_given_back_by_a_dropped_one() {
    let go = Arc::new(Notify::new());
    let waits = {
        let go = Arc::clone(&go);
        move |_: Task| {
            let go = Arc::clone(&go);
            async move {
                go.notified().await;
                Ok(())
            }
        }
    };
    let handler = layered(waits, &ConcurrencyLimitLayer::new(1));
    let mut first = handler.process_task(task());
    let mut second = handler.process_task(task());
    assert!(first.as_mut().now_or_never().is_none());
    go.notify_one();
    // The permission to go on is there, but the second is not let in.
    assert!(second.as_mut().now_or_never().is_none());
    assert!(first.as_mut().now_or_never().is_some(), "the first took the permission");
    assert!(second.as_mut().now_or_never().is_none());
    drop(second);
    let mut third = handler.process_task(task());
    go.notify_one();
    assert!(third.as_mut().now_or_never().is_some(), "the limit is free again");
}

/// Panics when it is called before it is ready; ready at the second look.
#[derive(Default)]
struct Strict {
    looked: bool,
    ready: bool,
    called: Arc<AtomicBool>,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            called: Arc::clone(&self.called),
            ..Self::default()
        }
    }
}

impl Service<Task> for Strict {
    type Response = ();
    type Error = std::io::Error;
    type Future = std::future::Ready<std::io::Result<()>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.ready = self.looked;
        self.looked = true;
        cx.waker().wake_by_ref();
        if self.ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: Task) -> Self::Future {
        assert!(self.ready, "called before it was ready");
        self.called.store(true, Ordering::Relaxed);
        std::future::ready(Err(std::io::Error::other("away")))
    }
}

#[tokio::test]
async fn a_service_is_called_once_it_is_ready_and_its_error_is_the_tasks() {
    let service = Strict::default();
    let handler = ServiceHandler::new(service.clone());
    let error = handler.process_task(task()).await.unwrap_err();
    assert_eq!(error.to_string(), "away");
    assert!(service.called.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_mux_inside_of_a_layer_is_still_checked_and_still_routes() {
    let mut mux = ServeMux::new();
    mux.handle_func("t", |_: Task| Ok(()));
    let service = HandlerService::new(mux);
    ServiceHandler::new(service).process_task(task()).await.unwrap();

    let mut twice = ServeMux::new();
    twice.handle_func("t", |_: Task| Ok(()));
    twice.handle_func("t", |_: Task| Ok(()));
    let faults = layered(twice, &ConcurrencyLimitLayer::new(1)).check();
    assert!(faults.is_err(), "a pattern that is registered twice");
}

struct Worker;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Worker {
    type Msg = HandleTask;
    type State = Arc<AtomicUsize>;
    type Arguments = Arc<AtomicUsize>;

    async fn pre_start(
        &self,
        _: ActorRef<HandleTask>,
        seen: Self::Arguments,
    ) -> std::result::Result<Self::State, ActorProcessingErr> {
        Ok(seen)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        seen: &mut Self::State,
    ) -> std::result::Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            seen.fetch_add(1, Ordering::Relaxed);
            if task.get_payload() == b"slow" {
                task.context().unwrap().cancelled().await;
            }
            reply.send(Err(Error::skip_retry("seen")));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn layers_go_around_handler_actors_too() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let spec = HandlerActorSpec::new("t", move || (Worker, Arc::clone(&counted)));
    let spec = spec.around(|actors| layered(actors, &TimeoutLayer::new(Duration::from_secs(3))));
    let store = MemoryStore::new();
    let system = AsynqSystem::builder(store)
        .env(Env {
            clock: Clock::tokio(),
            ..Env::default()
        })
        .handler_actor(spec)
        .spawn()
        .await
        .unwrap();
    let inspector = Inspector::new(system.storage().await.unwrap());
    for (payload, end) in [("quick", "seen"), ("slow", "request timed out")] {
        let task = Task::new("t", payload.as_bytes()).unwrap().with_max_retry(0);
        let info = system.client().enqueue(task).await.unwrap();
        system.client().wait(&info, Duration::from_secs(60)).await.unwrap();
        let info = inspector.get_task_info("default", info.id.as_str()).await.unwrap();
        assert_eq!((info.state, info.last_error.as_str()), (TaskState::Archived, end));
    }
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    system.shutdown().await;
}
