//! The webhook, with receivers that take messages, fail, hang and lead elsewhere.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use asynq::{
    broker::{Connector as _, Storage},
    redis::RedisConnectionType,
};
use asynq_testing::RedisServer;
use asynq_web::Webhook;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that came.
#[derive(Debug)]
struct Came {
    headers: HeaderMap,
    body: Bytes,
}

impl Came {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Checks the signature with the library of Standard Webhooks, and returns the body.
    fn verified(&self) -> Value {
        let hook = standardwebhooks::Webhook::new(SECRET).unwrap();
        hook.verify(&self.body, &self.headers).unwrap();
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answer = Arc<dyn Fn(usize) -> Option<Response> + Send + Sync>;

/// A receiver on a free port of this machine. It ends with this.
struct Receiver {
    url: String,
    came: mpsc::UnboundedReceiver<Came>,
    _running: JoinSet<()>,
}

#[derive(Clone)]
struct Means {
    came: mpsc::UnboundedSender<Came>,
    number: Arc<AtomicUsize>,
    answer: Answer,
}

async fn receive(State(means): State<Means>, headers: HeaderMap, body: Bytes) -> Response {
    let number = means.number.fetch_add(1, Ordering::Relaxed);
    means.came.send(Came { headers, body }).unwrap();
    match (means.answer)(number) {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

impl Receiver {
    /// Answers the request of this number, from 0, with a response, or never.
    async fn start(answer: impl Fn(usize) -> Option<Response> + Send + Sync + 'static) -> Self {
        let (tell, came) = mpsc::unbounded_channel();
        let means = Means {
            came: tell,
            number: Arc::default(),
            answer: Arc::new(answer),
        };
        let router = Router::new().fallback(any(receive)).with_state(means);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            came,
            _running: running,
        }
    }

    async fn next(&mut self) -> Came {
        tokio::time::timeout(PATIENCE, self.came.recv()).await.unwrap().unwrap()
    }
}

fn status(status: StatusCode) -> Option<Response> {
    Some(status.into_response())
}

/// A Redis with one finding: it may delete keys.
struct Found {
    redis: RedisServer,
    storage: Arc<dyn Storage>,
}

impl Found {
    async fn new() -> Self {
        let redis = RedisServer::start().await;
        let connection = RedisConnectionType::single(redis.url()).unwrap();
        let storage = connection.connect(connection.env()).await.unwrap();
        let found = Self { redis, storage };
        found.policy("allkeys-lru").await;
        found
    }

    async fn policy(&self, policy: &str) {
        self.redis
            .client()
            .await
            .ok(&["CONFIG", "SET", "maxmemory-policy", policy])
            .await;
    }

    /// Posts to the receiver until the value is dropped.
    fn posts_to(&self, url: &str) -> JoinSet<()> {
        let short = Duration::from_millis(20);
        let hook = Webhook::new(url, SECRET).unwrap();
        let hook = hook
            .every(Duration::from_millis(100))
            .unwrap()
            .waits(short, short)
            .unwrap();
        let hook = hook.timeout(Duration::from_secs(5)).unwrap();
        let mut running = JoinSet::new();
        running.spawn(hook.run(Arc::clone(&self.storage)));
        running
    }
}

#[tokio::test]
async fn a_finding_is_posted_once_and_again_after_it_went() {
    let mut receiver = Receiver::start(|_| status(StatusCode::NO_CONTENT)).await;
    let found = Found::new().await;
    let _running = found.posts_to(&receiver.url);
    let first = receiver.next().await;
    assert_eq!(first.header("content-type"), "application/json");
    let body = first.verified();
    assert_eq!(body["type"], "asynq.findings.new");
    let finding = &body["data"]["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["policy"]),
        (&"eviction_policy".into(), &"allkeys-lru".into())
    );
    assert_eq!(
        (&finding["severity"], &finding["queue"]),
        (&"critical".into(), &Value::Null)
    );
    assert!(finding["text"].as_str().unwrap().contains("allkeys-lru"), "{finding}");

    // It stays for some looks, and goes for some looks.
    let looks = async || {
        let before = found.infos().await;
        while found.infos().await < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looks()).await.unwrap();
    found.policy("noeviction").await;
    tokio::time::timeout(PATIENCE, looks()).await.unwrap();
    assert!(receiver.came.try_recv().is_err(), "it was posted already");
    found.policy("allkeys-random").await;
    let second = receiver.next().await;
    assert_eq!(second.verified()["data"]["findings"][0]["policy"], "allkeys-random");
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));
}

impl Found {
    /// Number of looks so far: each reads the state of Redis once or more.
    async fn infos(&self) -> usize {
        let stats = self.redis.client().await.ok(&["INFO", "commandstats"]).await.text();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_time:calls="));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

#[tokio::test]
async fn a_message_that_failed_is_sent_again_with_the_same_id() {
    let mut receiver = Receiver::start(|number| match number {
        0 => status(StatusCode::INTERNAL_SERVER_ERROR),
        1 => {
            let wait = [(header::RETRY_AFTER, "3600")];
            Some((StatusCode::TOO_MANY_REQUESTS, wait).into_response())
        }
        _ => status(StatusCode::OK),
    })
    .await;
    let found = Found::new().await;
    let _running = found.posts_to(&receiver.url);
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let came = receiver.next().await;
        came.verified();
        ids.insert(came.header("webhook-id").to_owned());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test]
async fn attempts_are_limited_and_the_finding_is_in_the_next_message() {
    let mut receiver = Receiver::start(|_| status(StatusCode::BAD_GATEWAY)).await;
    let found = Found::new().await;
    let _running = found.posts_to(&receiver.url);
    let mut ids = Vec::new();
    for _ in 0..9 {
        ids.push(receiver.next().await.header("webhook-id").to_owned());
    }
    assert!(ids[..8].iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_ne!(ids[8], ids[0]);
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up() {
    let mut receiver = Receiver::start(|number| (number > 0).then(|| StatusCode::OK.into_response())).await;
    let found = Found::new().await;
    let short = Duration::from_millis(50);
    let hook = Webhook::new(&receiver.url, SECRET).unwrap();
    let hook = hook.timeout(short).unwrap().waits(short, short).unwrap();
    let mut running = JoinSet::new();
    running.spawn(hook.run(Arc::clone(&found.storage)));
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let mut other = Receiver::start(|_| status(StatusCode::OK)).await;
    let to = other.url.clone();
    let mut receiver = Receiver::start(move |_| {
        let location = [(header::LOCATION, to.clone())];
        Some((StatusCode::TEMPORARY_REDIRECT, location).into_response())
    })
    .await;
    let found = Found::new().await;
    let _running = found.posts_to(&receiver.url);
    // One attempt a message: another would change nothing.
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(other.came.try_recv().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let mut receiver = Receiver::start(|_| {
        let parts = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 65_536])));
        Some(axum::body::Body::from_stream(parts).into_response())
    })
    .await;
    let found = Found::new().await;
    let _running = found.posts_to(&receiver.url);
    receiver.next().await;
    // It has arrived: the finding is news again only after it went.
    found.policy("noeviction").await;
    let before = found.infos().await;
    let goes_on = async {
        while found.infos().await < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
    found.policy("allkeys-lru").await;
    receiver.next().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_no_more() {
    let mut receiver = Receiver::start(|_| status(StatusCode::GONE)).await;
    let found = Found::new().await;
    let mut running = found.posts_to(&receiver.url);
    receiver.next().await;
    tokio::time::timeout(PATIENCE, running.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(receiver.came.try_recv().is_err());
}
