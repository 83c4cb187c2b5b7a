//! A cluster of three masters, as a program sees it.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use asynq_core::{
    Broker, BrokerError, Clock, Connector, EnqueueError, Entropy, Env, Error, Inspect, Storage,
    broker::{LARGE_BYTES, LeasedTask, Outcome, Recovery, Want, WatchKind},
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
        .node_timeout(LIMIT)
}

/// As programs have it that set nothing.
fn by_default(cluster: &RedisCluster) -> RedisConnectionType {
    RedisConnectionType::cluster(cluster.urls()).unwrap()
}

async fn take(storage: &dyn Storage, max: u32) -> Vec<LeasedTask> {
    let want = QUEUES.map(|name| Want {
        queue: queue(name),
        max,
    });
    let answer = storage.exchange(&storage.begin(), &[], &want).await;
    assert!(answer.failed.is_empty(), "{:?}", answer.failed);
    answer.leased
}

async fn enqueue(storage: &dyn Broker, name: &str) {
    let batch = QUEUES.map(|queue| request(queue, name).build());
    for answer in storage.enqueue(&batch_of(batch.to_vec())).await {
        answer.unwrap();
    }
}

/// The slot of a queue is that of Redis, and its nodes are those that have its keys. One server has neither.
#[tokio::test]
async fn a_queue_tells_its_slot_and_its_nodes() {
    let cluster = RedisCluster::start().await;
    let storage = to(&cluster).connect(Env::default()).await.unwrap();
    enqueue(&*storage, "a").await;
    for name in QUEUES {
        let key = format!("asynq:{{{name}}}:pending");
        let mut client = cluster.nodes()[RedisCluster::place_of(key.as_bytes())].client().await;
        let slot = client.ok(&["CLUSTER", "KEYSLOT", &key]).await.int();
        assert_eq!(i64::from(storage.cluster_key_slot(&queue(name)).await.unwrap()), slot);
        let own = client.ok(&["CLUSTER", "MYID"]).await.text();
        let nodes = storage.cluster_nodes(&queue(name)).await.unwrap();
        let address = cluster.nodes()[RedisCluster::place_of(key.as_bytes())].address();
        assert_eq!(
            nodes
                .iter()
                .map(|node| (node.id.as_str(), node.address.as_str()))
                .collect::<Vec<_>>(),
            [(own.as_str(), address.as_str())]
        );
        storage.delete_queue(&queue(name), true).await.unwrap();
    }
    assert!(storage.queues().await.unwrap().is_empty());
    let server = RedisServer::start().await;
    let one = RedisConnectionType::single(server.url()).unwrap();
    let one = one.connect(Env::default()).await.unwrap();
    let answer = one.cluster_nodes(&queue("b")).await;
    assert!(matches!(answer, Err(BrokerError::Unsupported { .. })), "{answer:?}");
}

/// Each master tells about itself, under its address, and any node about the cluster. A single server has no address.
#[tokio::test]
async fn servers_tell_about_themselves() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    assert!(broker.is_cluster());
    let mut ports = Vec::new();
    for (node, info) in broker.server_infos().await {
        let info = info.unwrap();
        let node = node.unwrap();
        assert!(node.ends_with(&format!(":{}", info["tcp_port"])), "{node}");
        ports.push(info["tcp_port"].clone());
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 3);
    let info = broker.cluster_info().await.unwrap();
    assert_eq!(
        (info["cluster_state"].as_str(), info["cluster_size"].as_str()),
        ("ok", "3")
    );
    assert!(broker.info_text().await.unwrap().contains("cluster_state:ok\r\n"));
    let nodes = broker.cluster_nodes_text().await.unwrap();
    assert_eq!(
        nodes.lines().filter(|line| line.contains("master")).count(),
        3,
        "{nodes}"
    );
    assert!(
        broker.describe().starts_with("redis://127.0.0.1:"),
        "{}",
        broker.describe()
    );

    let server = RedisServer::start().await;
    let broker = RedisBroker::new(RedisConnectionType::single(server.url()).unwrap());
    let broker = broker.await.unwrap();
    assert!(!broker.is_cluster());
    let infos = broker.server_infos().await;
    let [(None, Ok(info))] = infos.as_slice() else {
        panic!("{infos:?}");
    };
    assert_eq!(info["tcp_port"], server.port().to_string());
    let port = format!("tcp_port:{}\r\n", server.port());
    assert!(broker.info_text().await.unwrap().contains(&port));
    assert!(broker.cluster_nodes_text().await.is_err());
    assert!(matches!(
        broker.cluster_info().await,
        Err(Error::Broker(BrokerError::Refused { .. }))
    ));
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
        .exchange(&storage.begin(), &settle.collect::<Vec<_>>(), &want)
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
        // A node passes nothing on to one that it has no link to yet, and a new cluster makes its links one by one.
        let heard = async {
            loop {
                client.ok(&["PUBLISH", "asynq:cancel", &name]).await;
                let next = timeout(Duration::from_secs(1), cancelled.next()).await;
                // One of an earlier node may come twice.
                if next.is_ok_and(|heard| heard == Some(id(&name))) {
                    break;
                }
            }
        };
        timeout(LIMIT, heard).await.unwrap();
    }
    // Ours keep their order: they all go by the same node.
    let ours: Vec<_> = (0..20).map(|number| id(&format!("ours-{number}"))).collect();
    for id in &ours {
        broker.publish_cancellation(id).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < ours.len() {
        let next = timeout(LIMIT, cancelled.next()).await.unwrap().unwrap();
        heard.extend((!next.as_str().starts_with("from-")).then_some(next));
    }
    assert_eq!(heard, ours);
}

