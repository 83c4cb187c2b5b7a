//! Views of one database that programs of both sides have filled.

use std::time::Duration;

use asynq::TaskState;
use asynq_interop::{GoScheduler, GoTask};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinSet,
};

use super::{Answer, Both, without};
use crate::{
    acts::put,
    pair::{Pair, eventually},
    sides::{Producer, Runner, Settings, Side},
};

const HOUR_MS: i64 = 3_600_000;

/// Payloads that are shown in different ways.
fn payloads() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "   ",
        r#"{"user":42}"#,
        r#"<script>alert('1' && "2")</script>"#,
        "two\nlines",
        "größe \u{1f980}",
        "\u{2028}",
        "\u{a0}",
        "\u{200b}",
        "\u{7f}",
    ];
    let mut payloads: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    payloads.push(b"\x00\x01\xfe\xff".to_vec());
    payloads.extend([200, 201].map(|length| vec![b'x'; length]));
    payloads.push("ü".repeat(300).into_bytes());
    payloads
}

/// Fills two queues, one with each side's client and server, and leaves the servers running.
async fn fill(pair: &mut Pair, side: Side, queues: [&'static str; 2]) -> Runner {
    let [queue, idle] = queues;
    let mut client = Producer::start(side, &pair.redis).await;
    for (number, payload) in payloads().into_iter().enumerate() {
        let task = |kind: &str| {
            let task = GoTask::new(&format!("mail:<{kind}>")).payload(&payload).queue(idle);
            task.id(&format!("{kind}-{number:02}"))
        };
        client.enqueue(&task("pending").timeout_ms(90_000).max_retry(3)).await;
        client
            .enqueue(&task("scheduled").process_in_ms(HOUR_MS + 1000 * number as i64))
            .await;
        let group = ["a", "b & c"][number % 2];
        client.enqueue(&task("grouped").group(group).unique_ms(HOUR_MS)).await;
    }
    let mut run = async |id: &str, orders: &str| {
        let task = GoTask::new("t")
            .payload(orders)
            .queue(queue)
            .id(id)
            .retention_ms(HOUR_MS);
        client.enqueue(&task.deadline_unix(4_000_000_000)).await;
    };
    run("failed", r#"{"do":"fail","error":"<b>no</b> & \"never\""}"#).await;
    run("skipped", r#"{"do":"skip_retry"}"#).await;
    run("done", "").await;
    run("html", r#"{"do":"result","data":"<b>&</b>"}"#).await;
    run("binary", r#"{"do":"result","data_base64":"AAH+/w=="}"#).await;
    run("runs", r#"{"do":"wait_cancel"}"#).await;
    let mut server = Runner::start(side, pair, &Settings::queues(&[queue])).await;
    for id in ["failed", "skipped", "done", "html", "binary"] {
        server.ended(id).await;
    }
    server.started("runs").await;
    pair.until_queue(queue, "settled", |info| {
        info.completed == 3 && info.retry == 1 && info.archived == 1
    })
    .await;
    server
}

/// Fields whose values depend on the moment of the look.
const MOMENTS: [&str; 4] = ["timestamp", "latency_msec", "display_latency", "memory_usage_bytes"];

/// Checks that a value is about the same, and puts it out of the comparison.
fn settle(ours: &mut Value, real: &mut Value) {
    match (ours, real) {
        (Value::Object(ours), Value::Object(real)) => {
            for (name, ours) in ours.iter_mut() {
                let Some(real) = real.get_mut(name) else {
                    continue;
                };
                let apart = |ours: &Value, real: &Value| Some(ours.as_i64()?.abs_diff(real.as_i64()?));
                let is_about = match name.as_str() {
                    "latency_msec" => apart(ours, real).is_some_and(|apart| apart < 30_000),
                    "ttl_seconds" => apart(ours, real).is_some_and(|apart| apart < 30),
                    // Both estimate it from samples of their own.
                    "memory_usage_bytes" => (ours == 0) == (real == 0) && ours.is_u64() && real.is_u64(),
                    "display_latency" => ours.as_str().is_some_and(|text| text.ends_with('s')) && real.is_string(),
                    "timestamp" => [&*ours, &*real].iter().all(|time| {
                        let time = time
                            .as_str()
                            .and_then(|time| time.parse::<chrono::DateTime<chrono::Utc>>().ok());
                        time.is_some_and(|time| (chrono::Utc::now() - time).num_seconds().abs() < 60)
                    }),
                    _ => {
                        settle(ours, real);
                        continue;
                    }
                };
                if is_about {
                    *ours = real.clone();
                }
            }
        }
        (Value::Array(ours), Value::Array(real)) => {
            for (ours, real) in ours.iter_mut().zip(real) {
                settle(ours, real);
            }
        }
        _ => {}
    }
}

/// Sorts lists whose order is that of a set in Redis, or of a map in Go.
fn sort(value: &mut Value, list: &str, by: &str) {
    let Some(items) = value[list].as_array_mut() else {
        return;
    };
    items.sort_by_key(|item| item[by].to_string());
    for item in items {
        if let Some(workers) = item.get_mut("active_workers").and_then(Value::as_array_mut) {
            workers.sort_by_key(|worker| worker["task_id"].to_string());
        }
    }
}

fn same(path: &str, ours: &Answer, real: &Answer) -> Result<(), String> {
    if ours.status != real.status {
        return Err(format!(
            "{path}: {} instead of {}: {}",
            ours.status, real.status, ours.body
        ));
    }
    let (mut our_json, mut real_json) = (ours.json(), real.json());
    for (list, by) in [
        ("queues", "queue"),
        ("groups", "group"),
        ("servers", "id"),
        ("entries", "id"),
    ] {
        sort(&mut our_json, list, by);
        sort(&mut real_json, list, by);
    }
    settle(&mut our_json, &mut real_json);
    if our_json != real_json {
        return Err(format!("{path}:\nours {our_json:#}\nreal {real_json:#}"));
    }
    Ok(())
}

/// Asks both until they agree: what servers run and what they count changes meanwhile.
async fn agree(both: &Both, path: &str) -> (Answer, Answer) {
    eventually(path, async || {
        let (ours, real) = both.ask("GET", path, "").await;
        match same(path, &ours, &real) {
            Ok(()) => Ok((ours, real)),
            Err(text) => Err(text),
        }
    })
    .await
}

#[tokio::test]
async fn both_show_the_same() {
    let mut pair = Pair::start().await;
    let both = Both::start(&pair.redis, &pair.redis).await;
    // Nothing is there yet.
    for path in [
        "/queues",
        "/queue_stats",
        "/servers",
        "/scheduler_entries",
        "/scheduler_entries/x/enqueue_events",
    ] {
        let (ours, real) = both.ask("GET", path, "").await;
        assert_eq!(ours, real, "{path}");
    }
    let gos = fill(&mut pair, Side::Go, ["gos", "gos idle"]).await;
    let ours = fill(&mut pair, Side::Rust, ["ours", "our idle"]).await;
    // No server looks after this one.
    put(&pair, "orphans", "orphan", TaskState::Active).await;
    pair.let_lease_expire("orphans", "orphan").await;
    pair.go.pause("gos idle").await.unwrap();
    let mut scheduler = GoScheduler::start(&pair.redis.address(), Duration::from_millis(200)).await;
    let task = GoTask::new("report")
        .payload("<1>")
        .queue("gos idle")
        .max_retry(2)
        .timeout_ms(60_000);
    let entry = scheduler.register("@every 1h", &task.retention_ms(HOUR_MS)).await;
    let often = scheduler
        .register("@every 1s", &GoTask::new("tick").queue("ticks"))
        .await;
    scheduler.enqueued().await.unwrap();
    scheduler.enqueued().await.unwrap();

    eventually("the workers of both servers", async || {
        let (ours, _) = both.ask("GET", "/servers", "").await;
        let servers = ours.json();
        let workers = servers["servers"].as_array().unwrap().iter();
        match workers
            .map(|server| server["active_workers"].as_array().unwrap().len())
            .sum()
        {
            2 => Ok(()),
            workers => Err::<_, usize>(workers),
        }
    })
    .await;

    // The pages of lists: the path and the number of tasks that at least one must have.
    let lists = [
        ("gos/active_tasks", 1),
        ("ours/active_tasks", 1),
        ("orphans/active_tasks", 1),
        ("gos%20idle/pending_tasks", 14),
        ("our%20idle/pending_tasks", 14),
        ("gos%20idle/scheduled_tasks", 14),
        ("our%20idle/scheduled_tasks", 14),
        ("gos/retry_tasks", 1),
        ("ours/retry_tasks", 1),
        ("gos/archived_tasks", 1),
        ("ours/archived_tasks", 1),
        ("gos/completed_tasks", 3),
        ("ours/completed_tasks", 3),
        ("gos%20idle/groups/a/aggregating_tasks", 7),
        ("our%20idle/groups/b%20&%20c/aggregating_tasks", 7),
        ("our%20idle/groups/none/aggregating_tasks", 0),
    ];
    for (path, count) in lists {
        for page in [
            "",
            "?size=3",
            "?size=3&page=2",
            "?page=99",
            "?size=x&page=y",
            "?size=5&page=1&other=1",
        ] {
            let path = format!("/queues/{path}{page}");
            let (ours, real) = agree(&both, &path).await;
            if page.is_empty() {
                assert_eq!(ours.json()["tasks"].as_array().map(Vec::len), Some(count), "{path}");
            }
            // To the byte, in the order of the fields and with all escapes, but for the moment and the order of groups.
            if !path.contains("/groups/") {
                let moments: Vec<_> = MOMENTS.into_iter().chain(["ttl_seconds"]).collect();
                assert_eq!(without(&ours.body, &moments), without(&real.body, &moments), "{path}");
            }
        }
    }
    for queue in ["gos", "ours", "gos%20idle", "our%20idle"] {
        agree(&both, &format!("/queues/{queue}")).await;
        agree(&both, &format!("/queues/{queue}/groups")).await;
    }
    let ids = ["failed", "skipped", "done", "html", "binary", "runs"];
    let of_side = |queue: &'static str| ids.iter().map(move |id| format!("{queue}/tasks/{id}"));
    let idle = (0..14).flat_map(|number| {
        ["pending", "scheduled", "grouped"].map(|kind| format!("our%20idle/tasks/{kind}-{number:02}"))
    });
    for path in of_side("gos").chain(of_side("ours")).chain(idle) {
        let (ours, real) = agree(&both, &format!("/queues/{path}")).await;
        let moments = ["ttl_seconds", "next_process_at"];
        assert_eq!(without(&ours.body, &moments), without(&real.body, &moments), "{path}");
    }
    for path in ["/queues", "/queue_stats", "/servers", "/scheduler_entries"] {
        let (ours, _) = agree(&both, path).await;
        assert!(ours.body.len() > 100, "{ours:?}");
    }
    for (entry, page) in [
        (&entry, ""),
        (&often, ""),
        (&often, "?size=1"),
        (&often, "?size=1&page=2"),
    ] {
        agree(&both, &format!("/scheduler_entries/{entry}/enqueue_events{page}")).await;
    }
    redis(&both).await;
    scheduler.shutdown().await;
    drop((gos, ours));
}

/// The numbers of Redis count the connections of each program; all else is the same.
async fn redis(both: &Both) {
    let (ours, real) = both.ask("GET", "/redis_info", "").await;
    assert_eq!((ours.status, real.status), (200, 200));
    let (ours, real) = (ours.json(), real.json());
    for field in ["address", "cluster", "raw_cluster_nodes", "queue_locations"] {
        assert_eq!(ours[field], real[field], "{field}");
    }
    let names = |answer: &Value| answer["info"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&real));
    assert!(names(&ours).len() > 50);
    for name in ["redis_version", "tcp_port", "run_id", "maxmemory_policy", "role"] {
        assert_eq!(ours["info"][name], real["info"][name], "{name}");
    }
    let beginning = |answer: &Value| {
        answer["raw_info"]
            .as_str()
            .unwrap()
            .lines()
            .take(5)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(beginning(&ours), beginning(&real));
}

/// A Prometheus server that answers each query with the query, sorted by its parameters.
async fn prometheus() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            let mut lines = String::new();
            while !lines.ends_with("\r\n\r\n") {
                if stream.read_line(&mut lines).await.unwrap() == 0 {
                    break;
                }
            }
            let query = lines
                .split(' ')
                .nth(1)
                .and_then(|path| path.split('?').nth(1))
                .unwrap_or_default();
            let mut pairs: Vec<_> = query.split('&').map(|pair| pair.replace("%7E", "~")).collect();
            pairs.sort();
            let body = serde_json::json!({"status": "success", "asked": pairs}).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (url, serving)
}

#[tokio::test]
async fn both_ask_prometheus_the_same() {
    let pair = Pair::start().await;
    let (url, _serving) = prometheus().await;
    let args = ["--prometheus", &url];
    let both = Both::start_with(&pair.redis, &pair.redis, &args, |web| web.prometheus(&url).unwrap()).await;
    for query in [
        "endtime=1700000000",
        "endtime=1700000000&duration=60",
        "endtime=1700000000&duration=86400&queues=low",
        "endtime=1700000000&duration=691200&queues=low,high",
        "endtime=1700000000&duration=2592000&queues=",
        "endtime=1700000000&duration=9000000",
        "endtime=0&duration=-1",
    ] {
        let (ours, real) = both.ask("GET", &format!("/metrics?{query}"), "").await;
        assert_eq!((ours.status, real.status), (200, 200), "{query}: {ours:?}");
        assert_eq!(ours.json(), real.json(), "{query}");
        assert_eq!(ours.json().as_object().unwrap().len(), 9);
    }
    // Without one, both fail.
    let none = Both::start(&pair.redis, &pair.redis).await;
    let (ours, real) = none.ask("GET", "/metrics", "").await;
    assert_eq!((ours.status, real.status), (500, 500));
    assert!(ours.body.starts_with("failed to fetch \""), "{ours:?}");
}
