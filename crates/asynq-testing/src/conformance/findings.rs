//! The facts that findings are made of, and each finding: it comes with its cause and goes when that is mended
//! (rules.md#damage-stays-local).

use std::collections::BTreeMap;

use asynq_core::{
    Act,
    broker::{GroupLimits, RECOVER_GRACE, Recovery},
    findings::{DayRuns, Finding, FindingKind, FindingsOptions, GroupFacts, Pause, judge, read_facts},
    info::{SchedulerEnqueueEvent, SchedulerEntry, ServerInfo, ServerStatus},
    inspect::ListFilter,
    keys::own,
    names::QueueName,
    tree::{ActorState, ServerIdentity, TreeNode},
};

use super::kit::*;

const TTL: Duration = Duration::from_secs(1_000_000);
const LATE: Duration = Duration::from_secs(120);

fn server(fx: &Fixture, queues: &[&str]) -> ServerInfo {
    ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
        concurrency: 10,
        queues: queues
            .iter()
            .map(|name| ((*name).to_owned(), 1))
            .collect::<BTreeMap<_, _>>(),
        strict_priority: false,
        status: ServerStatus::Active,
        start_time: fx.now(),
        active_worker_count: 0,
    }
}

/// A server that takes from [`Q`], without a tree, as those of Go.
async fn serve(fx: &Fixture) {
    fx.storage
        .write_server_state(&server(fx, &[Q]), &[], TTL)
        .await
        .unwrap();
}

async fn found_with(fx: &Fixture, options: &FindingsOptions) -> Vec<Finding> {
    let (facts, left_out) = read_facts(&*fx.storage, options).await.unwrap();
    assert_eq!(left_out, 0);
    judge(&facts, options)
}

async fn found(fx: &Fixture) -> Vec<Finding> {
    found_with(fx, &FindingsOptions::new()).await
}

/// The names of the kinds that are found.
async fn kinds(fx: &Fixture) -> Vec<&'static str> {
    found(fx).await.iter().map(|finding| finding.kind.name()).collect()
}

