//! Limits of messages and results.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq::{
    Client, Error, Inspector, Server, ServerConfig, Task, TaskInfo, TaskState,
    client::Waited,
    config::ClientConfig,
    redis::{RedisBroker, RedisConnectionType},
};
use asynq_testing::{RedisServer, Resp};

const QUEUE: &str = "default";
const LIMIT: usize = 1 << 10;
const LARGE: usize = 200 << 10;

struct Bench {
    redis: RedisServer,
    inspector: Inspector<RedisBroker>,
}

impl Bench {
    async fn new() -> Self {
        let redis = RedisServer::start().await;
        let connection = RedisConnectionType::single(redis.url()).unwrap();
        let broker = RedisBroker::new(connection).await.unwrap();
        let inspector = Inspector::new(Arc::new(broker));
        Self { redis, inspector }
    }

    fn connection(&self) -> RedisConnectionType {
        RedisConnectionType::single(self.redis.url()).unwrap()
    }

    /// The task, as soon as it is in this state.
    async fn until(&self, id: &str, state: TaskState) -> TaskInfo {
        let seen = async {
            loop {
                match self.inspector.get_task_info(QUEUE, id).await {
                    Ok(info) if info.state == state => return info,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap()
    }
}

fn large(id: &str) -> Task {
    Task::new("t", &vec![b'x'; LARGE]).unwrap().with_task_id(id)
}

/// Go has no limit, and each program of ours may have another one.
#[tokio::test]
async fn a_stored_message_beyond_the_limit_runs_and_is_listed_moved_and_deleted() {
    let bench = Bench::new().await;
    let config = ClientConfig::new().max_message_bytes(LIMIT);
    let client = Client::with_config(bench.connection(), config).await.unwrap();
    let refused = client.enqueue(large("a")).await.unwrap_err().to_string();
    assert!(
        refused.contains("message size") && refused.contains("1024"),
        "{refused}"
    );
    client.close().await;
    let client = Client::new(bench.connection()).await.unwrap();
    let kept = large("a").with_retention(Duration::from_secs(3600)).with_max_retry(5);
    client.enqueue(kept).await.unwrap();
    client.enqueue(large("b")).await.unwrap();
    let listed = bench.inspector.list_tasks(QUEUE, TaskState::Pending, 1, 10).await;
    let listed: Vec<_> = listed.unwrap().iter().map(|task| task.payload.len()).collect();
    assert_eq!(listed, [LARGE, LARGE]);

    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let (attempts, gate) = (AtomicU32::new(0), Arc::clone(&go_on));
    let handler = move |task: Task| {
        let id = task.context().unwrap().id().to_string();
        let attempt = if id == "a" {
            attempts.fetch_add(1, Ordering::SeqCst)
        } else {
            9
        };
        let (gate, begun) = (Arc::clone(&gate), begun.clone());
        async move {
            begun.send(task.get_payload().len()).unwrap();
            gate.acquire().await.unwrap().forget();
            match attempt {
                0 => Err(Error::other("again")),
                1 => Err(Error::skip_retry("no more")),
                _ => Ok(()),
            }
        }
    };
    let config = ServerConfig::new()
        .concurrency(1)
        .max_message_bytes(LIMIT)
        .heartbeat_interval(Duration::from_millis(100));
    let mut server = Server::new(bench.connection(), config).await.unwrap();
    server.start(handler).await.unwrap();
    assert_eq!(begins.recv().await.unwrap(), LARGE);
    let shown = async {
        loop {
            let workers = bench.inspector.workers().await.unwrap();
            if let [worker] = &*workers {
                return worker.payload.len();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(60), shown).await.unwrap();
    assert_eq!(shown, 64 << 10, "it is written with every beat");

    go_on.add_permits(2);
    assert_eq!(begins.recv().await.unwrap(), LARGE, "the other one");
    assert_eq!(bench.until("a", TaskState::Retry).await.payload.len(), LARGE);
    bench.inspector.run_task(QUEUE, "a").await.unwrap();
    assert_eq!(begins.recv().await.unwrap(), LARGE);
    let gone = bench.inspector.get_task_info(QUEUE, "b").await;
    assert!(gone.is_err(), "it has no retention: {gone:?}");
    go_on.add_permits(1);
    bench.until("a", TaskState::Archived).await;
    bench.inspector.requeue_archived_task(QUEUE, "a").await.unwrap();
    go_on.add_permits(1);
    assert_eq!(bench.until("a", TaskState::Completed).await.payload.len(), LARGE);
    server.shutdown().await;
    client.close().await;
}

/// A wait looks many times; the payload travels at its end, and not before.
#[tokio::test]
async fn a_wait_for_a_large_task_reads_it_once() {
    const WHOLE: usize = 15 << 20;
    let bench = Bench::new().await;
    let client = Client::new(bench.connection()).await.unwrap();
    let task = Task::new("t", &vec![b'x'; WHOLE]).unwrap();
    let info = client
        .enqueue(task.with_process_in(Duration::from_secs(3600)))
        .await
        .unwrap();
    let mut raw = bench.redis.client().await;
    let before = stats(&mut raw).await;
    let waited = client.wait(&info, Duration::from_millis(500)).await.unwrap();
    assert!(
        matches!(&waited, Waited::NotYet(now) if now.payload.len() == WHOLE),
        "not a scheduled task of that size"
    );
    let after = stats(&mut raw).await;
    let [bytes, commands] = [0, 1].map(|n| after[n] - before[n]);
    assert!((WHOLE..2 * WHOLE).contains(&bytes), "{bytes} bytes");
    assert!(commands > 10, "{commands} commands are no looks again and again");
    client.close().await;
}

/// The bytes that the server has sent and the commands that it has carried out.
async fn stats(raw: &mut Resp) -> [usize; 2] {
    let info = raw.cmd(&["INFO", "stats"]).await.text();
    ["total_net_output_bytes", "total_commands_processed"].map(|name| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().parse().unwrap()
    })
}
