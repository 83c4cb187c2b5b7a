//! Aggregation: the notifications of a user are sent as one mail.
//!
//! ```text
//! cargo run --example aggregation                                      # embedded broker, no server
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example aggregation    # the same on Redis
//! ```
//!
//! Expected: three notifications for alice fill a group and become a mail soon; her fourth one, and the two for
//! bob, become mails after a second without more of them. Notifications of the same second may be in any order. It
//! ends by itself with status 0.

mod common;

use std::time::Duration;

use asynq::{AsynqSystem, Error, GroupAggregatorFunc, Result, ServerConfig, Task};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt::init();
    let storage = common::storage()?;

    let config = ServerConfig::new()
        .group_grace_period(Duration::from_secs(1))?
        .group_max_delay(Duration::from_secs(10))
        .group_max_size(3);
    let (sent, mut mails) = mpsc::unbounded_channel();
    let system = AsynqSystem::builder(storage)
        .config(config)
        .aggregator(GroupAggregatorFunc::new(|group, tasks| {
            println!("one mail for {group} out of {} notifications", tasks.len());
            let lines = tasks.iter().map(|t| t.get_payload()).collect::<Vec<_>>();
            let mail = Task::new(format!("mail:{group}"), &lines.join(&b"\n"[..]))?;
            Ok(mail.with_max_retry(5))
        }))
        .handler(move |mail: Task| {
            let sent = sent.clone();
            async move {
                let text = String::from_utf8_lossy(mail.get_payload()).into_owned();
                println!("sending {}: {}", mail.get_type(), text.replace('\n', ", "));
                sent.send(text.lines().count()).map_err(Error::other)
            }
        })
        .spawn()
        .await?;

    let client = system.client();
    let notifications = [
        ("alice", "bob follows you"),
        ("bob", "alice wrote"),
        ("alice", "carol wrote"),
        ("alice", "dave likes it"),
        ("bob", "carol follows you"),
        ("alice", "erin wrote"),
    ];
    for (user, text) in notifications {
        let info = client
            .enqueue(Task::new("notification", text.as_bytes())?.with_group(user))
            .await?;
        println!("enqueued {} for {user}, now {}: {text}", info.task_type, info.state);
    }

    let mut told = 0;
    while told < notifications.len() {
        told += common::next(&mut mails).await?;
    }
    system.shutdown().await;
    println!("the system has ended");
    Ok(())
}
