//! Changes: each act on two databases that are alike, whose answers and whose databases are compared.

use asynq::TaskState;
use asynq_interop::GoTask;

use super::Both;
use crate::{
    acts::put,
    pair::Pair,
    same::{Database, Difference, assert_same},
    sides::{Producer, Runner, Settings, Side},
};

/// The acts on tasks of each state, by the last part of their paths.
const ACTS: [(TaskState, &[&str]); 6] = [
    (TaskState::Pending, &["delete", "archive"]),
    (TaskState::Scheduled, &["delete", "run", "archive"]),
    (TaskState::Retry, &["delete", "run", "archive"]),
    (TaskState::Archived, &["delete", "run"]),
    (TaskState::Completed, &["delete"]),
    (TaskState::Aggregating, &["delete", "run", "archive"]),
];

/// The part of the queue that an act concerns.
#[derive(Clone, Copy, Debug)]
enum Extent {
    One,
    Some,
    All,
}

/// The database without the audit trail, which is a stream.
async fn database(pair: &Pair) -> Database {
    pair.redis.client().await.ok(&["DEL", "asynq:x:audit"]).await;
    Database::of(&pair.redis).await
}

#[tokio::test]
async fn both_change_the_same() {
    let (ours, real) = (Pair::start().await, Pair::start().await);
    let both = Both::start(&real.redis, &ours.redis).await;
    let mut known = Vec::new();
    for (state, acts) in ACTS {
        for act in acts {
            for extent in [Extent::One, Extent::Some, Extent::All] {
                // A queue for each act, with three tasks, and ids that are nowhere else.
                let queue = format!("{act}-{state}-{extent:?}");
                let ids = [1, 2, 3].map(|number| format!("{queue}-{number}"));
                for pair in [&ours, &real] {
                    for id in &ids {
                        put(pair, &queue, id, state).await;
                    }
                }
                let list = match state {
                    TaskState::Aggregating => format!("/queues/{queue}/groups/g/aggregating_tasks"),
                    state => format!("/queues/{queue}/{state}_tasks"),
                };
                let some = format!(r#"{{"task_ids":["{}","nobody","{}"]}}"#, ids[2], ids[0]);
                let (method, path, body, touched) = match (extent, *act) {
                    (Extent::One, "delete") => ("DELETE", format!("{list}/{}", ids[1]), "", &ids[1..2]),
                    (Extent::One, act) => ("POST", format!("{list}/{}:{act}", ids[1]), "", &ids[1..2]),
                    (Extent::Some, act) => ("POST", format!("{list}:batch_{act}"), some.as_str(), &ids[..]),
                    (Extent::All, "delete") => ("DELETE", format!("{list}:delete_all"), "", &ids[..]),
                    (Extent::All, act) => ("POST", format!("{list}:{act}_all"), "", &ids[..]),
                };
                let (our_answer, real_answer) = both.ask(method, &path, body).await;
                assert_eq!(our_answer, real_answer, "{method} {path} {body}");
                assert!(
                    (200..300).contains(&our_answer.status),
                    "{method} {path}: {our_answer:?}"
                );
                for id in touched.iter().filter(|_| *act != "delete") {
                    let is_untouched = matches!(extent, Extent::Some) && *id == ids[1];
                    if is_untouched {
                        continue;
                    }
                    let id: &'static str = id.clone().leak();
                    if *act == "run" {
                        known.push((
                            id,
                            Difference::OursAlone("pending_since"),
                            "differences.md#pending-since",
                        ));
                    }
                    if *act == "archive" && state == TaskState::Pending {
                        known.push((id, Difference::GosAlone("pending_since"), "it is not pending any more"));
                    }
                    if state == TaskState::Aggregating {
                        known.push((id, Difference::GosAlone("group"), "differences.md#the-group-field"));
                    }
                }
            }
        }
    }
    let (our_database, mut real_database) = (database(&ours).await, database(&real).await);
    // Go leaves the locks of tasks that it deletes by the state.
    for state in ["pending", "aggregating"] {
        let locks = format!("asynq:{{delete-{state}-All}}:unique:");
        assert_eq!(real_database.forget(&locks), 3, "{locks}");
    }
    assert!(our_database.tasks() > 60);
    assert_same(&our_database, &real_database, &known);
    assert_eq!(ours.breaches().await, []);
}

#[tokio::test]
async fn both_pause_resume_and_delete_queues() {
    let (ours, real) = (Pair::start().await, Pair::start().await);
    for pair in [&ours, &real] {
        let mut client = Producer::start(Side::Go, &pair.redis).await;
        client.enqueue(&GoTask::new("t").queue("q").id("a")).await;
    }
    let both = Both::start(&real.redis, &ours.redis).await;
    for (method, path, status) in [
        ("POST", "/queues/q:pause", 204),
        ("POST", "/queues/q:pause", 500),
        ("GET", "/queues/q:pause", 500),
        ("DELETE", "/queues/q", 400),
        ("POST", "/queues/q:resume", 204),
        ("POST", "/queues/q:resume", 500),
        ("POST", "/queues/none:resume", 204),
        ("POST", "/queues/none:pause", 204),
        ("POST", "/queues/none:resume", 204),
        ("DELETE", "/queues/q/pending_tasks/a", 204),
        ("DELETE", "/queues/q", 204),
        ("DELETE", "/queues/q", 404),
    ] {
        let (our_answer, real_answer) = both.ask(method, path, "").await;
        // Ours does not look whether a queue that is not there is paused.
        if path == "/queues/none:resume" && real_answer.status == 500 {
            assert_eq!(our_answer.status, 204);
            continue;
        }
        assert_eq!(our_answer, real_answer, "{method} {path}");
        assert_eq!(our_answer.status, status, "{method} {path}: {our_answer:?}");
    }
    let (our_database, real_database) = (database(&ours).await, database(&real).await);
    assert_same(&our_database, &real_database, &[]);
}

/// Runs on servers of both sides end, whoever is asked.
#[tokio::test]
async fn both_cancel_runs() {
    for side in [Side::Go, Side::Rust] {
        let (mut ours, mut real) = (Pair::start().await, Pair::start().await);
        let both = Both::start(&real.redis, &ours.redis).await;
        let mut servers = Vec::new();
        for pair in [&ours, &real] {
            let mut client = Producer::start(Side::Go, &pair.redis).await;
            for id in ["one", "some", "all", "all too"] {
                let task = GoTask::new("t").payload(r#"{"do":"wait_cancel"}"#);
                client.enqueue(&task.queue("q").id(id)).await;
            }
            let mut server = Runner::start(side, pair, &Settings::queues(&["q"])).await;
            for id in ["one", "some", "all", "all too"] {
                server.started(id).await;
            }
            servers.push(server);
        }
        for (path, body, ids) in [
            ("one:cancel", "", &["one"][..]),
            (":batch_cancel", r#"{"task_ids":["nobody","some"]}"#, &["some"]),
            (":cancel_all", "", &["all", "all too"]),
        ] {
            let separator = if path.starts_with(':') { "" } else { "/" };
            let path = format!("/queues/q/active_tasks{separator}{path}");
            let (our_answer, real_answer) = both.ask("POST", &path, body).await;
            assert_eq!(our_answer, real_answer, "{path}");
            for pair in [&mut ours, &mut real] {
                for id in ids {
                    let task = pair.until("q", id, TaskState::Retry).await;
                    assert_eq!(task.last_err, "context canceled");
                }
            }
        }
        for server in servers {
            server.shutdown().await;
        }
    }
}
