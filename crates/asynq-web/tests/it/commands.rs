//! The commands that a request costs Redis: they do not grow with the tasks of a queue, and at most in proportion to the queues.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use asynq::{
    Client, Inspector, Task, TaskOptions,
    redis::{RedisBroker, RedisConnectionType},
};
use asynq_testing::{RedisServer, Resp};
use asynq_web::Web;
use axum::{Router, body::Body, http::Method};
use futures::future::join_all;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::{
    bad_input::{asynqmons, ours_of},
    support::{request, send},
};

const HOUR: Duration = Duration::from_secs(3600);

/// A server on a Redis of its own.
struct Counted {
    _redis: RedisServer,
    client: Client,
    inspector: Inspector,
    router: Router,
    admin: Resp,
}

impl Counted {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let to = || RedisConnectionType::single(redis.url()).unwrap();
        Self {
            client: Client::new(to()).await.unwrap(),
            inspector: Inspector::connect(to()).await.unwrap(),
            router: Web::of_redis(Arc::new(RedisBroker::new(to()).await.unwrap()))
                .without_authentication()
                .router(),
            admin: redis.client().await,
            _redis: redis,
        }
    }

    /// Puts so many tasks of each kind into the queue.
    async fn fill(&self, queue: &str, tasks: usize) {
        let task = || Task::new("t", b"payload").unwrap();
        for kind in ["archived", "pending", "scheduled", "grouped"] {
            let all = (0..tasks).map(|number| {
                let options = TaskOptions::new().queue(queue).task_id(format!("{kind}-{number}"));
                let options = match kind {
                    "scheduled" => options.process_in(HOUR),
                    "archived" => options.process_in(2 * HOUR),
                    "grouped" => options.group("g"),
                    _ => options,
                };
                self.client.enqueue_with(task(), options)
            });
            for enqueued in join_all(all).await {
                enqueued.unwrap();
            }
            if kind == "archived" {
                self.inspector.archive_all_scheduled_tasks(queue).await.unwrap();
            }
        }
    }

    /// Commands that Redis has run so far, those in scripts included.
    async fn commands(&mut self) -> u64 {
        let stats = self.admin.ok(&["INFO", "commandstats"]).await.text();
        let lines = stats.lines().filter(|line| {
            // Connections are looked after whether or not there are requests.
            !["cmdstat_info", "cmdstat_ping", "cmdstat_client", "cmdstat_hello"]
                .iter()
                .any(|own| line.starts_with(own))
        });
        let calls = lines.filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok());
        calls.sum()
    }

    /// The commands of one request.
    async fn cost(&mut self, path: &str) -> u64 {
        let before = self.commands().await;
        let answer = send(&self.router, request(Method::GET, path).body(Body::empty()).unwrap()).await;
        assert!(
            !answer.status.is_server_error() && answer.status != 401,
            "{path}: {answer:?}"
        );
        self.commands().await - before
    }

    /// The commands of each `GET`, by its path.
    async fn costs(&mut self) -> BTreeMap<String, u64> {
        let routes = ours_of(&self.router).await.into_iter().chain(asynqmons());
        let reads = routes.filter(|route| route.method == "GET" && !route.path.ends_with("/metrics"));
        let mut costs = BTreeMap::new();
        for route in reads {
            let path = route.path.replace("{queue}", "q").replace("{group}", "g");
            let path = path.replace("{id}", "pending-0").replace("{entry}", "x");
            if path.contains('{') {
                continue;
            }
            let path = match path.as_str() {
                "/api/v1/queues/q/tasks" => format!("{path}?state=pending"),
                "/api/v1/queues/q/place" => format!("{path}?id=pending-0"),
                _ => path,
            };
            let cost = self.cost(&path).await;
            costs.insert(path, cost);
        }
        costs
    }
}

/// Requests that look at many tasks on purpose, and the most commands of one. They end at a number of tasks, not with the queue.
const LOOKS: [(&str, u64); 2] = [("/api/v1/queues/q/errors", 12_000), ("/api/v1/findings", 2000)];

#[tokio::test]
async fn commands_do_not_grow_with_tasks() {
    let mut few = Counted::start().await;
    few.fill("q", 100).await;
    let mut many = Counted::start().await;
    many.fill("q", 10_000).await;
    let (few, many) = (few.costs().await, many.costs().await);
    assert!(many.len() > 25, "{many:?}");
    for (path, cost) in &many {
        let look = LOOKS.iter().find(|(look, _)| look == path);
        let most = look.map_or(few[path] + 5, |(_, most)| *most);
        assert!(
            *cost <= most,
            "{path}: {} commands for 100 tasks, {cost} for 10,000",
            few[path]
        );
    }
}

#[tokio::test]
async fn commands_grow_at_most_with_queues() {
    let mut one = Counted::start().await;
    one.fill("q", 2).await;
    let mut many = Counted::start().await;
    many.fill("q", 2).await;
    for number in 1..100 {
        many.fill(&format!("q{number}"), 2).await;
    }
    let (one, many) = (one.costs().await, many.costs().await);
    let of_all = ["/api/queues", "/api/queue_stats", "/api/v1/queues", "/api/v1/findings"];
    for (path, cost) in &many {
        let most = match of_all.contains(&path.as_str()) {
            true => 100 * one[path] + 10,
            // It concerns one queue, or none.
            false => one[path] + 5,
        };
        assert!(
            *cost <= most,
            "{path}: {} commands for a queue, {cost} for 100",
            one[path]
        );
    }
}

/// Time until the first byte of the body of an answer, and until its end.
async fn times(router: &Router, path: &str) -> (Duration, Duration, usize) {
    let began = Instant::now();
    let request = request(Method::GET, path).body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let (mut body, mut length, mut first) = (answer.into_body(), 0, None);
    while let Some(frame) = body.frame().await {
        first.get_or_insert_with(|| began.elapsed());
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    (first.unwrap(), began.elapsed(), length)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; takes minutes"]
async fn first_bytes_of_many_queues_and_tasks() {
    let site = Counted::start().await;
    for queues in (0..10_000).collect::<Vec<_>>().chunks(1000) {
        let enqueue = queues.iter().map(|number| {
            let task = Task::new("t", b"").unwrap();
            let queue = format!("queue-{number:05}");
            site.client.enqueue_with(task, TaskOptions::new().queue(queue))
        });
        for enqueued in join_all(enqueue).await {
            enqueued.unwrap();
        }
    }
    for path in ["/api/queues", "/api/queue_stats", "/api/v1/queues"] {
        println!("10,000 queues, {path}: {:?}", times(&site.router, path).await);
    }
    for _ in 0..100 {
        let enqueue = (0..10_000).map(|_| {
            let task = Task::new("t", b"payload").unwrap();
            site.client.enqueue_with(task, TaskOptions::new().queue("large"))
        });
        for enqueued in join_all(enqueue).await {
            enqueued.unwrap();
        }
    }
    for path in [
        "/api/queues/large",
        "/api/queues/large/pending_tasks",
        "/api/queues/large/pending_tasks?size=100&page=5000",
        "/api/queues/large/pending_tasks?size=10000&page=100",
        "/api/v1/queues/large",
        "/api/v1/queues/large/tasks?state=pending",
        "/api/v1/queues/large/errors",
        "/api/v1/findings",
    ] {
        println!("1,000,000 tasks, {path}: {:?}", times(&site.router, path).await);
    }
}
