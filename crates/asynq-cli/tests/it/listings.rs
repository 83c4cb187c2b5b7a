//! `asynq server`, `group` and `stats`.

use std::{collections::BTreeMap, time::Duration};

use asynq::{
    TaskState,
    info::{ServerInfo, ServerStatus, WorkerInfo},
};
use asynq_testing::request::{id, queue, request};

use crate::support::{EVIL_TYPE, Fixture, ODD_QUEUE, in_secs};

fn server(host: &str, pid: i32) -> ServerInfo {
    ServerInfo {
        host: host.to_owned(),
        pid,
        server_id: format!("{host}-{pid}"),
        concurrency: 10,
        queues: BTreeMap::from([("low".to_owned(), 1), ("default".to_owned(), 3), ("a".to_owned(), 3)]),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: in_secs(-3600),
        active_worker_count: 1,
    }
}

#[tokio::test]
async fn servers_are_listed_by_host_and_pid() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.asynq(["server", "ls"]).ok().await, "No running servers\n");
    assert_eq!(fixture.asynq(["server", "ls"]).json().await, serde_json::json!([]));
    let worker = WorkerInfo {
        host: "b".to_owned(),
        pid: 7,
        server_id: "b-7".to_owned(),
        task_id: id("t1"),
        queue: queue("low"),
        task_type: EVIL_TYPE.to_owned(),
        payload: "{}".into(),
        start_time: in_secs(-5),
        deadline: in_secs(1795),
    };
    let minute = Duration::from_secs(60);
    for (server, workers) in [
        (server("b", 70), vec![]),
        (server("b", 7), vec![worker]),
        (server("a", 900), vec![]),
    ] {
        fixture
            .storage
            .write_server_state(&server, &workers, minute)
            .await
            .unwrap();
    }
    let text = fixture.asynq(["server", "list"]).ok().await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "Host  PID  State   Active Workers  Queues               Started"
    );
    assert_eq!(
        lines[1],
        "----  ---  -----   --------------  ------               -------"
    );
    for (line, place) in lines[2..].iter().zip(["a     900", "b     7  ", "b     70 "]) {
        assert!(
            line.starts_with(&format!("{place}  active  1/10            a:3 default:3 low:1  1h0m")),
            "{text}"
        );
        assert!(line.ends_with(" ago"), "{text}");
    }
    let json = fixture.asynq(["server", "list"]).json().await;
    assert_eq!(
        (&json[1]["pid"], &json[1]["workers"][0]["task"]),
        (&7.into(), &"t1".into())
    );
    assert_eq!(json[0]["workers"], serde_json::json!([]));
}

#[tokio::test]
async fn groups_are_listed_by_name() {
    let fixture = Fixture::filled().await;
    let list = |queue: &str| fixture.asynq(["group", "ls", "--queue", queue]);
    assert_eq!(list("default").ok().await, "g\ng{2}:x\n");
    assert_eq!(list("low").ok().await, "No groups found in queue \"low\"\n");
    assert_eq!(
        list("default").args(["-o", "ndjson"]).ok().await,
        "{\"queue\":\"default\",\"group\":\"g\",\"size\":1,\"aggregating\":0}\n\
         {\"queue\":\"default\",\"group\":\"g{2}:x\",\"size\":1,\"aggregating\":0}\n"
    );
    let error = fixture.asynq(["group", "ls"]).fails(2).await;
    assert!(error.contains("--queue"), "{error}");
    fixture
        .put(request("evil", "1").group("\u{1b}[2J"), TaskState::Aggregating)
        .await;
    assert_eq!(list("evil").ok().await, "\\u{1b}[2J\n");
}

#[tokio::test]
async fn stats_are_gos_tables() {
    let fixture = Fixture::filled().await;
    let text = fixture.asynq(["stats"]).ok().await;
    let day = chrono::Utc::now().format("%Y-%m-%d");
    let head = format!(
        "Task Count by State\n\
         active     pending    aggregating  scheduled  retry      archived   completed\n\
         ---------  ---------  ---------    ---------  ---------  ---------  ---------\n\
         1          7          2            1          1          1          1\n\
         \n\
         Task Count by Queue\n\
         {ODD_QUEUE}      default       low (paused)\n\
         ------------  ------------  ------------\n\
         1             8             5\n\
         \n\
         Daily Stats {day} UTC\n\
         processed  failed  error rate\n\
         ---------  ------  ----------\n\
         3          2       66.67%\n\
         \n\
         Redis Info\n\
         version  uptime  connections  memory usage  peak memory usage\n\
         -------  ------  -----------  ------------  -----------------\n"
    );
    assert!(text.starts_with(&head), "{text}");
    assert!(
        text[head.len()..].contains(" 0 days ") && text.ends_with("B\n\n"),
        "{text}"
    );
}

#[tokio::test]
async fn stats_as_json_have_gos_names() {
    let fixture = Fixture::start().await;
    let text = fixture.asynq(["stats", "--json"]).ok().await;
    assert_eq!(text.lines().count(), 1);
    let empty: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        empty["queues"].is_null() && empty["redis"]["redis_version"].is_string(),
        "{text}"
    );
    fixture.fill().await;
    fixture.enqueue(request("<&>", "1")).await;
    // The flag of Go comes first.
    let text = fixture.asynq(["stats", "--json", "--output", "yaml"]).ok().await;
    assert!(
        text.starts_with(r#"{"aggregate":{"active":1,"pending":8,"aggregating":2,"scheduled":1,"#),
        "{text}"
    );
    assert!(
        text.contains(r#"{"Queue":"\u003c\u0026\u003e","MemoryUsage":"#),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
    let ours = fixture.asynq(["stats"]).json().await;
    let low = ours["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|queue| queue["queue"] == "low")
        .unwrap();
    assert_eq!((&low["paused"], &low["size"]), (&true.into(), &5.into()));
}
