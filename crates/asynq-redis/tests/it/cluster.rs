//! A cluster of three masters, as a program sees it.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    Broker, BrokerError, Clock, Connector, EnqueueError, Entropy, Env, Error, Inspect, Storage,
    broker::{LeasedTask, Outcome, Recovery, Want, WatchKind},
};
use asynq_redis::{RedisBroker, RedisConnectionType};
use asynq_testing::{
    RedisCluster, RedisServer,
    conformance::ClusterPool,
    request::{id, queue, request},
};
use chrono::Utc;
use tokio::time::timeout;

use crate::support::{DONE, ids, retry, settlement};

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Queues on three nodes.
const QUEUES: [&str; 3] = ["b", "default", "low"];

fn to(cluster: &RedisCluster) -> RedisConnectionType {
    RedisConnectionType::cluster(cluster.urls())
        .unwrap()
        .connect_timeout(LIMIT)
        .wait_timeout(LIMIT)
}

async fn take(storage: &dyn Storage, max: u32) -> Vec<LeasedTask> {
    let want = QUEUES.map(|name| Want {
        queue: queue(name),
        max,
    });
    let answer = storage.exchange(&storage.begin(), Vec::new(), want.to_vec()).await;
    assert!(answer.failed.is_empty(), "{:?}", answer.failed);
    answer.leased
}

