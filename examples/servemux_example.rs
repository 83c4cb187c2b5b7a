//! A mux, which gives each task to a handler by its type.
//!
//! ```text
//! cargo run --example servemux_example                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example servemux_example    # the same on Redis
//! ```
//!
//! Expected: each task goes to the handler with the longest pattern that its type begins with, those
//! under `image:` through a mux of their own. A task whose payload cannot be decoded and one without a handler
//! fail and are archived. A real server would run until a signal; this one ends by itself, with status 0, when
//! its tasks are done.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq::{
    Client, Result, ServeMux, ServerBuilder, ServerConfig, Task, TaskContext,
    extract::{Json, State},
    serve_mux::Next,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// A queue of its own: examples on one Redis do not run each other's tasks.
const QUEUE: &str = "example-servemux";

#[derive(Serialize, Deserialize)]
struct Resize {
    image: String,
    width: u32,
}

/// State that handlers share.
#[derive(Default)]
struct Album {
    images: AtomicU32,
}

/// Its arguments are made from the task, so a test can call it without a server.
async fn resize(Json(resize): Json<Resize>, album: State<Album>, run: TaskContext) -> Result<()> {
    let number = album.images.fetch_add(1, Ordering::Relaxed) + 1;
    println!(
        "image {number}: {} to {} pixels, attempt {}",
        resize.image,
        resize.width,
        run.retried() + 1
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let mut images = ServeMux::new().with_state(Album::default());
    images.route_on("image:resize", resize);

    let mut mux = ServeMux::new();
    // Not async: called on a thread where it may block.
    mux.handle_func("email:", |task| {
        println!("any mail: {}", task.get_type());
        Ok(())
    });
    mux.handle_async_func("email:welcome", |task: Task| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        println!("the welcome mail: {}", task.get_type());
        Ok(())
    });
    // A mux is a handler too. It matches the whole type, not the part after `image:`.
    mux.handle("image:", images);

    // Around all handlers: tells the program of each end, so that it knows when it is done.
    let (ended, mut ends) = mpsc::unbounded_channel();
    mux.wrap(move |task: Task, next: Next| {
        let ended = ended.clone();
        async move {
            let task_type = task.get_type().to_owned();
            let result = next.run(task).await;
            if let Err(error) = &result {
                println!("{task_type} failed: {error}");
            }
            let _ = ended.send(());
            result
        }
    });
    println!("patterns: {}", mux.patterns().collect::<Vec<_>>().join(", "));

    let mut server = ServerBuilder::new()
        .storage(Arc::clone(&storage))
        .server_config(ServerConfig::new().concurrency(1).queues([(QUEUE, 1)]))
        .build()
        .await?;
    // Fails if a pattern is blank or was given twice.
    server.start(mux).await?;

    let client = Client::new(storage).await?;
    let photo = Resize {
        image: "cat.png".to_owned(),
        width: 320,
    };
    let tasks = [
        Task::new("email:welcome", b"")?,
        Task::new("email:digest", b"")?,
        Task::new_with_json("image:resize", &photo)?,
        Task::new("image:resize", b"not JSON")?,
        Task::new("video:cut", b"")?,
    ];
    let tasks = tasks.map(|task| task.with_queue(QUEUE).with_max_retry(0));
    for answer in client.enqueue_many(tasks).await {
        let info = answer?;
        println!("enqueued {}", info.task_type);
    }
    common::skip(&mut ends, 5).await?;
    server.shutdown().await;
    client.close().await;
    Ok(())
}
