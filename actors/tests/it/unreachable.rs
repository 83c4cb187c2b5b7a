//! A storage that is not there: who hears of it, when, and what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{AsynqSystem, Exit};
use asynq_core::{
    Connector, Error, Storage, Task,
    broker::Env,
    error::{BrokerError, text::shown},
};
use asynq_memory::MemoryStore;
use tokio::time::Instant;
use tracing::Level;

use crate::{env, spans::Seen};

/// Fails to connect until it is told to work.
#[derive(Clone, Debug)]
struct Gate {
    store: MemoryStore,
    open: Arc<AtomicBool>,
    failure: fn() -> BrokerError,
}

#[async_trait]
impl Connector for Gate {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        match self.open.load(Ordering::Relaxed) {
            true => self.store.connect(env).await,
            false => Err((self.failure)()),
        }
    }

    fn describe(&self) -> String {
        "redis://10.0.0.9:6379/0".to_owned()
    }
}

fn gate(failure: fn() -> BrokerError) -> Gate {
    Gate {
        store: MemoryStore::new(),
        open: Arc::default(),
        failure,
    }
}

fn refused() -> BrokerError {
    BrokerError::Refused {
        source: "WRONGPASS invalid username-password pair".into(),
    }
}

fn away() -> BrokerError {
    BrokerError::unavailable("Connection refused")
}

fn task() -> Task {
    Task::new("t", b"").unwrap()
}

fn says_all(error: &(dyn std::error::Error + 'static), what: &str) {
    let text = shown(error);
    for part in ["redis://10.0.0.9:6379/0", what, "attempts since "] {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_found_no_storage_says_which_and_why() {
    let system = AsynqSystem::builder(gate(away)).env(env()).spawn().await.unwrap();
    let error = system.client().enqueue(task()).await.unwrap_err();
    assert!(
        matches!(error, Error::Broker(BrokerError::Unavailable { .. })),
        "{error:?}"
    );
    says_all(&error, "Connection refused");
    // As a program shows it that returns it from `main`.
    let shown = format!("{:?}", error);
    assert!(
        shown.starts_with("storage is not reachable: redis://10.0.0.9:6379/0: "),
        "{shown}"
    );
    let error = system.storage().await.err().unwrap();
    says_all(&error, "Connection refused");
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_logged_at_once_and_then_more_and_more_seldom() {
    let seen = Seen::default();
    let _guards = seen.hears();
    let system = AsynqSystem::builder(gate(away)).env(env()).spawn().await.unwrap();
    // After 10, 20, 40, 80 and 160 s, and what an attempt is late by.
    for (wait, times) in [(1, 1), (59, 3), (340, 6)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let told = seen.told(Level::WARN, "cannot connect, retrying");
        assert_eq!(told.len(), times, "{told:#?}");
        assert_eq!(told[0]["storage"], "redis://10.0.0.9:6379/0");
        assert!(told[0]["error"].contains("Connection refused"), "{told:#?}");
    }
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_fail_an_enqueue_at_once_and_a_new_password_mends_it() {
    let gate = gate(refused);
    let system = AsynqSystem::builder(gate.clone()).env(env()).spawn().await.unwrap();
    // While the first attempt is under way, and later.
    for _ in 0..3 {
        let began = Instant::now();
        let error = system.client().enqueue(task()).await.unwrap_err();
        assert!(matches!(error, Error::Broker(BrokerError::Refused { .. })), "{error:?}");
        assert!(shown(&error).contains("WRONGPASS"), "{}", shown(&error));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    gate.open.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    system.client().enqueue(task()).await.unwrap();
    assert_eq!(system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_to_connect_waits_for_the_storage_and_no_longer() {
    let within = Duration::from_secs(30);
    let start = |gate: &Gate| {
        AsynqSystem::builder(gate.clone())
            .env(env())
            .connect_within(within)
            .spawn()
    };

    let began = Instant::now();
    let error = start(&gate(away)).await.unwrap_err();
    says_all(&error, "Connection refused");
    assert_eq!(began.elapsed().as_secs(), 30);

    let began = Instant::now();
    let error = start(&gate(refused)).await.unwrap_err();
    assert!(shown(&error).contains("WRONGPASS"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(1));

    let gate = gate(away);
    let open = Arc::clone(&gate.open);
    let (system, ()) = tokio::join!(start(&gate), async {
        tokio::time::sleep(Duration::from_secs(12)).await;
        open.store(true, Ordering::Relaxed);
    });
    let system = system.unwrap();
    system.ping().await.unwrap();
    assert_eq!(system.shutdown().await, Exit::Stopped);
}