async fn enqueue(storage: &dyn Broker, name: &str) {
    let batch = QUEUES.map(|queue| request(queue, name).build());
    for answer in storage.enqueue(batch.to_vec()).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn tasks_of_queues_on_all_nodes_go_their_way() {
    let cluster = RedisCluster::start().await;
    let places = QUEUES.map(|name| RedisCluster::place_of(format!("asynq:{{{name}}}:t").as_bytes()));
    assert!(
        (0..3).all(|node| places.contains(&node)),
        "a queue on each node: {places:?}"
    );
    let clock = Clock::manual(Utc::now());
    let env = Env {
        clock: clock.clone(),
        entropy: Entropy::seeded(1),
    };
    let storage = to(&cluster).connect(env).await.unwrap();

    for name in ["a", "b", "c"] {
        enqueue(&*storage, name).await;
    }
    let mut known = storage.queues().await.unwrap();
    known.sort_by_key(|queue| QUEUES.iter().position(|name| *name == queue.as_str()));
    assert_eq!(known, QUEUES.map(queue));

    // One call settles and takes in all queues.
    let first = take(&*storage, 1).await;
    assert_eq!(ids(&first), ["a", "a", "a"]);
    let want = QUEUES.map(|name| Want {
        queue: queue(name),
        max: 1,
    });
    let outcome = |nth: usize| if nth == 0 { retry(clock.now()) } else { DONE };
    let settle = first
        .iter()
        .enumerate()
        .map(|(nth, task)| settlement(task, outcome(nth)));
    let answer = storage
        .exchange(&storage.begin(), settle.collect(), want.to_vec())
        .await;
    assert!(answer.settled.iter().all(Result::is_ok), "{:?}", answer.settled);
    assert_eq!(ids(&answer.leased), ["b", "b", "b"]);

    // The first one is due for its retry; the leases of the second ones end and they are recovered.
    clock.advance(Duration::from_secs(60));
    let retried = &first[0].lease.queue;
    assert_eq!(storage.forward(retried, 10).await.unwrap().moved, 1);
    for name in QUEUES {
        let expired = storage.expired(&queue(name), Duration::ZERO, 10).await.unwrap();
        assert_eq!(expired.tasks.len(), 1, "{name}");
        let batch = expired.tasks.into_iter().map(|task| Recovery {
            task,
            outcome: Outcome::Archive { error: "lease".into() },
        });
        let recovered = storage.recover(batch.collect()).await;
        assert!(recovered.iter().all(Result::is_ok), "{recovered:?}");
    }
    let mut left: Vec<_> = take(&*storage, 9)
        .await
        .iter()
        .map(|task| format!("{} {}", task.lease.queue, task.message.id))
        .collect();
    left.sort();
    let mut expected: Vec<_> = QUEUES.iter().map(|name| format!("{name} c")).collect();
    expected.push(format!("{retried} a"));
    expected.sort();
    assert_eq!(left, expected);
    for name in QUEUES {
        let info = storage.queue_info(&queue(name)).await.unwrap();
        assert_eq!((info.archived, info.pending), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn cancellations_come_from_any_node() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    let mut cancelled = broker.subscribe_cancellations().await.unwrap();
    for (node, mut client) in cluster.clients().await.into_iter().enumerate() {
        let name = format!("from-{node}");
        client.ok(&["PUBLISH", "asynq:cancel", &name]).await;
        assert_eq!(timeout(LIMIT, cancelled.next()).await.unwrap(), Some(id(&name)));
    }
    // Ours keep their order: they all go by the same node.
    let ours: Vec<_> = (0..20).map(|number| id(&format!("ours-{number}"))).collect();
    for id in &ours {
        broker.publish_cancellation(id).await.unwrap();
    }
    for id in ours {
        assert_eq!(timeout(LIMIT, cancelled.next()).await.unwrap(), Some(id));
    }
}

#[tokio::test]
async fn a_moved_queue_is_followed() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    // An empty queue whose slot the client knows already.
    let key = "asynq:{elsewhere}:t";
    let before = RedisCluster::place_of(key.as_bytes());
    assert!(broker.enqueue(vec![request("elsewhere", "a").build()]).await[0].is_ok());
    let mut clients = cluster.clients().await;
    clients[before].ok(&["FLUSHALL"]).await;
    let after = (before + 1) % 3;
    let slot = RedisCluster::slot_of(key.as_bytes());
    cluster.move_slot(slot, before, after).await;
    let moved = broker.enqueue(vec![request("elsewhere", "b").build()]).await.remove(0);
    assert_eq!(moved.unwrap().id, id("b"));
    let found = clients[after].cmd(&["EXISTS", "asynq:{elsewhere}:t:b"]).await;
    assert_eq!(found.int(), 1);
}

#[tokio::test]
async fn scripts_are_loaded_again() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    for name in ["a", "b"] {
        enqueue(&broker, name).await;
        for mut client in cluster.clients().await {
            client.ok(&["SCRIPT", "FLUSH"]).await;
        }
    }
    for name in QUEUES {
        assert_eq!(broker.queue_info(&queue(name)).await.unwrap().pending, 2);
    }
}

/// Those on living nodes get in, each once, at the latest when they are asked for again by the same request.
#[tokio::test]
async fn a_lost_node_takes_only_its_queues_along() {
    let cluster = RedisCluster::start_of(RedisServer::builder().args(["--cluster-require-full-coverage", "no"])).await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    let lost = RedisCluster::place_of(b"asynq:{low}:t");
    cluster.nodes()[lost].kill();
    let mut left = QUEUES.map(|name| request(name, "b").build()).to_vec();
    let others_in = async {
        while left.len() > 1 {
            let answers = broker.enqueue(left.clone()).await;
            let mut refused = Vec::new();
            for (request, answer) in left.drain(..).zip(answers) {
                match answer {
                    Ok(info) => assert_ne!(info.queue, queue("low")),
                    Err(EnqueueError::Broker(error)) => {
                        // Also of a living node, where the client gave up all calls.
                        assert!(error.is_retryable(), "{error:?}");
                        refused.push(request);
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            left = refused;
        }
    };
    timeout(LIMIT, others_in).await.unwrap();
    assert_eq!(left[0].message.queue, "low");
    for name in ["b", "default"] {
        let node = &cluster.nodes()[RedisCluster::place_of(format!("asynq:{{{name}}}:t").as_bytes())];
        let mut client = node.client().await;
        let pending = client
            .ok(&["LRANGE", &format!("asynq:{{{name}}}:pending"), "0", "-1"])
            .await;
        let pending: Vec<_> = pending.array().iter().map(|id| id.text()).collect();
        assert_eq!(pending, ["b", "a"], "{name}");
    }
}

#[tokio::test]
async fn a_silent_node_ends_the_calls_that_wait_for_it() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster).ping_timeout(Duration::from_secs(2)))
        .await
        .unwrap();
    enqueue(&broker, "a").await;
    let before = broker.begin().connection;
    let silent = &cluster.nodes()[RedisCluster::place_of(b"asynq:{low}:t")];
    silent.pause();
    let answer = timeout(LIMIT, broker.enqueue(vec![request("low", "b").build()])).await;
    let error = answer.unwrap().remove(0).unwrap_err();
    let EnqueueError::Broker(error) = error else {
        panic!("{error:?}")
    };
    assert!(error.is_ambiguous(), "{error:?}");
    silent.resume();
    let again = async {
        while broker.enqueue(vec![request("low", "c").build()]).await[0].is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.unwrap();
    assert_ne!(broker.begin().connection, before);
}

#[tokio::test]
async fn what_a_cluster_cannot_do_is_said() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    assert!(!broker.adoption_is_final(), "before the first adoption too");
    let watch = broker.watch(&[queue("q")], WatchKind::Pending).await;
    assert!(matches!(watch, Err(BrokerError::Unsupported { .. })), "{watch:?}");
    broker.ping().await.unwrap();
    broker.close().await;
    assert!(matches!(broker.ping().await, Err(BrokerError::Closed)));
    let watch = broker.watch(&[queue("q")], WatchKind::Pending).await;
    assert!(matches!(watch, Err(BrokerError::Closed)), "{watch:?}");
    assert!(matches!(
        broker.subscribe_cancellations().await,
        Err(BrokerError::Closed)
    ));
    assert_eq!(broker.begin().connection, 0);

    let fault = async |connection: RedisConnectionType| match RedisBroker::new(connection).await {
        Err(Error::Broker(BrokerError::InvalidConnection { reason })) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(to(&cluster).db(1)).await, "db: a cluster has no database but 0");
    let alone = RedisServer::start().await;
    let reason = fault(RedisConnectionType::cluster([alone.url()]).unwrap()).await;
    assert!(reason.contains("is no node of a cluster"), "{reason}");
}

#[tokio::test]
async fn one_living_node_is_enough_to_find_the_others() {
    let cluster = RedisCluster::start_of(RedisServer::builder().password("pw")).await;
    let mut nodes = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
    nodes.push(cluster.nodes()[1].address());
    let unknown = RedisConnectionType::cluster(&nodes).unwrap();
    let refused = RedisBroker::new(unknown.clone()).await.unwrap_err();
    assert!(
        matches!(refused, Error::Broker(BrokerError::Refused { .. })),
        "{refused:?}"
    );
    let broker = RedisBroker::new(unknown.password("pw")).await.unwrap();
    enqueue(&broker, "a").await;
    broker.subscribe_cancellations().await.unwrap();
    let nobody = RedisConnectionType::cluster(&nodes[..2]).unwrap();
    let error = RedisBroker::new(nobody).await.unwrap_err();
    assert!(
        matches!(error, Error::Broker(BrokerError::Unavailable { .. })),
        "{error:?}"
    );
}

#[test]
fn faults_of_addresses_name_their_place() {
    let fault = |nodes: &[&str]| match RedisConnectionType::cluster(nodes) {
        Err(Error::Broker(BrokerError::InvalidConnection { reason })) => reason,
        other => panic!("{nodes:?}: {other:?}"),
    };
    for (nodes, part) in [
        (&[][..], "nodes: at least one address is needed"),
        (&["a:1", ""], "nodes[1]: the address is empty"),
        (&["a:1", "b:x"], "nodes[1]: the port must be"),
        (
            &["redis-socket:///run/s"],
            "nodes[0]: a node of a cluster is reached by TCP",
        ),
        (&["a:1", "redis://b/2"], "nodes[1]: a cluster has no database but 0"),
        (
            &["redis://:pw@a", "redis://:hunter2@b"],
            "nodes[1]: all nodes have the same user and password",
        ),
        (
            &["a:1", "redis://b?protocol=2"],
            "nodes[1]: all nodes speak the same protocol",
        ),
        #[cfg(feature = "tls")]
        (
            &["rediss://a", "redis://b"],
            "nodes[1]: either all nodes have TLS or none",
        ),
    ] {
        let reason = fault(nodes);
        assert!(reason.starts_with(part), "{nodes:?}: {reason}");
        assert!(!reason.contains("hunter2"));
    }
    let good =
        RedisConnectionType::cluster(vec!["redis://:hunter2@127.0.0.1:6379/", "redis://:hunter2@[::1]"]).unwrap();
    assert_eq!(good.describe(), "redis://127.0.0.1:6379/0,redis://[::1]:6379/0");
    assert!(!format!("{good:?}").contains("hunter2"), "{good:?}");
}

static POOL: ClusterPool = ClusterPool::new();

/// The suite that any storage passes.
mod conformance {
    use super::*;

    asynq_testing::conformance!(asynq_testing::conformance::ClusterHarness::new(&POOL, |cluster| {
        Arc::new(to(cluster))
    }));
}
