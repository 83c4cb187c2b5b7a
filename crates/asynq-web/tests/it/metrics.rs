//! `/metrics`, read as Prometheus reads it.

use std::{collections::BTreeMap, time::Duration};

use asynq::{
    AsynqSystem, Client, Crash, Error, ServerConfig, Task, TaskOptions, memory::MemoryStore, redis::RedisConnectionType,
};
use asynq_interop::go_metrics;
use asynq_testing::RedisServer;
use asynq_web::Web;
use axum::http::{Method, StatusCode, header};
use prometheus_parse::{Scrape, Value};

use crate::support::{Site, request, send, users};

const PATIENCE: Duration = Duration::from_secs(60);

/// Series by their name and labels, each with its value.
pub(crate) type Series = BTreeMap<String, f64>;

/// Reads the text; every line must be understood, and no series may be there twice.
#[track_caller]
pub(crate) fn parse(text: &str) -> Series {
    // The parser does not know braces in values of labels.
    let text = &text.replace("/{", "/<").replace("}/", ">/").replace("}\"", ">\"");
    let is_series = |line: &&str| !line.starts_with('#') && !line.is_empty() && !line.contains("_bucket{");
    let lines = text.lines().filter(is_series).count();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let mut series = Series::new();
    let mut read = 0;
    for sample in &scrape.samples {
        let labels: BTreeMap<_, _> = sample
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let key = format!("{}{labels:?}", sample.metric);
        let value = match &sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
            // Its sum and its count are there beside it.
            Value::Histogram(_) => continue,
            Value::Summary(_) => panic!("no summary is exported: {sample:?}"),
        };
        read += 1;
        assert!(series.insert(key.clone(), value).is_none(), "{key} is there twice");
    }
    assert_eq!(read, lines, "a line was not understood:\n{text}");
    series
}

impl Site {
    async fn scrape(&self) -> Series {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain; version=0.0.4");
        parse(&answer.text)
    }
}

fn task(queue: &str) -> Task {
    Task::new("t", b"payload").unwrap().with_queue(queue)
}

/// The type and the text of each metric, from its comments.
fn described(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let (_, rest) = line.split_once(' ').unwrap();
        let (name, words) = rest.split_once(' ').unwrap();
        all.entry(name).or_default().push(words);
    }
    all
}

