//! A master that is found through a sentinel.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{
    Broker, BrokerError, Connector, Env, Error, Storage,
    broker::{Wake, WatchKind},
};
use asynq_redis::{RedisBroker, RedisConnectionType};
use asynq_testing::{
    RedisSentinel, RedisServer,
    conformance::{Fixture, Harness, RedisBackend},
    request::{id, queue, request},
};
use tokio::time::timeout;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

fn to(both: &RedisSentinel) -> RedisConnectionType {
    RedisConnectionType::sentinel(RedisSentinel::MASTER, [both.sentinel().url()])
        .unwrap()
        .wait_timeout(LIMIT)
}

async fn enqueue(broker: &dyn Broker, name: &str) -> Result<(), BrokerError> {
    match broker.enqueue(&batch_of([request("q", name).build()])).await.remove(0) {
        Ok(_) => Ok(()),
        Err(asynq_core::EnqueueError::Broker(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

async fn exists(server: &RedisServer, name: &str) -> bool {
    let mut client = server.client().await;
    client.cmd(&["EXISTS", &format!("asynq:{{q}}:t:{name}")]).await.int() == 1
}

#[tokio::test]
async fn the_master_is_found_watched_and_heard() {
    let both = RedisSentinel::start_of(RedisServer::builder().password("of master"), Some("of sentinel")).await;
    // The second of these is nobody.
    let port = both.sentinel().port();
    let uri = format!("redis-sentinel://:of%20sentinel@127.0.0.1:1,127.0.0.1:{port}/2?master=asynq-test");
    let connection = RedisConnectionType::sentinel_uri(&uri).unwrap().password("of master");
    let broker = RedisBroker::new(connection).await.unwrap();
    let mut watch = broker.watch(&[queue("q")], WatchKind::Pending).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    assert_eq!(timeout(LIMIT, watch.changed()).await.unwrap(), Wake::Changed);
    let mut client = both.master().client().await;
    client.ok(&["SELECT", "2"]).await;
    assert_eq!(client.cmd(&["EXISTS", "asynq:{q}:t:a"]).await.int(), 1);
    let mut cancelled = broker.subscribe_cancellations().await.unwrap();
    client.ok(&["PUBLISH", "asynq:cancel", "a"]).await;
    assert_eq!(timeout(LIMIT, cancelled.next()).await.unwrap(), Some(id("a")));
    assert!(broker.adoption_is_final());
}

#[tokio::test]
async fn a_lost_or_read_only_master_leads_to_the_next_one() {
    let both = RedisSentinel::start().await;
    let broker = RedisBroker::new(to(&both)).await.unwrap();
    enqueue(&broker, "a").await.unwrap();
    assert!(exists(both.master(), "a").await);

    // It becomes a replica of another one, as after a failover.
    let second = RedisServer::start().await;
    both.promote(&second).await;
    let port = second.port().to_string();
    both.master()
        .client()
        .await
        .ok(&["REPLICAOF", "127.0.0.1", &port])
        .await;
    let followed = async {
        while let Err(error) = enqueue(&broker, "b").await {
            assert!(error.is_retryable(), "{error:?}");
        }
    };
    timeout(LIMIT, followed).await.unwrap();
    assert!(exists(&second, "b").await);

    let third = RedisServer::start().await;
    both.promote(&third).await;
    second.kill();
    let followed = async {
        while let Err(error) = enqueue(&broker, "c").await {
            assert!(error.is_retryable(), "{error:?}");
        }
    };
    timeout(LIMIT, followed).await.unwrap();
    assert!(exists(&third, "c").await);
}

#[tokio::test]
async fn what_is_wrong_is_typed() {
    let both = RedisSentinel::start_of(RedisServer::builder().password("m"), Some("s")).await;
    let url = both.sentinel().url();
    let open = async |master: &str, sentinel: &str, password: &str| {
        let connection = RedisConnectionType::sentinel(master, [sentinel])
            .unwrap()
            .password(password);
        match RedisBroker::new(connection).await {
            Err(Error::Broker(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let unknown = open("nobody", &url, "m").await;
    assert!(matches!(unknown, BrokerError::Unavailable { .. }), "{unknown:?}");
    let nobody = open(RedisSentinel::MASTER, "127.0.0.1:1", "m").await;
    assert!(matches!(nobody, BrokerError::Unavailable { .. }), "{nobody:?}");
    let stranger = open(RedisSentinel::MASTER, &both.sentinel().address(), "m").await;
    assert!(matches!(stranger, BrokerError::Refused { .. }), "{stranger:?}");
    let wrong = open(RedisSentinel::MASTER, &url, "hunter2").await;
    assert!(matches!(wrong, BrokerError::Refused { .. }), "{wrong:?}");
    assert!(!format!("{wrong:?} {wrong}").contains("hunter2"));
    let master = open(RedisSentinel::MASTER, &both.master().url(), "m").await;
    assert!(!matches!(master, BrokerError::Ambiguous { .. }), "{master:?}");
}

#[test]
fn faults_of_addresses_name_their_place() {
    let reason = |result: asynq_core::Result<RedisConnectionType>| match result {
        Err(Error::Broker(BrokerError::InvalidConnection { reason })) => reason,
        other => panic!("{other:?}"),
    };
    let fault = |master: &str, sentinels: &[&str]| reason(RedisConnectionType::sentinel(master, sentinels));
    for (master, sentinels, part) in [
        ("", &["a"][..], "master: the name is blank"),
        (" \t", &["a"], "master: the name is blank"),
        ("m", &[], "sentinels: at least one address is needed"),
        ("m", &["a", ""], "sentinels[1]: the address is empty"),
        ("m", &["unix:///run/s"], "sentinels[0]: a sentinel is reached by TCP"),
        ("m", &["redis://a/1"], "sentinels[0]: a sentinel has no databases"),
        (
            "m",
            &["redis://:pw@a", "redis://:hunter2@b"],
            "sentinels[1]: all sentinels have the same",
        ),
        #[cfg(feature = "tls")]
        ("m", &["a", "rediss://b"], "sentinels[1]: TLS"),
    ] {
        let reason = fault(master, sentinels);
        assert!(reason.starts_with(part), "{master} {sentinels:?}: {reason}");
        assert!(!reason.contains("hunter2"));
    }
    for (uri, part) in [
        ("redis://a", "begins with redis-sentinel://"),
        ("redis-sentinel://a:1", "master: the uri of sentinels names one master"),
        ("redis-sentinel://a:1?master=", "master: the name is blank"),
        ("redis-sentinel://a:1?master=%zz", "master: the name is not valid"),
        ("redis-sentinel://a:1?master=m&master=n", "names one master"),
        (
            "redis-sentinel://?master=m",
            "sentinels: at least one address is needed",
        ),
        (
            "redis-sentinel://a:1/x?master=m",
            "the database \"x\" must be a whole number",
        ),
        ("redis-sentinel://a:1?master=m&x=1", "unknown parameter \"x\""),
        ("redis-sentinel://:hunter2/@a:1?master=m", "must be percent-encoded"),
    ] {
        let reason = reason(RedisConnectionType::sentinel_uri(uri));
        assert!(reason.contains(part), "{uri}: {reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
    let good = RedisConnectionType::sentinel_uri("redis-sentinel://:hunter2@h1:5000,[::1]/3?master=mymaster").unwrap();
    assert_eq!(
        good.describe(),
        "redis-sentinel://h1:5000,[::1]:26379/3?master=mymaster"
    );
    assert!(!format!("{good:?}").contains("hunter2"), "{good:?}");
}

/// A master of its own for each case, with its sentinel.
struct Behind;

/// The way there; the sentinel ends with it.
#[derive(Debug)]
struct Way {
    connection: RedisConnectionType,
    _sentinel: RedisServer,
}

#[async_trait]
impl Connector for Way {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        self.connection.connect(env).await
    }

    fn describe(&self) -> String {
        self.connection.describe()
    }
}

#[async_trait]
impl Harness for Behind {
    async fn open(&self) -> Fixture {
        let both = RedisSentinel::start().await;
        let connection = to(&both);
        let (master, sentinel) = both.into_parts();
        let way = Way {
            connection,
            _sentinel: sentinel,
        };
        Fixture::new(RedisBackend::new(master, Arc::new(way)).await).await
    }
}

/// Once connected, all is as with a single server; so these are enough.
#[tokio::test]
async fn rules_of_each_kind() {
    for case in [
        "enqueue::a_pending_task_is_stored_as_go_stores_it",
        "exchange::outcomes_are_written_before_tasks_are_taken",
        "forward::due_tasks_become_pending_in_order",
        "watch::a_push_wakes",
        "watch::a_watch_is_lost_with_its_connection",
    ] {
        asynq_testing::conformance::run(&Behind, case).await;
    }
}

#[tokio::test]
async fn it_is_a_connector() {
    let both = RedisSentinel::start().await;
    let connector: Arc<dyn Connector> = Arc::new(to(&both));
    let storage: Arc<dyn Storage> = connector.connect(Env::default()).await.unwrap();
    storage.ping().await.unwrap();
    let port = both.sentinel().port();
    assert_eq!(
        connector.describe(),
        format!("redis-sentinel://127.0.0.1:{port}/0?master=asynq-test")
    );
}
