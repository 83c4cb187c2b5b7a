//! The doctor on a Redis of Go's programs: it finds nothing where nothing is wrong, and Go sees what it repairs.

use std::time::Duration;

use asynq::{
    Inspector, TaskState,
    inspector::{Diagnosis, Remedy, Repair},
};
use asynq_interop::GoTask;

use crate::{
    pair::{Pair, eventually},
    sides::{Producer, Runner, Settings, Side},
};

async fn doctor(pair: &Pair, fix: bool) -> Vec<Diagnosis> {
    let inspector = Inspector::new(pair.storage.clone());
    let mut doctor = inspector.doctor();
    if fix {
        doctor = doctor.fix();
    }
    let mut found = Vec::new();
    while let Some(step) = doctor.next().await.unwrap() {
        found.extend(step.findings);
    }
    found
}

fn remedies(found: &[Diagnosis]) -> Vec<&Remedy> {
    let mut remedies: Vec<_> = found
        .iter()
        .map(|finding| match &finding.result {
            Repair::Done(remedy) => remedy,
            other => panic!("{other:?}: {finding}"),
        })
        .collect();
    remedies.sort();
    remedies
}

/// Go's client and server alone, with tasks in all states; while the server runs, and after it has given a task back.
#[tokio::test]
async fn nothing_is_found_where_only_go_wrote() {
    let pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let settings = Settings {
        aggregate_after: Some(Duration::from_secs(600)),
        shutdown_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let mut server = Runner::start(Side::Go, &pair, &settings).await;
    let sleep = r#"{"do":"sleep","ms":600000}"#;
    for task in [
        GoTask::new("t").id("done"),
        GoTask::new("t").id("kept").retention_ms(3_600_000),
        GoTask::new("t").id("unique").unique_ms(3_600_000),
        GoTask::new("t").id("later").process_in_ms(3_600_000),
        GoTask::new("t").id("grouped").group("g"),
        GoTask::new("t").id("fails").payload(r#"{"do":"fail","error":"boom"}"#),
        GoTask::new("t")
            .id("dies")
            .payload(r#"{"do":"fail","error":"boom"}"#)
            .max_retry(0),
        GoTask::new("t").id("long").payload(sleep),
    ] {
        client.enqueue(&task).await;
    }
    for id in ["done", "kept", "unique", "fails", "dies"] {
        server.ended(id).await;
    }
    server.started("long").await;
    assert_eq!(doctor(&pair, false).await, []);
    server.shutdown().await;
    // Go does not write since when it is pending.
    let found = doctor(&pair, true).await;
    assert_eq!(remedies(&found), [&Remedy::SetPendingSince]);
    assert!(found[0].to_string().contains("Go server that stops"), "{}", found[0]);
    assert_eq!(doctor(&pair, false).await, []);
}

/// Damage of the data of Go's tasks; Go's inspector and server see them as before when they are repaired.
#[tokio::test]
async fn go_sees_and_runs_what_is_repaired() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    for id in ["lost", "unlisted", "twice", "other"] {
        client.enqueue(&GoTask::new("t").id(id)).await;
    }
    client.enqueue(&GoTask::new("t").id("grouped").group("g")).await;
    let key = |suffix: &str| format!("asynq:{{default}}:{suffix}");
    let mut raw = pair.redis.client().await;
    for command in [
        &["DEL", &key("t:lost")][..],
        &["LREM", &key("pending"), "0", "unlisted"],
        &["ZADD", &key("archived"), "5", "twice"],
        &["HSET", &key("t:other"), "state", "retry"],
        &["DEL", &key("groups")],
    ] {
        raw.ok(command).await;
    }
    let found = doctor(&pair, true).await;
    let expected = [
        Remedy::RemoveId,
        Remedy::List(TaskState::Pending),
        Remedy::SetState(TaskState::Pending),
        Remedy::KeepOne(TaskState::Pending),
        Remedy::AddGroup,
    ];
    for remedy in &expected {
        assert!(remedies(&found).contains(&remedy), "{remedy:?}: {found:#?}");
    }
    assert_eq!(doctor(&pair, false).await, []);
    let pending = pair.list("default", TaskState::Pending).await;
    let mut ids: Vec<_> = pending.iter().map(|info| info.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["other", "twice", "unlisted"]);
    assert_eq!(pair.groups("default").await.len(), 1);
    let settings = Settings {
        aggregate_after: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    let mut server = Runner::start(Side::Go, &pair, &settings).await;
    for id in ["other", "twice", "unlisted"] {
        server.ended(id).await;
    }
    server
        .ended_like("the aggregated task", |run| run.r#type == "aggregated:g")
        .await;
    let done = async || match pair.storage.queue_info(&Default::default()).await.unwrap().size() {
        0 => Ok(()),
        left => Err(left),
    };
    eventually("all tasks have run", done).await;
    server.shutdown().await;
    assert_eq!(doctor(&pair, false).await, []);
}