#[tokio::test]
async fn a_moved_queue_is_followed() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    // An empty queue whose slot the client knows already.
    let key = "asynq:{elsewhere}:t";
    let before = RedisCluster::place_of(key.as_bytes());
    assert!(broker.enqueue(&batch_of([request("elsewhere", "a").build()])).await[0].is_ok());
    let mut clients = cluster.clients().await;
    clients[before].ok(&["FLUSHALL"]).await;
    let after = (before + 1) % 3;
    let slot = RedisCluster::slot_of(key.as_bytes());
    cluster.move_slot(slot, before, after).await;
    let moved = broker
        .enqueue(&batch_of([request("elsewhere", "b").build()]))
        .await
        .remove(0);
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

/// Those on living nodes get in with the first call.
#[tokio::test]
async fn a_lost_node_takes_only_its_queues_along() {
    let cluster = RedisCluster::start_of(RedisServer::builder().args(["--cluster-require-full-coverage", "no"])).await;
    let broker = RedisBroker::new(by_default(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    let lost = RedisCluster::place_of(b"asynq:{low}:t");
    cluster.nodes()[lost].kill();
    for name in ["b", "c"] {
        let batch = QUEUES.map(|queue| request(queue, name).build()).to_vec();
        let answers = timeout(LIMIT, broker.enqueue(&batch_of(batch))).await.unwrap();
        for (queue, answer) in QUEUES.into_iter().zip(answers) {
            match answer {
                Ok(_) => assert_ne!(queue, "low"),
                Err(EnqueueError::Broker(error)) => {
                    assert_eq!(queue, "low", "{error:?}");
                    assert!(error.is_retryable(), "{error:?}");
                }
                Err(error) => panic!("{queue}: {error:?}"),
            }
        }
    }
    for name in ["b", "default"] {
        let node = &cluster.nodes()[RedisCluster::place_of(format!("asynq:{{{name}}}:t").as_bytes())];
        let mut client = node.client().await;
        let pending = client
            .ok(&["LRANGE", &format!("asynq:{{{name}}}:pending"), "0", "-1"])
            .await;
        let pending: Vec<_> = pending.array().iter().map(|id| id.text()).collect();
        assert_eq!(pending, ["c", "b", "a"], "{name}");
    }
}

/// Nothing fails in the queues of the other nodes, for a program that is there and for one that starts
/// meanwhile; what the stopped node served goes on at its replica.
#[tokio::test]
async fn a_stopped_node_costs_only_its_own_queues() {
    /// Several times what it takes.
    const SOON: Duration = Duration::from_secs(10);
    /// Calls after the disturbance, which together take a few dozen milliseconds.
    const ROUNDS: usize = 50;
    let cluster = RedisCluster::start_of(RedisServer::builder().args(["--cluster-require-full-coverage", "no"])).await;
    let lost = RedisCluster::place_of(b"asynq:{low}:t");
    let replica = cluster.start_replica(lost).await;
    // The one that will be silent is named first.
    let mut urls = cluster.urls();
    urls.swap(0, lost);
    let connection = || RedisConnectionType::cluster(&urls).unwrap();
    let there = RedisBroker::new(connection()).await.unwrap();
    enqueue(&there, "before").await;
    let mut held = take(&there, 1).await;
    assert_eq!(held.len(), 3);
    held.retain(|task| task.lease.queue != queue("low"));
    let stopped = &cluster.nodes()[lost];
    stopped.pause();

    let started = timeout(SOON, RedisBroker::new(connection())).await.unwrap().unwrap();
    for (broker, name) in [(&there, "there"), (&started, "started")] {
        // The first calls wait for the silent node, not for long; the later ones know of it.
        for rounds in [1, ROUNDS] {
            let work = async {
                for round in 0..rounds {
                    let batch = QUEUES.map(|queue| request(queue, &format!("{name}-{rounds}-{round}")).build());
                    for (queue, answer) in QUEUES.into_iter().zip(broker.enqueue(&batch_of(batch.to_vec())).await) {
                        assert_eq!(answer.is_ok(), queue != "low", "{queue}: {answer:?}");
                    }
                    let want = QUEUES.map(|name| Want {
                        queue: queue(name),
                        max: 1,
                    });
                    let answer = broker.exchange(&broker.begin(), &[], &want).await;
                    assert_eq!(answer.leased.len(), 2, "{:?}", answer.failed);
                    let mut leases: Vec<_> = held.iter().map(|task| task.lease.clone()).collect();
                    let mut of_low = leases[0].clone();
                    of_low.queue = queue("low");
                    leases.insert(1, of_low);
                    let extended = broker.extend_leases(leases).await;
                    let well: Vec<_> = extended.iter().map(Result::is_ok).collect();
                    assert_eq!(well, [true, false, true], "{extended:?}");
                    for (task, until) in held.iter_mut().zip(extended.into_iter().flatten()) {
                        task.lease.until = until;
                    }
                }
            };
            let done = timeout(SOON, work).await;
            assert!(done.is_ok(), "{name}: {rounds} rounds take too long");
        }
    }

    RedisCluster::promote(&replica).await;
    for (broker, name) in [(&there, "there"), (&started, "started")] {
        let resumed = async {
            while broker.enqueue(&batch_of([request("low", name).build()])).await[0].is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(SOON, resumed).await.is_ok(), "{name}: the replica is not found");
    }
    // The one before comes back as a replica, and is of no account.
    stopped.resume();
    enqueue(&there, "after").await;
    enqueue(&started, "later").await;
}

/// The first calls are ambiguous. What they took is adopted when the node goes on, over the same connection or,
/// where it was given up meanwhile, over the next one.
#[tokio::test]
async fn what_a_silent_node_was_sent_is_looked_after() {
    let cluster = RedisCluster::start().await;
    let silent = &cluster.nodes()[RedisCluster::place_of(b"asynq:{low}:t")];
    for is_cut in [false, true] {
        let connection = by_default(&cluster).node_timeout(Duration::from_millis(500));
        let connection = if is_cut {
            connection.ping_timeout(Duration::from_millis(100))
        } else {
            connection
        };
        let broker = RedisBroker::new(connection).await.unwrap();
        // So the script is known to the node.
        enqueue(&broker, "first").await;
        take(&broker, 1).await;
        cluster.clear().await;
        enqueue(&broker, "a").await;
        let of_low = async || {
            let mut client = silent.client().await;
            let all = client.ok(&["CLIENT", "LIST"]).await.text();
            let line = all.lines().find(|line| line.contains(" name=asynq ")).map(String::from);
            line.and_then(|line| line.split(' ').next().map(String::from))
        };
        let before = of_low().await;
        assert!(before.is_some(), "connections have names");
        silent.pause();
        let lost = broker.begin();
        let want = vec![Want {
            queue: queue("low"),
            max: 1,
        }];
        let answer = timeout(LIMIT, broker.exchange(&lost, &[], &want.clone()))
            .await
            .unwrap();
        assert!(answer.failed[0].1.is_ambiguous(), "{:?}", answer.failed);
        // From here on nothing is sent that could be.
        let refused = timeout(LIMIT, broker.exchange(&broker.begin(), &[], &want))
            .await
            .unwrap();
        assert!(!refused.failed[0].1.is_ambiguous(), "{:?}", refused.failed);
        assert!(refused.failed[0].1.is_retryable(), "{:?}", refused.failed);
        let adopted = timeout(LIMIT, broker.adopt(&queue("low"), &lost)).await.unwrap();
        assert!(adopted.is_err(), "{adopted:?}");
        let given_up = async {
            while is_cut && !format!("{broker:?}").contains(" down)") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LIMIT, given_up).await.unwrap();
        silent.resume();
        let adopted = async {
            loop {
                match broker.adopt(&queue("low"), &lost).await {
                    Ok(adopted) => break adopted,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut found = timeout(LIMIT, adopted).await.unwrap();
        assert!(broker.adoption_is_final());
        if is_cut && found.is_empty() {
            // The node ended the connection before it read from it.
            found = take(&broker, 1).await;
            found.retain(|task| task.lease.queue == queue("low"));
        }
        assert_eq!(ids(&found), ["a"]);
        let mut changed = of_low().await;
        while is_cut && changed.is_none() {
            changed = of_low().await;
        }
        assert_eq!(changed != before, is_cut);
        enqueue(&broker, "b").await;
    }
}

/// The id and the name of each connection of ours to a node.
async fn connections(node: &RedisServer) -> Vec<(String, String)> {
    let list = node.client().await.ok(&["CLIENT", "LIST"]).await.text();
    let field = |line: &str, name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name));
        word.unwrap_or_default().to_owned()
    };
    let mut found: Vec<_> = list
        .lines()
        .map(|line| (field(line, "id="), field(line, "name=")))
        .filter(|(_, name)| name.starts_with("asynq"))
        .collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

/// Each node has them, and where a call was lost, those that carry no takes are left alone.
#[tokio::test]
async fn leases_and_large_messages_have_connections_of_their_own_to_each_node() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    let leases: Vec<_> = take(&broker, 1).await.into_iter().map(|task| task.lease).collect();
    for extended in broker.extend_leases(leases).await {
        extended.unwrap();
    }
    let large = request("low", "large").payload(vec![b'x'; LARGE_BYTES]).build();
    for answer in broker.enqueue(&batch_of([large])).await {
        answer.unwrap();
    }
    let of_low = RedisCluster::place_of(b"asynq:{low}:t");
    let mut before = Vec::new();
    for (place, node) in cluster.nodes().iter().enumerate() {
        let found = connections(node).await;
        let names: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
        let all = ["asynq", "asynq:control", "asynq:data"];
        assert_eq!(names, all[..if place == of_low { 3 } else { 2 }], "{place}");
        before.push(found);
    }
    let adopted = broker.adopt(&queue("low"), &broker.begin()).await.unwrap();
    assert!(adopted.is_empty(), "{adopted:?}");
    broker.ping().await.unwrap();
    for (node, before) in cluster.nodes().iter().zip(before) {
        assert_eq!(connections(node).await, before);
    }
}

/// Though the main connection to it carries nothing at the time.
#[tokio::test]
async fn an_extension_alone_finds_out_that_a_node_is_silent() {
    /// Several times what it takes, and less than the time after which a connection is given up.
    const SOON: Duration = Duration::from_secs(10);
    let cluster = RedisCluster::start().await;
    let silent = &cluster.nodes()[RedisCluster::place_of(b"asynq:{low}:t")];
    let broker = RedisBroker::new(by_default(&cluster)).await.unwrap();
    enqueue(&broker, "a").await;
    let mut leases: Vec<_> = take(&broker, 1).await.into_iter().map(|task| task.lease).collect();
    leases.retain(|lease| lease.queue == queue("low"));
    broker.extend_leases(leases.clone()).await.remove(0).unwrap();
    silent.pause();
    let extended = timeout(SOON, broker.extend_leases(leases)).await.unwrap();
    assert!(extended[0].is_err(), "{extended:?}");
    silent.resume();
}

/// The index of queues is on one node, a new queue on another one that is well: its name is published with the
/// next task of the program, in whichever queue.
#[tokio::test]
async fn a_queue_is_listed_though_the_list_was_away_when_it_was_new() {
    let cluster = RedisCluster::start_of(RedisServer::builder().args(["--cluster-require-full-coverage", "no"])).await;
    let broker = RedisBroker::new(by_default(&cluster)).await.unwrap();
    let index = &cluster.nodes()[RedisCluster::place_of(b"asynq:queues")];
    index.pause();
    // The name of the first one reaches the node when it goes on; that of the second one is not even sent.
    for name in ["low", "default"] {
        let batch = batch_of([request(name, "a").build()]);
        let added = broker.enqueue(&batch);
        timeout(LIMIT, added).await.unwrap().remove(0).unwrap();
    }
    index.resume();
    let listed = async {
        // Refused until the node is known to answer again; the first one that is not has the name along.
        while broker.enqueue(&batch_of([request("b", "b").build()])).await[0].is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        broker.queues().await.unwrap()
    };
    let mut listed = timeout(LIMIT, listed).await.unwrap();
    listed.sort();
    assert_eq!(listed, QUEUES.map(queue));
}

#[tokio::test]
async fn what_a_cluster_cannot_do_is_said() {
    let cluster = RedisCluster::start().await;
    let broker = RedisBroker::new(to(&cluster)).await.unwrap();
    assert!(broker.adoption_is_final(), "calls to a node can be ended");
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
    assert_eq!(fault(to(&cluster).db(1)).await, "db: a cluster has only database 0");
    let alone = RedisServer::start().await;
    let reason = fault(RedisConnectionType::cluster([alone.url()]).unwrap()).await;
    assert!(reason.contains("is not a node of a cluster"), "{reason}");
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
        (&["a:1", "redis://b/2"], "nodes[1]: a cluster has only database 0"),
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
