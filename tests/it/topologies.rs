//! Tasks from end to end on a cluster and behind a sentinel, in real time.

use asynq::{Crash, Env, redis::RedisConnectionType};
use asynq_testing::RedisCluster;
use asynq_testing::RedisSentinel;
use asynq_testing::invariants;

use crate::load::Load;

/// Queues on two nodes: delayed, failing, panicking tasks, each settled once, while an actor is replaced.
#[tokio::test]
async fn cluster() {
    let cluster = RedisCluster::start().await;
    let connector = || RedisConnectionType::cluster(cluster.urls()).unwrap();
    let load = Load::start(connector(), connector(), Env::default()).await;
    load.crash("work/processor", Crash::Kill).await;
    load.balance().await;
    invariants::assert_hold(&cluster.raw_state().await);
    crate::doctor::finds_nothing(connector()).await;
}

#[tokio::test]
async fn sentinel() {
    let both = RedisSentinel::start().await;
    let connector = || RedisConnectionType::sentinel(RedisSentinel::MASTER, [both.sentinel().url()]).unwrap();
    let load = Load::start(connector(), connector(), Env::default()).await;
    load.crash("broker", Crash::Kill).await;
    load.balance().await;
    invariants::assert_hold(&both.master().client().await.raw_state().await);
    crate::doctor::finds_nothing(connector()).await;
}

/// A server on queues of three nodes, of which one is stopped: the other queues go on for the server and its
/// clients, and those of the stopped node as soon as a replica has taken its place.
mod stopped_node {
    use std::time::{Duration, Instant};

    use asynq::{ServerConfig, Task, TaskOptions, client::Client, server::Server};
    use asynq_testing::{RedisCluster, RedisServer};
    use futures::future::join_all;
    use tokio::{sync::mpsc, time::timeout};

    use super::RedisConnectionType;

    /// On three nodes. The first one has the list of queues too, the last one that of servers.
    const QUEUES: [&str; 3] = ["b", "default", "low"];
    /// Several times what it takes.
    const SOON: Duration = Duration::from_secs(20);

    struct Bench {
        client: Client,
        ran: mpsc::UnboundedReceiver<String>,
    }

    impl Bench {
        /// Adds tasks to each of these queues and waits until they have run. How long that takes.
        async fn drive(&mut self, queues: &[&str], tasks: usize) -> Duration {
            let begun = Instant::now();
            let adding = async {
                let client = &self.client;
                let all = queues.iter().flat_map(|queue| (0..tasks).map(|_| *queue));
                let added = join_all(all.map(async |queue| {
                    let task = Task::new("t", queue.as_bytes()).unwrap();
                    (queue, client.enqueue_with(task, TaskOptions::new().queue(queue)).await)
                }));
                for (queue, added) in added.await {
                    assert!(added.is_ok(), "{queue}: {added:?}");
                }
            };
            let running = async {
                let mut left = queues.len() * tasks;
                while left > 0 {
                    let queue = self.ran.recv().await.unwrap();
                    left -= usize::from(queues.contains(&queue.as_str()));
                }
            };
            let done = timeout(SOON, async { tokio::join!(adding, running) }).await;
            assert!(done.is_ok(), "{tasks} tasks in each of {queues:?} take too long");
            begun.elapsed()
        }
    }

    async fn costs_only_its_queue(lost: &str) {
        let node = RedisServer::builder().args(["--cluster-require-full-coverage", "no"]);
        let cluster = RedisCluster::start_of(node).await;
        let place = RedisCluster::place_of(format!("asynq:{{{lost}}}:t").as_bytes());
        let replica = cluster.start_replica(place).await;
        let connection = || RedisConnectionType::cluster(cluster.urls()).unwrap();
        let config = ServerConfig::new()
            .concurrency(20)
            .queues(QUEUES.map(|queue| (queue, 1)))
            .task_check_interval(Duration::from_millis(50));
        let mut server = Server::new(connection(), config).await.unwrap();
        let (sender, ran) = mpsc::unbounded_channel();
        let handler = move |task: Task| {
            let queue = String::from_utf8_lossy(task.get_payload()).into_owned();
            let _ = sender.send(queue);
            std::future::ready(Ok(()))
        };
        server.start(handler).await.unwrap();
        let client = Client::new(connection()).await.unwrap();
        let mut bench = Bench { client, ran };
        bench.drive(&QUEUES, 1).await;
        let others: Vec<_> = QUEUES.into_iter().filter(|queue| *queue != lost).collect();
        let before = bench.drive(&others, 500).await;

        cluster.nodes()[place].pause();
        let disturbed = bench.drive(&others, 10).await;
        let after = bench.drive(&others, 500).await;
        println!("before {before:?}, disturbed {disturbed:?}, after {after:?}");
        // A loaded machine takes its time; a node that is waited for takes seconds, again and again.
        assert!(
            after < before * 4 + Duration::from_secs(1),
            "{before:?} before, {after:?} after"
        );

        RedisCluster::promote(&replica).await;
        let resumed = Instant::now();
        bench.drive(&[lost], 1).await;
        println!("resumed {:?}", resumed.elapsed());
        bench.drive(&QUEUES, 10).await;
        server.shutdown().await;
    }

    #[tokio::test]
    async fn with_the_list_of_queues() {
        costs_only_its_queue("b").await;
    }

    #[tokio::test]
    async fn with_the_list_of_servers() {
        costs_only_its_queue("low").await;
    }
}