/// The only finding there is.
async fn one(fx: &Fixture) -> Finding {
    let mut found = found(fx).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

async fn act_on_all(fx: &Fixture, filter: ListFilter, act: Act) {
    fx.storage.act_on_all(&queue(Q), &filter, act).await.unwrap();
}

/// The contract: all numbers of a queue, of one moment; none for a queue that does not exist.
pub(super) async fn the_facts_of_a_queue_are_told(fx: &Fixture) {
    fx.leaves_damage();
    let facts = async || fx.storage.queue_facts(&queue(Q), LATE).await.unwrap();
    let empty = facts().await;
    assert_eq!((empty.pending, empty.pause, empty.first_lease.clone()), (0, None, None));
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    let joined = fx.now();
    fx.advance(24 * 3600);
    for (id, outcome) in [("x", DONE), ("y", archive()), ("z", DONE)] {
        fx.settled(&fx.running(request(Q, id)).await, outcome).await;
    }
    fx.enqueue_ids(&["p1", "p2"]).await;
    let since = fx.now();
    fx.storage.pause(&queue(Q)).await.unwrap();
    fx.advance(5);
    fx.edit(|state| {
        state.insert(key("x:quarantine"), zset(&[("bad", 7)]));
        state.insert(key("groups"), RawValue::Set(["g", "empty"].map(bytes).into()));
    })
    .await;
    let told = facts().await;
    let sizes = [
        told.pending,
        told.active,
        told.scheduled,
        told.retry,
        told.archived,
        told.completed,
        told.leases,
        told.quarantined,
        told.groups,
    ];
    assert_eq!(sizes, [2, 1, 1, 1, 2, 1, 1, 1, 2]);
    let secs = |at: chrono::DateTime<chrono::Utc>| at.timestamp();
    assert_eq!(told.pause.map(|pause| pause.since.map(secs)), Some(Some(secs(since))));
    assert_eq!(told.pending_since, Some(since));
    let runs = |processed, failed| DayRuns { processed, failed };
    assert_eq!(told.runs, [runs(3, 1), runs(3, 2)]);
    // The lease of yesterday's active task, and the two that were due since.
    assert_eq!((told.late, told.ended_leases), (2, 1));
    let (first, ended) = told.first_lease.clone().unwrap();
    assert_eq!((first.as_str(), secs(ended)), ("active", secs(joined) + 30));
    assert_eq!(told.first_archived.map(secs), Some(secs(joined)));
    let group = GroupFacts {
        group: group("g"),
        size: 1,
        since: told.some_groups[0].since,
    };
    assert_eq!(
        (told.some_groups.as_slice(), group.since.map(secs)),
        (&[group.clone()][..], Some(secs(joined)))
    );
    assert_eq!(
        (told.unleased.as_slice(), told.stale_leases.as_slice()),
        (&[][..], &[][..])
    );
    assert_eq!(told.timestamp, fx.now());

    // A pause without a time in it, and counters that are no numbers.
    let day = asynq_core::keys::day(fx.now());
    fx.edit(|state| {
        state.insert(key("paused"), string("yes"));
        state.insert(key(&format!("failed:{day}")), string("many"));
        state.insert(key(&format!("processed:{day}")), list(&["x"]));
    })
    .await;
    let told = facts().await;
    assert_eq!((told.pause, told.runs[0]), (Some(Pause { since: None }), runs(0, 0)));
}

/// The contract: late is what was due longer ago than that.
pub(super) async fn late_is_what_was_due_long_ago(fx: &Fixture) {
    fx.enqueue(request(Q, "s").at(fx.after(60))).await;
    let late = async || fx.storage.queue_facts(&queue(Q), LATE).await.unwrap().late;
    fx.advance(60 + 120);
    assert_eq!(late().await, 0);
    fx.advance(1);
    assert_eq!(late().await, 1);
    fx.storage.queue_facts(&queue(Q), Duration::MAX).await.unwrap();
}

/// A queue without a server, until one comes.
pub(super) async fn a_queue_without_a_server_is_found(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    assert_eq!(kinds(fx).await, [""; 0]);
    fx.advance(60);
    assert_eq!(one(fx).await.kind.name(), "no_consumer");
    fx.storage
        .write_server_state(&server(fx, &["other"]), &[], TTL)
        .await
        .unwrap();
    assert_eq!(one(fx).await.kind.name(), "no_consumer");
    serve(fx).await;
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// An old pending task, until it is taken.
pub(super) async fn an_old_pending_task_is_found(fx: &Fixture) {
    serve(fx).await;
    fx.enqueue_ids(&["a"]).await;
    fx.advance(600);
    match one(fx).await.kind {
        FindingKind::OldestPending { waited, pending: 1, .. } => assert_eq!(waited, Duration::from_secs(600)),
        other => panic!("{other:?}"),
    }
    fx.take_one().await;
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// Retries after the same error, until they are deleted.
pub(super) async fn a_retry_storm_is_found(fx: &Fixture) {
    serve(fx).await;
    let ids: Vec<_> = (0..50).map(|n| format!("t{n:02}")).collect();
    fx.enqueue_ids(&ids.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let fail = |(nth, task)| {
        let error = format!("no user {nth}");
        let at = fx.after(600);
        settlement(
            task,
            Outcome::Retry {
                at,
                error,
                is_failure: false,
            },
        )
    };
    let tasks = fx.take(50).await;
    let settled = fx
        .exchange(tasks.iter().enumerate().map(fail).collect(), 0)
        .await
        .settled;
    assert!(settled.iter().all(Result::is_ok));
    match one(fx).await.kind {
        FindingKind::RetryStorm {
            error,
            looked_at: 50,
            retry: 50,
        } => {
            assert_eq!((error.signature.as_str(), error.count), ("no user <n>", 50));
        }
        other => panic!("{other:?}"),
    }
    act_on_all(fx, ListFilter::State(TaskState::Retry), Act::Delete).await;
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// More failures than yesterday, until the counters are cleared.
pub(super) async fn a_jump_of_the_failures_is_found(fx: &Fixture) {
    serve(fx).await;
    fx.settled(&fx.running(request(Q, "yesterday")).await, DONE).await;
    fx.advance(24 * 3600);
    for (id, outcome) in [("a", DONE), ("b", archive())] {
        fx.settled(&fx.running(request(Q, id)).await, outcome).await;
    }
    let options = FindingsOptions::new().failure_runs(2);
    let found = found_with(fx, &options).await;
    let jump = FindingKind::FailureJump {
        today: DayRuns {
            processed: 2,
            failed: 1,
        },
        yesterday: DayRuns {
            processed: 1,
            failed: 0,
        },
    };
    assert_eq!(found.iter().map(|found| &found.kind).collect::<Vec<_>>(), [&jump]);
    assert_eq!(kinds(fx).await, [""; 0], "two runs are too few by default");
    fx.storage.clear_counters(&queue(Q)).await.unwrap();
    assert_eq!(found_with(fx, &options).await, []);
}

/// A long pause, until it is ended by the suggested command. Any name of a queue.
pub(super) async fn a_long_pause_is_found(fx: &Fixture) {
    for name in [Q, "a b", "ä→日本語", "a:b/c", "#a", "{}", "a}b", "'; x", "a\r\nb\0c"] {
        fx.storage
            .write_server_state(&server(fx, &[name]), &[], TTL)
            .await
            .unwrap();
        let of = QueueName::new(name).unwrap();
        fx.enqueue(request(name, "a")).await;
        fx.storage.pause(&of).await.unwrap();
        fx.advance(3599);
        assert_eq!(kinds(fx).await, [""; 0], "{name:?}");
        fx.advance(1);
        let paused = one(fx).await;
        assert!(
            matches!(
                paused.kind,
                FindingKind::PausedLong {
                    since: Some(_),
                    waiting: 1
                }
            ),
            "{name:?}: {paused:?}"
        );
        assert_eq!(paused.queue, Some(of.clone()));
        assert!(paused.command.starts_with("asynq queue unpause "), "{}", paused.command);
        fx.storage.unpause(&of).await.unwrap();
        fx.storage.delete_queue(&of, true).await.unwrap();
        assert_eq!(kinds(fx).await, [""; 0], "{name:?}");
    }
}

/// A group that waits, until a server makes a set of it.
pub(super) async fn a_group_that_waits_is_found(fx: &Fixture) {
    serve(fx).await;
    fx.enqueue(request(Q, "a").group("g 1")).await;
    fx.advance(1800);
    match one(fx).await.kind {
        FindingKind::StuckGroup {
            group: of,
            size: 1,
            stuck: 1,
            looked_at: 1,
            groups: 1,
            ..
        } => {
            assert_eq!(of, group("g 1"));
        }
        other => panic!("{other:?}"),
    }
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let set = fx
        .storage
        .collect_group(&queue(Q), &group("g 1"), limits)
        .await
        .unwrap();
    assert!(set.is_some());
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// Tasks of a dead server, until they are recovered.
pub(super) async fn tasks_of_dead_servers_are_found(fx: &Fixture) {
    serve(fx).await;
    fx.running(request(Q, "a")).await;
    fx.advance(30 + 120);
    assert_eq!(kinds(fx).await, [""; 0]);
    fx.advance(1);
    match one(fx).await.kind {
        FindingKind::Orphans { leases: 1, first, .. } => assert_eq!(first, id("a")),
        other => panic!("{other:?}"),
    }
    let expired = fx.storage.expired(&queue(Q), RECOVER_GRACE, 10).await.unwrap();
    let recover = |task| Recovery {
        task,
        outcome: Outcome::Archive { error: "gone".into() },
    };
    let recovered = fx
        .storage
        .recover(expired.tasks.into_iter().map(recover).collect())
        .await;
    assert!(recovered.iter().all(Result::is_ok));
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// An active task without a lease and a lease without an active task, until the queue is healed.
pub(super) async fn leases_that_do_not_fit_are_found(fx: &Fixture) {
    serve(fx).await;
    fx.running(request(Q, "a")).await;
    fx.task_in("p", TaskState::Scheduled).await;
    let until = fx.secs() + 30;
    fx.edit(|state| drop(state.insert(key("lease"), zset(&[("gone", until), ("p", until)]))))
        .await;
    let told = found(fx).await;
    match &told[0].kind {
        FindingKind::ActiveWithoutLease {
            at_least: 1,
            examples,
            active: 1,
            leases: 2,
        } => {
            assert_eq!(examples, &[id("a")]);
        }
        other => panic!("{other:?}"),
    }
    match &told[1].kind {
        FindingKind::StaleLeases { at_least: 2, examples } => assert_eq!(examples, &["gone", "p"].map(id)),
        other => panic!("{other:?}"),
    }
    assert_eq!(told.len(), 2);
    // Ended for long, they are still no tasks of a dead server.
    fx.edit(|state| drop(state.insert(key("lease"), zset(&[("a", until), ("gone", 7), ("p", 8)]))))
        .await;
    assert_eq!(kinds(fx).await, ["stale_leases"]);
    fx.edit(|state| drop(state.insert(key("lease"), zset(&[("gone", 7), ("p", 8)]))))
        .await;
    for _ in 0..3 {
        fx.storage.heal(&queue(Q), 10_000).await.unwrap();
    }
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// Tasks in quarantine, until they are gone.
pub(super) async fn a_quarantine_is_found(fx: &Fixture) {
    serve(fx).await;
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| set_field(state, "a", "msg", Some(bytes("\u{1}no message"))))
        .await;
    let answer = fx.exchange(Vec::new(), 1).await;
    assert_eq!(answer.poisoned.len(), 1);
    assert_eq!(one(fx).await.kind, FindingKind::Quarantine { tasks: 1 });
    fx.edit(|state| {
        state.remove(&own::quarantine(&queue(Q)));
        state.remove(&own::quarantined_task(&queue(Q), &id("a")));
    })
    .await;
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// An archive that is nearly full, until its tasks are deleted.
pub(super) async fn a_full_archive_is_found(fx: &Fixture) {
    serve(fx).await;
    for id in ["a", "b"] {
        fx.task_in(id, TaskState::Archived).await;
    }
    let full = FindingsOptions::new().archive_tasks(2);
    let kind = |found: &[Finding]| found.iter().map(|found| found.kind.name()).collect::<Vec<_>>();
    assert_eq!(kind(&found_with(fx, &full).await), ["archive_near_limit"]);
    assert_eq!(kinds(fx).await, [""; 0]);
    fx.advance(83 * 24 * 3600);
    serve(fx).await;
    assert_eq!(kinds(fx).await, ["archive_near_limit"]);
    act_on_all(fx, ListFilter::State(TaskState::Archived), Act::Delete).await;
    assert_eq!(found_with(fx, &full).await, []);
}

/// Two schedulers that enqueue each for itself, until one is gone.
pub(super) async fn a_repeated_scheduler_entry_is_found(fx: &Fixture) {
    for (scheduler, entry) in [("h:1:a", "e1"), ("h:2:b", "e2")] {
        let entry = SchedulerEntry {
            id: entry.into(),
            spec: "@every 30s".into(),
            task_type: "t".into(),
            payload: bytes("p"),
            options: Vec::new(),
            next: Some(fx.after(30)),
            prev: None,
        };
        fx.storage
            .write_scheduler_entries(scheduler, &[entry], TTL)
            .await
            .unwrap();
    }
    assert_eq!(kinds(fx).await, [""; 0], "nothing shows that both enqueue");
    for (entry, task, secs) in [("e1", "a1", 0), ("e2", "b1", 5), ("e1", "a2", 30)] {
        let event = SchedulerEnqueueEvent {
            task_id: id(task),
            enqueued_at: fx.after(secs),
        };
        fx.storage.record_enqueue_event(entry, &event).await.unwrap();
    }
    match one(fx).await.kind {
        FindingKind::RepeatedEntry { count: 2, tasks, .. } => assert_eq!(tasks, ["a1", "b1"].map(id)),
        other => panic!("{other:?}"),
    }
    fx.storage.clear_scheduler_entries("h:2:b").await.unwrap();
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// Tasks without a handler, until a server has one. The patterns travel with the tree.
pub(super) async fn types_without_a_handler_are_found(fx: &Fixture) {
    serve(fx).await;
    fx.enqueue(request(Q, "a").task_type("mail:send")).await;
    let identity = ServerIdentity::from(&server(fx, &[Q]));
    let publish = async |handles: Option<&[&str]>| {
        let mut tree = TreeNode::new("system", ActorState::Running, fx.now());
        tree.handles = handles.map(|patterns| patterns.iter().map(|pattern| (*pattern).to_owned()).collect());
        fx.storage.write_tree(&identity, &tree, TTL).await.unwrap();
    };
    for handles in [None, Some(&["mail:", "x"][..])] {
        publish(handles).await;
        assert_eq!(kinds(fx).await, [""; 0], "{handles:?}");
    }
    publish(Some(&["mails"])).await;
    match one(fx).await.kind {
        FindingKind::UnhandledTypes {
            types,
            tasks: 1,
            looked_at: 1,
        } => {
            assert_eq!(
                (types[0].task_type.as_str(), &types[0].example),
                ("mail:send", &id("a"))
            );
        }
        other => panic!("{other:?}"),
    }
    publish(Some(&["mails", "mail:s"])).await;
    assert_eq!(kinds(fx).await, [""; 0]);
}

/// A queue that cannot be read is told, and the others are judged.
pub(super) async fn a_damaged_queue_is_marked(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request("other", "a")).await;
    fx.enqueue_ids(&["a"]).await;
    fx.advance(60);
    fx.edit(|state| drop(state.insert(key("retry"), string("x")))).await;
    let told = found(fx).await;
    let told: Vec<_> = told
        .iter()
        .map(|finding| (finding.kind.name(), finding.queue.as_ref().map(QueueName::as_str)))
        .collect();
    assert_eq!(told, [("no_consumer", Some("other")), ("unreadable", Some(Q))]);
    fx.edit(|state| drop(state.remove(&key("retry")))).await;
    assert_eq!(kinds(fx).await, ["no_consumer", "no_consumer"]);
}