#[tokio::test]
async fn go_exports_the_same_series_with_the_same_values() {
    let redis = RedisServer::start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let client = Client::new(connection()).await.unwrap();
    let hour = Duration::from_secs(3600);
    let names = ["default", "low", "a/b \"quoted\" \\ back", "größe 🦀"];
    for (nth, queue) in names.iter().enumerate() {
        for _ in 0..=nth {
            client.enqueue(task(queue).with_process_in(hour)).await.unwrap();
            client.enqueue(task(queue).with_group("g")).await.unwrap();
        }
        client.enqueue(task(queue)).await.unwrap();
    }
    // Ends of every kind, and one that runs.
    let ends = |task: Task| async move {
        match task.get_payload() {
            b"retry" => Err(Error::other("no")),
            b"archive" => Err(Error::skip_retry("no")),
            b"hang" => std::future::pending().await,
            _ => Ok(()),
        }
    };
    let system = AsynqSystem::builder(connection())
        .config(ServerConfig::new().queues([("ends", 1)]).concurrency(10))
        .handler(ends)
        .spawn()
        .await
        .unwrap();
    for payload in ["retry", "archive", "hang", "done", "done"] {
        let task = Task::new("t", payload.as_bytes()).unwrap().with_queue("ends");
        client
            .enqueue_with(task, TaskOptions::new().retention(hour))
            .await
            .unwrap();
    }
    let inspector = asynq::Inspector::connect(connection()).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let ends = inspector.get_queue_stats("ends").await.unwrap();
        if (ends.retry, ends.archived, ends.active, ends.completed) == (1, 1, 1, 2) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{ends:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    inspector.pause_queue("low").await.unwrap();

    // Each time a new server: one shares what it has read within a second.
    let ask = || async {
        let web = Web::connect_redis(connection()).await.unwrap();
        send(
            &web.without_authentication().router(),
            request(Method::GET, "/metrics")
                .body(axum::body::Body::empty())
                .unwrap(),
        )
        .await
    };
    let (before, gos, after) = (ask().await.text, go_metrics(&redis.url()).await, ask().await.text);
    let (before, go, after) = (parse(&before), parse(&gos), (parse(&after), after));
    let (after, text) = after;
    assert_eq!(go.len(), 12 * 5, "six states and six numbers of five queues");
    for (key, value) in &go {
        let ours = after.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        // Time passes between the scrapes.
        if key.starts_with("asynq_queue_latency_seconds") {
            assert!(
                (before[key]..=*ours).contains(value),
                "{key}: {} {value} {ours}",
                before[key]
            );
        } else {
            assert_eq!(ours, value, "{key}");
        }
    }
    let of_go = |key: &&String| described(&gos).contains_key(key.split('{').next().unwrap());
    assert_eq!(
        after.keys().filter(of_go).count(),
        go.len(),
        "more series of Go's names"
    );
    let ours = described(&text);
    for (name, words) in described(&gos) {
        assert_eq!(ours[name], words, "{name}");
    }
    system.shutdown().await;
}

#[tokio::test]
async fn users_see_their_queues_and_nobody_else_sees_anything() {
    let site = Site::with_users().await;
    for queue in ["mail", "mail:low", "secret"] {
        site.client.enqueue(task(queue)).await.unwrap();
    }
    assert_eq!(
        site.get("/metrics").await.problem(StatusCode::UNAUTHORIZED),
        "unauthorized"
    );
    let all = parse(&site.ask("viewer", Method::GET, "/metrics", None).await.text);
    let own = site.ask("mail", Method::GET, "/metrics", None).await;
    assert!(!own.text.contains("secret"), "{}", own.text);
    let own = parse(&own.text);
    let sizes = |series: &Series| series.keys().filter(|key| key.starts_with("asynq_queue_size")).count();
    assert_eq!((sizes(&all), sizes(&own)), (3, 2));
    for of_all in ["asynq_servers{}", "asynq_web_storage_up{}"] {
        assert!(all.contains_key(of_all) && !own.contains_key(of_all), "{of_all}");
    }
}

#[tokio::test]
async fn foreign_names_stay_inside_their_labels() {
    let site = Site::open().await;
    let names = [
        "a\"} 1\nasynq_queue_size{queue=\"b",
        "\\",
        "\\n",
        "{}",
        "\u{202e}x",
        "#",
        "ä=\"b\",c",
    ];
    for queue in names {
        site.client.enqueue(task(queue)).await.unwrap();
    }
    let text = site.get("/metrics").await.text;
    let sizes: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("asynq_queue_size{"))
        .collect();
    assert_eq!(sizes.len(), names.len(), "{sizes:#?}");
    assert!(sizes.iter().all(|line| line.ends_with("\"} 1")), "{sizes:#?}");
}

#[tokio::test]
async fn the_applications_own_metrics_come_last() {
    let own = "# TYPE shop_orders_total counter\nshop_orders_total 3";
    let site = Site::with(|web| web.exporter(move || own.to_owned())).await;
    let text = site.get("/metrics").await.text;
    assert!(text.ends_with("shop_orders_total 3\n"), "{text}");
    assert_eq!(parse(&text)["shop_orders_total{}"], 3.0);
}

