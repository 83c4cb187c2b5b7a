//! Refusals.

use asynq_interop::GoTask;

use super::{Answer, Both};
use crate::{
    pair::Pair,
    sides::{Producer, Side},
};

/// The texts of our refusals are the same, but for those that Go's JSON decoder words: there the status counts.
fn same(ours: &Answer, real: &Answer) -> bool {
    let is_decoder = real.status == 400 && !real.body.contains("queue");
    // The page of its dashboard, which it shows at all paths that it does not know.
    let is_page = real.status == 200 && real.body.starts_with("<!doctype html>");
    ours == real
        || (is_page && ours.status == 404)
        || (is_decoder && ours.status == 400 && !ours.body.trim().is_empty() && ours.body.ends_with('\n'))
}

#[tokio::test]
async fn both_refuse_the_same() {
    let pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    client.enqueue(&GoTask::new("t").queue("q").id("pending")).await;
    crate::acts::put(&pair, "q2", "active", asynq::TaskState::Active).await;
    crate::acts::put(&pair, "q3", "archived", asynq::TaskState::Archived).await;
    let both = Both::start(&pair.redis, &pair.redis).await;
    let mut cases = Vec::new();
    let states = ["active", "pending", "scheduled", "retry", "archived", "completed"];
    let lists: Vec<_> = states.iter().map(|state| format!("{state}_tasks")).collect();
    for queue in ["nobody", "n%22%0a%E2%80%A8", "q"] {
        // A queue that is there is empty, or has no such task.
        let exists = queue == "q";
        for list in &lists {
            if !exists {
                cases.push(("GET", format!("/queues/{queue}/{list}"), ""));
            }
            cases.push(("DELETE", format!("/queues/{queue}/{list}/nobody"), ""));
            for verb in ["run", "archive", "cancel"] {
                cases.push(("POST", format!("/queues/{queue}/{list}/nobody:{verb}"), ""));
            }
            for verb in ["batch_delete", "batch_run", "batch_archive", "batch_cancel"] {
                for body in BODIES {
                    cases.push(("POST", format!("/queues/{queue}/{list}:{verb}"), body));
                }
            }
            if !exists {
                for verb in ["run_all", "archive_all", "cancel_all"] {
                    cases.push(("POST", format!("/queues/{queue}/{list}:{verb}"), ""));
                }
                cases.push(("DELETE", format!("/queues/{queue}/{list}:delete_all"), ""));
            }
        }
        let group = format!("/queues/{queue}/groups/g/aggregating_tasks");
        for verb in ["run", "archive"] {
            cases.push(("POST", format!("{group}/nobody:{verb}"), ""));
            cases.push(("POST", format!("{group}:{verb}_all"), ""));
            cases.push(("POST", format!("{group}:batch_{verb}"), r#"{"task_ids":["nobody"]}"#));
        }
        cases.push(("DELETE", format!("{group}:delete_all"), ""));
        cases.push(("DELETE", format!("{group}/nobody"), ""));
        cases.push(("GET", format!("/queues/{queue}/tasks/nobody"), ""));
        if !exists {
            cases.push(("GET", group, ""));
            cases.push(("GET", format!("/queues/{queue}"), ""));
            cases.push(("GET", format!("/queues/{queue}/groups"), ""));
        }
        cases.push(("DELETE", format!("/queues/{queue}"), ""));
        if exists {
            cases.push(("POST", format!("/queues/{queue}:resume"), ""));
        }
    }
    // Tasks in states that do not allow it.
    for (method, path) in [
        ("DELETE", "/queues/q2/pending_tasks/active"),
        ("POST", "/queues/q2/scheduled_tasks/active:run"),
        ("POST", "/queues/q2/scheduled_tasks/active:archive"),
        ("POST", "/queues/q/retry_tasks/pending:run"),
        ("POST", "/queues/q3/retry_tasks/archived:archive"),
        ("DELETE", "/queues/q2"),
        ("DELETE", "/queues/q3"),
        // Other methods.
        ("POST", "/queues"),
        ("DELETE", "/queues"),
        ("PUT", "/queues/q"),
        ("PATCH", "/queues/q"),
        ("POST", "/queues/q"),
        ("POST", "/servers"),
        ("GET", "/queues/q/pending_tasks/x"),
        ("POST", "/queues/q/pending_tasks"),
        ("GET", "/queues/q/pending_tasks:delete_all"),
        ("POST", "/redis_info"),
        ("GET", "/metrics?duration=x"),
        ("GET", "/metrics?endtime=1.5"),
    ] {
        cases.push((method, path.to_owned(), ""));
    }
    let before = pair.raw().await;
    let mut faults = Vec::new();
    for (method, path, body) in &cases {
        let (ours, real) = both.ask(method, path, body).await;
        if !same(&ours, &real) {
            faults.push(format!(
                "{method} {path} {body}\n  ours {ours:.200?}\n  real {real:.200?}"
            ));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    assert_eq!(pair.raw().await, before);
}

/// Bodies of batches.
const BODIES: [&str; 9] = [
    "",
    "{",
    "[]",
    r#"{"task_ids":"nobody"}"#,
    r#"{"task_ids":[1]}"#,
    r#"{"task_ids":["nobody"],"more":1}"#,
    r#"{"task_ids":["nobody"]}"#,
    r#"{"TASK_IDS":["nobody","nobody"]} rubbish"#,
    "null",
];

#[tokio::test]
async fn both_refuse_changes_in_read_only_mode() {
    let pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    client.enqueue(&GoTask::new("t").queue("q").id("a")).await;
    let both = Both::start_with(&pair.redis, &pair.redis, &["--read-only"], |web| web.read_only()).await;
    let before = pair.raw().await;
    for (method, path) in [
        ("POST", "/queues/q:pause"),
        ("DELETE", "/queues/q"),
        ("DELETE", "/queues/q/pending_tasks/a"),
        ("DELETE", "/queues/q/pending_tasks:delete_all"),
        ("POST", "/queues/q/pending_tasks:batch_delete"),
        ("POST", "/queues/q/pending_tasks/a:archive"),
        ("POST", "/queues/q/active_tasks:cancel_all"),
    ] {
        let (ours, real) = both.ask(method, path, "").await;
        assert_eq!(ours, real, "{method} {path}");
        assert_eq!(ours.status, 405);
    }
    let (ours, real) = both.ask("GET", "/queues/q/tasks/a", "").await;
    assert_eq!((ours.status, real.status), (200, 200));
    assert_eq!(pair.raw().await, before);
}
