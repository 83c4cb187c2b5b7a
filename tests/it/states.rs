//! State arguments are looked at before a server starts.

use std::sync::Arc;

use asynq::{
    AsynqSystem, Handler,
    config::ServerConfig,
    error::{Error, Result},
    extract::{FromTask, Rejection, State, States},
    memory::MemoryStore,
    serve_mux::ServeMux,
    server::Server,
    task::Task,
    testing::TestKit,
    tower::layered,
};
use tower::limit::ConcurrencyLimitLayer;

struct Mailer;
struct Ledger;

async fn send(_: Task, _: State<Mailer>) {}

async fn book(_: State<Ledger>, _: State<Mailer>) {}

/// An argument of the user's own, made of a state.
struct Account;

impl FromTask for Account {
    fn from_task(task: &Task, states: &States) -> Result<Self, Rejection> {
        State::<Ledger>::from_task(task, states).map(|_| Self)
    }

    fn check(states: &States) -> Result<(), Rejection> {
        State::<Ledger>::check(states)
    }
}

fn faults<T>(answer: Result<T>) -> Vec<String> {
    match answer {
        Err(Error::Config(error)) => error.faults.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => Vec::new(),
    }
}

fn lacks(pattern: &str, state: &str) -> String {
    let path = module_path!();
    format!(
        "handler of \"{pattern}\" cannot be called: no state of type {path}::{state} was given to the mux or the server"
    )
}

fn mux() -> ServeMux {
    let mut inner = ServeMux::new().with_state(Mailer);
    inner.route_on("inner:book", book).route_on("inner:send", send);
    let mut mux = ServeMux::new();
    mux.handle("inner:", inner);
    mux.route_on("account", |_: Account| async {})
        .route_on("book", book)
        .route_on("send", send);
    mux
}

async fn start(config: ServerConfig, handler: impl Handler) -> Vec<String> {
    let mut server = Server::new(MemoryStore::new(), config).await.unwrap();
    let faults = faults(server.start(handler).await);
    server.shutdown().await;
    faults
}

#[tokio::test]
async fn a_server_that_lacks_a_state_does_not_start_and_says_all_that_it_lacks() {
    let all = [
        lacks("account", "Ledger"),
        lacks("book", "Ledger"),
        lacks("book", "Mailer"),
        lacks("inner:book", "Ledger"),
        lacks("send", "Mailer"),
    ];
    assert_eq!(start(ServerConfig::new(), mux()).await, all);
    let given = ServerConfig::new().state(Mailer);
    let ledgers = [&all[..2], &all[3..4]].concat();
    assert_eq!(start(given.clone(), mux()).await, ledgers);
    // Those of a mux are for its own routes.
    assert_eq!(start(given.clone(), mux().with_state(Ledger)).await, all[3..4]);
    assert_eq!(start(given.state(Ledger), mux()).await, [""; 0]);
}

#[tokio::test]
async fn wherever_a_handler_is_given_its_states_are_looked_at() {
    let builder = || AsynqSystem::builder(MemoryStore::new());
    let one = [lacks("send", "Mailer")];
    let sends = || {
        let mut mux = ServeMux::new();
        mux.route_on("send", send);
        mux
    };
    assert_eq!(faults(builder().route_on("send", send).spawn().await), one);
    assert_eq!(faults(builder().handler(sends()).spawn().await), one);
    let beside = builder().route_on("other", |_: Task| async {}).handler(sends());
    assert_eq!(faults(beside.spawn().await), one);
    let shared: Arc<dyn Handler> = Arc::new(sends());
    assert_eq!(faults(builder().handler(shared).spawn().await), one);
    let limited = layered(sends(), &ConcurrencyLimitLayer::new(2));
    assert_eq!(faults(builder().handler(limited).spawn().await), one);
    let mut fallback = ServeMux::new();
    fallback.otherwise(sends());
    assert_eq!(faults(builder().handler(fallback).spawn().await), one);
    let with = builder()
        .config(ServerConfig::new().state(Mailer))
        .route_on("send", send);
    with.spawn().await.unwrap().shutdown().await;
}

#[tokio::test]
#[should_panic(expected = "handler of \"send\" cannot be called: no state of type")]
async fn the_test_kit_looks_as_a_server_does() {
    let mut mux = ServeMux::new();
    mux.route_on("send", send);
    TestKit::new().await.run_one(&mux).await;
}