#[tokio::test]
async fn requests_are_counted_by_the_template_of_their_route() {
    let site = Site::open().await;
    site.client.enqueue(task("q")).await.unwrap();
    for path in [
        "/healthz",
        "/healthz",
        "/api/v1/queues/q",
        "/api/v1/queues/none",
        "/nothing",
        "/nothing/else",
    ] {
        site.get(path).await;
    }
    let strange = request(Method::from_bytes(b"STRANGE").unwrap(), "/healthz");
    site.send(strange.body(axum::body::Body::empty()).unwrap()).await;
    let series = site.scrape().await;
    let count = |method: &str, route: &str, status: &str| {
        let labels = BTreeMap::from([("method", method), ("route", route), ("status", status)]);
        series.get(&format!("asynq_web_http_requests_total{labels:?}")).copied()
    };
    assert_eq!(count("GET", "/healthz", "200"), Some(2.0), "{series:#?}");
    assert_eq!(count("GET", "/api/v1/queues/<queue>", "200"), Some(1.0), "{series:#?}");
    assert_eq!(count("GET", "/api/v1/queues/<queue>", "404"), Some(1.0));
    assert_eq!(count("GET", "other", "404"), Some(2.0));
    assert_eq!(count("other", "/healthz", "405"), Some(1.0));
    let labels = BTreeMap::from([("method", "GET"), ("route", "/healthz")]);
    assert_eq!(
        series[&format!("asynq_web_http_request_duration_seconds_count{labels:?}")],
        2.0
    );
}

