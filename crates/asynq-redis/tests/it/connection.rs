//! The broker's connections, as a program sees them.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use asynq_core::{
    Broker, BrokerError, Connector, Env, Error, Inspect as _, Storage, TaskId, Then,
    broker::{CallRecord, Outcome, Settlement, Wake, Want, WatchKind},
};
use asynq_redis::{RedisBroker, RedisConnectionType};
use asynq_testing::{
    Proxy, RedisServer,
    request::{id, queue, request},
};
use tokio::time::timeout;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn to(url: &str) -> RedisConnectionType {
    RedisConnectionType::single(url)
        .expect("it is an address")
        .wait_timeout(LIMIT)
}

async fn enqueue(broker: &dyn Broker, name: &str) -> Result<(), BrokerError> {
    let answer = broker.enqueue(&batch_of([request("q", name).build()])).await.remove(0);
    match answer {
        Ok(_) => Ok(()),
        Err(asynq_core::EnqueueError::Broker(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_connector_opens_a_storage() {
    let server = RedisServer::builder().password("pw").start().await;
    let connector: Arc<dyn Connector> = Arc::new(to(&server.url()).db(1));
    assert_eq!(connector.describe(), format!("redis://127.0.0.1:{}/1", server.port()));
    let storage: Arc<dyn Storage> = connector.connect(Env::default()).await.unwrap();
    storage.ping().await.unwrap();
    assert!(!format!("{storage:?}").contains("pw"));
}

#[tokio::test]
async fn settings_reach_the_server() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    client
        .ok(&[
            "ACL",
            "SETUSER",
            "ann",
            "on",
            ">p@w",
            "~asynq:*",
            "resetchannels",
            "&asynq:*",
            "+@all",
        ])
        .await;
    let connection = to(&server.address())
        .username("ann")
        .password("p@w")
        .db(2)
        .client_name("worker");
    let broker = RedisBroker::new(connection).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    let clients = client.cmd(&["CLIENT", "LIST"]).await.text();
    assert!(
        clients
            .lines()
            .any(|line| line.contains(" name=worker ") && line.contains(" user=ann ")),
        "{clients}"
    );
    client.ok(&["SELECT", "2"]).await;
    assert_eq!(client.cmd(&["EXISTS", "asynq:{q}:t:a"]).await.int(), 1);
}

#[tokio::test]
async fn a_login_that_is_refused_is_typed_and_shows_no_password() {
    let server = RedisServer::builder().password("right").start().await;
    let connection = to(&server.address()).password("hunter2");
    let error = RedisBroker::new(connection).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter2"));
    let Error::Broker(error @ BrokerError::Refused { .. }) = error else {
        panic!("{error:?}")
    };
    assert!(!error.is_retryable());
    let nobody = RedisBroker::new(to("127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(nobody, Error::Broker(BrokerError::Unavailable { .. })));
}

#[tokio::test]
async fn a_broker_follows_its_server() {
    let server = RedisServer::builder().persistent().start().await;
    let broker = RedisBroker::new(to(&server.url())).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    let before = broker.begin().connection;
    server.restart().await;
    // Whatever it is told while the loss is being noticed, it is told the truth.
    let mut attempts = 0;
    let settled = async {
        while let Err(error) = enqueue(&broker, "b").await {
            assert!(error.is_retryable(), "{error:?}");
            attempts += 1;
        }
    };
    timeout(LIMIT, settled).await.unwrap();
    assert!(attempts <= 2, "{attempts}");
    assert_ne!(broker.begin().connection, before);
    let mut client = server.client().await;
    assert_eq!(client.cmd(&["LLEN", "asynq:{q}:pending"]).await.int(), 2);
}

/// A message is no write, so a server that takes no writes would pass it on.
#[tokio::test]
async fn a_cancel_request_that_cannot_be_kept_is_not_told() {
    let server = RedisServer::start().await;
    let broker = RedisBroker::new(to(&server.url())).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    let want = Want {
        queue: queue("q"),
        max: 1,
    };
    let taken = broker.exchange(&broker.begin(), &[], &[want]).await.leased;
    let (queue, id) = (&taken[0].lease.queue, &taken[0].lease.id);
    let mut heard = broker.subscribe_cancellations().await.unwrap();
    let mut client = server.client().await;
    client.cmd(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    broker.cancel_task(queue, id, Then::Delete).await.unwrap_err();
    client.cmd(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    let last = TaskId::new("last").unwrap();
    broker.publish_cancellation(&last).await.unwrap();
    assert_eq!(timeout(LIMIT, heard.next()).await.unwrap(), Some(last));
    let kept = client
        .cmd(&["HEXISTS", &format!("asynq:{{q}}:t:{id}"), "x:cancel"])
        .await;
    assert_eq!(kept.int(), 0);
}

#[tokio::test]
async fn a_task_wakes_whoever_waits_for_one() {
    let server = RedisServer::start().await;
    let broker = RedisBroker::new(to(&server.url())).await.unwrap();
    let mut watch = broker
        .watch(&[queue("p"), queue("q")], WatchKind::Pending)
        .await
        .unwrap();
    enqueue(&broker, "a").await.unwrap();
    assert_eq!(timeout(LIMIT, watch.changed()).await.unwrap(), Wake::Changed);
    let old = RedisServer::start_with(&["--rename-command", "HELLO", ""]).await;
    let broker = RedisBroker::new(to(&old.url())).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    let unsupported = broker.watch(&[queue("q")], WatchKind::Pending).await;
    assert!(matches!(unsupported, Err(BrokerError::Unsupported { .. })));
    let plain = RedisBroker::new(to(&format!("{}?protocol=2", server.url())))
        .await
        .unwrap();
    assert!(matches!(
        plain.watch(&[queue("q")], WatchKind::Pending).await,
        Err(BrokerError::Unsupported { .. })
    ));
}

#[tokio::test]
async fn cancellations_end_with_their_connection() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let broker = RedisBroker::new(to(&proxy.url())).await.unwrap();
    let mut cancelled = broker.subscribe_cancellations().await.unwrap();
    server.client().await.ok(&["PUBLISH", "asynq:cancel", "a"]).await;
    assert_eq!(timeout(LIMIT, cancelled.next()).await.unwrap(), Some(id("a")));
    proxy.cut_all();
    assert_eq!(timeout(LIMIT, cancelled.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_broker_says_so() {
    let server = RedisServer::start().await;
    let broker = RedisBroker::new(to(&server.url())).await.unwrap();
    broker.close().await;
    broker.close().await;
    assert!(matches!(broker.ping().await, Err(BrokerError::Closed)));
    assert!(matches!(enqueue(&broker, "a").await, Err(BrokerError::Closed)));
    assert!(matches!(
        broker.watch(&[queue("q")], WatchKind::Pending).await,
        Err(BrokerError::Closed)
    ));
    assert_eq!(broker.begin().connection, 0);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls() {
    let files = asynq_testing::tls::TlsFiles::generate();
    let server = RedisServer::builder().tls(files.clone()).start().await;
    let trusted = to(&server.tls_url())
        .tls_root_certificate(files.authority_pem())
        .unwrap();
    let broker = RedisBroker::new(trusted.tls_server_name("localhost")).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    // The system does not trust the test's authority.
    let error = RedisBroker::new(to(&server.tls_url())).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Broker(BrokerError::Refused { .. } | BrokerError::InvalidConnection { .. })
        ),
        "{error:?}"
    );
    let insecure = RedisBroker::new(to(&server.tls_url()).tls_insecure()).await.unwrap();
    insecure.ping().await.unwrap();
}

/// rules.md#calls-outlive-actors: where a user may not end connections, an adoption cannot be final. A take
/// that comes late all the same is found by adopting once more.
#[tokio::test]
async fn without_the_right_to_end_connections_a_late_take_is_found_later() {
    let server = RedisServer::start().await;
    let mut admin = server.client().await;
    let rights = [
        "-client",
        "+client|id",
        "+client|setname",
        "+client|tracking",
        "+client|caching",
    ];
    let user = ["ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all"];
    admin.ok(&[&user[..], &rights[..]].concat()).await;
    let proxy = Proxy::start(&server).await;
    let connector = to(&proxy.url()).username("ann").password("pw");
    let broker = RedisBroker::new(connector).await.unwrap();
    let late = RedisBroker::new(to(&server.url())).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    assert!(broker.adoption_is_final(), "as far as is known");

    let lost = broker.begin();
    proxy.cut_all();
    // What adopts has another connection.
    let again = async {
        while broker.ping().await.is_err() || broker.begin().connection == lost.connection {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.unwrap();
    assert!(broker.adopt(&queue("q"), &lost).await.unwrap().is_empty());
    assert!(!broker.adoption_is_final());

    // The server comes to what was sent on the lost connection.
    let call = CallRecord {
        connection: late.begin().connection,
        ..lost.clone()
    };
    let want = Want {
        queue: queue("q"),
        max: 1,
    };
    assert_eq!(late.exchange(&call, &[], &[want]).await.leased.len(), 1);
    let adopted = broker.adopt(&queue("q"), &lost).await.unwrap();
    assert_eq!(adopted.len(), 1);
    assert_eq!((&adopted[0].lease.id, &adopted[0].lease.token), (&id("a"), &lost.token));
    let done = Settlement {
        lease: adopted[0].lease.clone(),
        message: Arc::clone(&adopted[0].message),
        outcome: Outcome::Done { retain: false },
        run: None,
    };
    let answer = broker.exchange(&broker.begin(), &[done], &[]).await;
    assert!(answer.settled[0].is_ok(), "{:?}", answer.settled[0]);

    // With the right, one adoption is enough.
    assert!(late.adoption_is_final());
    late.adopt(&queue("q"), &lost).await.unwrap();
    assert!(late.adoption_is_final());
}
