//! Handler actors: actors that keep state from task to task.
//!
//! ```text
//! cargo run --example handler_actors                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example handler_actors    # the same on Redis
//! ```
//!
//! Expected: two mailers open a connection each. One of them crashes on a mail: only that mail fails, and the
//! mailer restarts with a third connection. The two then send six mails over the connections that they keep. A
//! task of another type is run by a function. It ends by itself with status 0.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq::{ActorState, AsynqSystem, HandleTask, HandlerActorSpec, Result, ServerConfig, Task};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

/// Sends mails over one connection.
struct Mailer;

/// The state of a mailer: its connection, and the number of mails sent over it.
struct Connection {
    number: u32,
    sent: u32,
    done: mpsc::UnboundedSender<()>,
}

#[derive(Clone)]
struct MailerArgs {
    connections: Arc<AtomicU32>,
    done: mpsc::UnboundedSender<()>,
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Mailer {
    type Msg = HandleTask;
    type State = Connection;
    type Arguments = MailerArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<HandleTask>,
        args: MailerArgs,
    ) -> Result<Connection, ActorProcessingErr> {
        let number = args.connections.fetch_add(1, Ordering::Relaxed) + 1;
        println!("connection {number} opened");
        Ok(Connection {
            number,
            sent: 0,
            done: args.done,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<HandleTask>,
        task: HandleTask,
        connection: &mut Connection,
    ) -> Result<(), ActorProcessingErr> {
        // `None` if the task was cancelled or timed out while it waited.
        let Some((task, reply)) = task.start() else {
            return Ok(());
        };
        let number = connection.number;
        assert!(task.get_payload() != b"poison", "connection {number} breaks");
        tokio::time::sleep(Duration::from_millis(20)).await;
        connection.sent += 1;
        let to = String::from_utf8_lossy(task.get_payload());
        println!("connection {number}, mail {}: to {to}", connection.sent);
        reply.send(Ok(()));
        let _ = connection.done.send(());
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let (done, mut finished) = mpsc::unbounded_channel();
    let args = MailerArgs {
        connections: Arc::default(),
        done: done.clone(),
    };
    let mailers = HandlerActorSpec::new("email:", move || (Mailer, args.clone())).instances(2);
    let system = AsynqSystem::builder(storage)
        .config(ServerConfig::new().concurrency(4))
        .handler_actor(mailers)
        .handler(move |task: Task| {
            println!("plain handler: {}", task.get_type());
            let _ = done.send(());
            std::future::ready(Ok(()))
        })
        .spawn()
        .await?;

    let client = system.client();
    let mut changes = system.tree_events();
    let poison = Task::new("email:send", b"poison")?.with_max_retry(0);
    client.enqueue(poison).await?;
    // Waits for the restart, only so that the output is in order.
    while let Ok(change) = changes.recv().await {
        if change.path.contains("/handlers/") {
            println!("{} is {:?}", change.path, change.state);
            if change.state == ActorState::Running {
                break;
            }
        }
    }
    for user in ["ann", "bob", "cid", "dan", "eve", "fay"] {
        client.enqueue(Task::new("email:send", user.as_bytes())?).await?;
    }
    client.enqueue(Task::new("report:build", b"")?).await?;
    common::skip(&mut finished, 7).await?;

    if let Some(tree) = system.tree() {
        println!("{tree}");
    }
    system.shutdown().await;
    println!("the system has ended");
    Ok(())
}