#[tokio::test]
async fn servers_their_actors_and_findings_are_there() {
    let site = Site::open().await;
    site.client.enqueue(task("nobody")).await.unwrap();
    let system = AsynqSystem::builder(site.storage.clone())
        .config(
            ServerConfig::new()
                .concurrency(3)
                .heartbeat_interval(Duration::from_millis(20)),
        )
        .handler(|_: Task| async { Ok(()) })
        .spawn()
        .await
        .unwrap();
    assert!(system.crash_actor("maintenance/forwarder", Crash::Panic));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let restarted = |series: &Series| {
        let is = |key: &&String| key.starts_with("asynq_server_actor_restarts_total") && key.contains("forwarder");
        series.keys().find(is).cloned()
    };
    let series = loop {
        let series = site.scrape().await;
        if restarted(&series).is_some() {
            break series;
        }
        assert!(tokio::time::Instant::now() < deadline, "{series:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let key = restarted(&series).unwrap();
    assert!(key.contains("\"actor\": \"system/maintenance/forwarder\""), "{key}");
    assert_eq!((series[&key], series["asynq_servers{}"]), (1.0, 1.0));
    let find = |prefix: &str| {
        series
            .iter()
            .find(|(key, _)| key.starts_with(prefix))
            .map(|(_, value)| *value)
    };
    assert_eq!(find("asynq_server_concurrency{"), Some(3.0));
    assert_eq!(find("asynq_server_active_workers{"), Some(0.0));
    assert_eq!(find("asynq_server_info{"), Some(1.0));
    assert!(series.contains_key("asynq_findings_age_seconds{}"), "{series:#?}");
    assert_eq!(series["asynq_web_storage_up{}"], 1.0);
    system.shutdown().await;
}

#[tokio::test]
async fn findings_are_counted_by_kind_and_severity() {
    let redis = RedisServer::start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let mut raw = redis.client().await;
    raw.ok(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let router = Web::connect_redis(connection())
        .await
        .unwrap()
        .without_authentication()
        .router();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let labels = BTreeMap::from([("kind", "eviction_policy"), ("severity", "critical")]);
    loop {
        let answer = send(
            &router,
            request(Method::GET, "/metrics")
                .body(axum::body::Body::empty())
                .unwrap(),
        )
        .await;
        let series = parse(&answer.text);
        if let Some(count) = series.get(&format!("asynq_findings{labels:?}")) {
            assert_eq!(*count, 1.0);
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{series:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_scrape_of_many_queues_has_a_limited_number_of_commands() {
    const QUEUES: usize = 2500;
    let redis = RedisServer::start().await;
    let mut raw = redis.client().await;
    let names: Vec<_> = (0..QUEUES).map(|n| format!("q{n:05}")).collect();
    for chunk in names.chunks(500) {
        let mut add = vec!["SADD", "asynq:queues"];
        add.extend(chunk.iter().map(String::as_str));
        raw.ok(&add).await;
    }
    let connection = RedisConnectionType::single(redis.url()).unwrap();
    let router = Web::connect_redis(connection)
        .await
        .unwrap()
        .without_authentication()
        .router();
    let mut seen = 0;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        raw.ok(&["CONFIG", "RESETSTAT"]).await;
        let answer = send(
            &router,
            request(Method::GET, "/metrics")
                .body(axum::body::Body::empty())
                .unwrap(),
        )
        .await;
        let stats = raw.ok(&["INFO", "commandstats"]).await.text();
        let series = parse(&answer.text);
        let calls = |name: &str| {
            let line = stats
                .lines()
                .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<usize>().unwrap())
        };
        // Those of the findings, which are read once, are scripts too.
        let read = calls("evalsha");
        assert!(read <= 1000 + 2 * QUEUES, "{stats}");
        seen = series.keys().filter(|key| key.starts_with("asynq_queue_size")).count();
        assert!(seen <= QUEUES && series["asynq_web_queues_unread{}"] == (QUEUES - seen) as f64);
        if seen == QUEUES {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("only {seen} queues");
}

#[tokio::test]
async fn a_damaged_queue_hides_no_other() {
    let redis = RedisServer::start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let client = Client::new(connection()).await.unwrap();
    client.enqueue(task("good")).await.unwrap();
    let mut raw = redis.client().await;
    raw.ok(&["SADD", "asynq:queues", "bad"]).await;
    raw.ok(&["SET", "asynq:{bad}:pending", "text"]).await;
    let web = Web::connect_redis(connection()).await.unwrap();
    let router = web.without_authentication().router();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let ask = request(Method::GET, "/metrics")
            .body(axum::body::Body::empty())
            .unwrap();
        let series = parse(&send(&router, ask).await.text);
        let sizes: Vec<_> = series
            .keys()
            .filter(|key| key.starts_with("asynq_queue_size"))
            .collect();
        assert_eq!(sizes, ["asynq_queue_size{\"queue\": \"good\"}"]);
        assert_eq!(
            (series["asynq_web_storage_up{}"], series["asynq_web_queues_unread{}"]),
            (0.0, 1.0)
        );
        let errors = series
            .iter()
            .filter(|(key, _)| key.starts_with("asynq_web_storage_errors_total"));
        // Each read counts it, and reads within a second are shared.
        if errors.map(|(_, count)| *count).sum::<f64>() >= 2.0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{series:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_outage_of_the_storage_is_a_metric() {
    let redis = RedisServer::start().await;
    let connection = RedisConnectionType::single(redis.url()).unwrap();
    let router = Web::connect_redis(connection)
        .await
        .unwrap()
        .without_authentication()
        .router();
    let ask = || async {
        let answer = send(
            &router,
            request(Method::GET, "/metrics")
                .body(axum::body::Body::empty())
                .unwrap(),
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK);
        parse(&answer.text)
    };
    assert_eq!(ask().await["asynq_web_storage_up{}"], 1.0);
    drop(redis);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // What was read within a second is shared.
    let series = loop {
        let series = ask().await;
        if series["asynq_web_storage_up{}"] == 0.0 {
            break series;
        }
        assert!(tokio::time::Instant::now() < deadline, "{series:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let errors: f64 = series
        .iter()
        .filter(|(key, _)| key.starts_with("asynq_web_storage_errors_total"))
        .map(|(_, value)| value)
        .sum();
    assert!(errors >= 1.0, "{series:#?}");
}

#[tokio::test]
async fn a_storage_of_its_own_has_no_users() {
    let web = Web::connect(MemoryStore::new()).await.unwrap().without_authentication();
    let open = send(
        &web.router(),
        request(Method::GET, "/metrics")
            .body(axum::body::Body::empty())
            .unwrap(),
    )
    .await;
    assert_eq!(open.status, StatusCode::OK);
    let web = Web::connect(MemoryStore::new()).await.unwrap().authenticate(users());
    let closed = send(
        &web.router(),
        request(Method::GET, "/metrics")
            .body(axum::body::Body::empty())
            .unwrap(),
    )
    .await;
    assert_eq!(closed.status, StatusCode::UNAUTHORIZED);
}
