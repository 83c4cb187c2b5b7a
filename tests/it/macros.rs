//! Handlers and payloads by macro, as a user of the facade writes them.

use std::sync::{Mutex, atomic::AtomicU64};

use asynq::{
    AsynqSystem, Handler, IntoTask as _, TaskOptions, TaskPayload,
    error::{Error, Result},
    extract::State,
    memory::MemoryStore,
    register_async_handlers, register_handlers,
    serve_mux::ServeMux,
    task::{Task, TaskContext},
    task_handler, task_handler_async,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[task_handler("email:send")]
fn handle_email(task: Task) -> asynq::error::Result<()> {
    Err(Error::other(format!("{} by a function", task.get_type())))
}

#[task_handler_async("image:resize")]
async fn handle_image(task: Task) -> asynq::error::Result<()> {
    std::future::ready(()).await;
    Err(Error::other(format!("{} by an async function", task.get_type())))
}

/// A module that has the name of a function in it.
pub(crate) mod audit {
    use super::*;

    #[task_handler("audit:")]
    pub(crate) fn audit(_: Task) -> Result<()> {
        Err(Error::skip_retry("audited"))
    }

    #[task_handler_async("audit:later")]
    pub(crate) async fn later(_: Task, _: State<AtomicU64>) -> Result<(), std::fmt::Error> {
        Err(std::fmt::Error)
    }
}

async fn outcome(mux: &ServeMux, task_type: &str) -> String {
    let task = Task::new(task_type, b"").unwrap();
    mux.process_task(task).await.unwrap_err().to_string()
}

#[tokio::test]
async fn handlers_are_registered_for_their_patterns() {
    let mut mux = ServeMux::new().with_state(AtomicU64::new(0));
    register_handlers!(mux, handle_email, crate::macros::audit::audit);
    register_async_handlers!(mux, handle_image, audit::later,);
    assert!(mux.check().is_ok());
    assert!(
        mux.patterns()
            .eq(["audit:", "audit:later", "email:send", "image:resize"])
    );
    assert_eq!(outcome(&mux, "email:send").await, "email:send by a function");
    assert_eq!(outcome(&mux, "image:resize").await, "image:resize by an async function");
    assert_eq!(outcome(&mux, "audit:login").await, "audited");
    assert_eq!(outcome(&mux, "audit:later").await, std::fmt::Error.to_string());
}

#[test]
fn a_mux_may_be_borrowed_and_stand_in_a_field() {
    struct App {
        mux: ServeMux,
    }
    fn register(mux: &mut ServeMux) {
        register_handlers!(mux, handle_email);
        register_async_handlers!(mux, handle_image);
    }
    let mut app = App { mux: ServeMux::new() };
    register(&mut app.mux);
    register_handlers!(app.mux, audit::audit);
    assert!(app.mux.patterns().eq(["audit:", "email:send", "image:resize"]));
}

#[test]
fn a_pattern_that_is_registered_twice_is_a_fault_of_the_mux() {
    let mut mux = ServeMux::new();
    register_handlers!(mux, handle_email, handle_email);
    let error = mux.check().unwrap_err();
    assert!(
        error.to_string().contains("multiple registrations for email:send"),
        "{error}"
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TaskPayload)]
#[task(type = "order:ship", queue = "critical", max_retry = 3, timeout = "5m")]
struct Ship {
    order: u64,
}

type Shipped = Mutex<mpsc::UnboundedSender<(Ship, String)>>;

#[task_handler_async("order:ship")]
async fn ship(order: Ship, shipped: State<Shipped>, run: TaskContext) -> Result<()> {
    let queue = run.queue().to_string();
    let sent = shipped.lock().unwrap().send((order, queue));
    sent.map_err(Error::other)
}

/// A payload goes from the producer to the argument of its handler.
async fn shipped_through(mux: ServeMux, mut shipped: mpsc::UnboundedReceiver<(Ship, String)>) {
    let config = asynq::ServerConfig::new().queues([("critical", 1)]);
    let system = AsynqSystem::builder(MemoryStore::new())
        .config(config)
        .handler(mux)
        .spawn()
        .await
        .unwrap();
    let task = Ship { order: 7 }.into_task().unwrap();
    let info = system.client().enqueue(task).await.unwrap();
    assert_eq!(
        (info.task_type.as_str(), info.queue.as_str(), info.max_retry),
        (Ship::TYPE, "critical", 3)
    );
    assert_eq!(shipped.recv().await, Some((Ship { order: 7 }, "critical".to_owned())));
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_arrives_as_an_argument() {
    let (sender, shipped) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new().with_state::<Shipped>(Mutex::new(sender));
    register_async_handlers!(mux, ship);
    shipped_through(mux, shipped).await;
}

#[tokio::test(start_paused = true)]
async fn the_payload_alone_tells_the_task_type() {
    let (sender, shipped) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new().with_state::<Shipped>(Mutex::new(sender));
    mux.route(ship);
    assert!(mux.patterns().eq([Ship::TYPE]));
    shipped_through(mux, shipped).await;
}

#[tokio::test]
async fn what_is_not_the_payload_is_archived() {
    let (sender, _shipped) = mpsc::unbounded_channel();
    let mut mux = ServeMux::new().with_state::<Shipped>(Mutex::new(sender));
    register_async_handlers!(mux, ship);
    let task = Task::new(Ship::TYPE, br#"{"order":"seven"}"#).unwrap();
    let error = mux.process_task(task).await.unwrap_err();
    assert!(matches!(error, Error::SkipRetry(_)), "{error:?}");
}

#[test]
fn options_of_the_task_take_the_place_of_those_of_its_type() {
    let task = Ship { order: 7 }.into_task().unwrap().with_queue("low");
    let expected = TaskOptions::new()
        .queue("low")
        .max_retry(3)
        .timeout(std::time::Duration::from_secs(300));
    assert_eq!(task.options(), &expected);
}
