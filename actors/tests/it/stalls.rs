//! Handlers that block the threads of the runtime, in real time.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

use asynq_actors::AsynqSystem;
use asynq_core::{Env, ServerConfig, Task};
use asynq_memory::MemoryStore;
use tokio::sync::mpsc;
use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Long enough to be noticed.
const STALL: Duration = Duration::from_millis(3500);

/// The warnings that were logged, with their fields.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text<'t>(&'t mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push_str(&format!("{field}={value} "));
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            let mut text = String::new();
            event.record(&mut Text(&mut text));
            self.0.lock().unwrap().push(text);
        }
    }
}

impl Warnings {
    fn of_stalls(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter(|text| text.contains("the runtime is blocked:") || text.contains("no longer blocked"))
            .cloned()
            .collect()
    }
}

/// Blocks the thread that it is called on, as a handler should not.
fn block() {
    let (_keep, never) = channel::<()>();
    assert_eq!(never.recv_timeout(STALL), Err(RecvTimeoutError::Timeout));
}

/// Runs so many tasks that block, on the runtime as it is, and then one that does not.
async fn stall(tasks: usize) {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let warnings = Warnings::default();
    let subscriber = tracing_subscriber::registry().with(warnings.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(Env::default())
        .config(ServerConfig::new().concurrency(4))
        .handler(move |task: Task| {
            let ended = ended.clone();
            async move {
                match task.get_type() {
                    "blocks" => block(),
                    _ => tokio::time::sleep(STALL).await,
                }
                let _ = ended.send(());
                Ok(())
            }
        })
        .spawn()
        .await
        .unwrap();
    let enqueue = async |task_type: &str| {
        let task = Task::new(task_type, b"").unwrap();
        system.client().enqueue(task).await.unwrap();
    };
    enqueue("waits").await;
    ends.recv().await.unwrap();
    assert_eq!((system.stalls(), warnings.of_stalls()), (0, Vec::new()));
    let client = system.client();
    let blocking = (0..tasks).map(|_| Task::new("blocks", b"").unwrap());
    for answer in client.enqueue_many(blocking).await {
        answer.unwrap();
    }
    for _ in 0..tasks {
        ends.recv().await.unwrap();
    }
    let note = || system.tree().unwrap().note.unwrap_or_default();
    tokio::time::timeout(Duration::from_secs(60), async {
        while !note().contains("the runtime was blocked") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let stalls = usize::try_from(system.stalls()).unwrap();
    assert!((1..=tasks).contains(&stalls), "{stalls}");
    let warnings = warnings.of_stalls();
    assert_eq!(
        warnings.len(),
        2 * stalls,
        "once at its beginning, once at its end: {warnings:#?}"
    );
    assert!(warnings[0].contains("running=\"blocks\" x"), "{warnings:#?}");
    assert!(
        warnings[1].contains("the runtime is no longer blocked") && warnings[1].contains("after="),
        "{warnings:#?}"
    );
    system.shutdown().await;
}

#[tokio::test]
async fn a_handler_that_blocks_the_only_thread_is_told_of() {
    stall(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_all_threads_are_told_of() {
    stall(4).await;
}
