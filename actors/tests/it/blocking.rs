//! Handlers on threads of their own: what cannot be broken off is waited for.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use asynq_actors::AsynqSystem;
use asynq_core::{Connector, Env, Error, ServeMux, ServerConfig, Storage, Task, TaskId, TaskState};
use asynq_memory::MemoryStore;

async fn state(storage: &dyn Storage, id: &str) -> TaskState {
    storage
        .task_info(&Default::default(), &TaskId::new(id).unwrap())
        .await
        .unwrap()
        .state
}

/// Runs on a thread until it is let go; tells when it began.
fn mux(began: Sender<()>, go: Receiver<()>) -> ServeMux {
    let go = std::sync::Mutex::new(go);
    let mut mux = ServeMux::new();
    mux.handle_func("t", move |task| {
        began.send(()).unwrap();
        go.lock().unwrap().recv().unwrap();
        if task.context().unwrap().is_cancelled() {
            return Err(Error::other("nobody hears this"));
        }
        Ok(())
    });
    mux
}

/// Waits for a beginning.
async fn heard(begun: Receiver<()>) -> Receiver<()> {
    #[expect(clippy::disallowed_methods, reason = "it waits for what is sure to come")]
    let heard = tokio::task::spawn_blocking(move || {
        begun.recv().unwrap();
        begun
    });
    heard.await.unwrap()
}

#[tokio::test]
async fn a_cancelled_run_on_a_thread_keeps_its_slot_until_it_ends() {
    let store = MemoryStore::new();
    let ((began, begun), (go, wait)) = (channel(), channel());
    let system = AsynqSystem::builder(store.clone())
        .config(ServerConfig::new().concurrency(1))
        .handler(mux(began, wait))
        .spawn()
        .await
        .unwrap();
    for id in ["a", "b"] {
        let task = Task::new("t", b"").unwrap().with_task_id(id);
        system.client().enqueue(task).await.unwrap();
    }
    let begun = heard(begun).await;
    assert_eq!(system.cancel_task(&TaskId::new("a").unwrap()), 1);
    let storage = store.connect(Env::default()).await.unwrap();
    // As long as the function runs, nobody else may: not this task again, and no other in its slot.
    let nobody = tokio::time::timeout(Duration::from_millis(100), system.drain());
    assert!(nobody.await.is_err());
    system.resume_fetching();
    assert_eq!(system.running(), 1);
    assert_eq!(
        (state(&*storage, "a").await, state(&*storage, "b").await),
        (TaskState::Active, TaskState::Pending)
    );
    go.send(()).unwrap();
    heard(begun).await;
    assert_eq!(
        (state(&*storage, "a").await, state(&*storage, "b").await),
        (TaskState::Retry, TaskState::Active)
    );
    go.send(()).unwrap();
    system.shutdown().await;
    let a = storage
        .task_info(&Default::default(), &TaskId::new("a").unwrap())
        .await
        .unwrap();
    assert_eq!(a.last_error, "context canceled");
}
