//! An operator makes a task pending now (transitions.md#run-a-task).

use asynq_core::{
    broker::{GroupLimits, WatchKind},
    clock::unix_nanos,
    error::{ErrorKind, PoisonKind},
};
use tokio::time::timeout;

use super::kit::*;

async fn run(fx: &Fixture, name: &str) -> Result<(), BrokerError> {
    fx.storage.run_task(&queue(Q), &id(name)).await
}

async fn runs(fx: &Fixture, name: &str) {
    run(fx, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
}

async fn refused(fx: &Fixture, name: &str, in_state: TaskState) {
    let before = fx.raw().await;
    let error = run(fx, name).await.unwrap_err();
    let text = format!("task {name} in queue \"{Q}\" is in {in_state} state");
    assert_eq!((error.to_string(), error.kind()), (text, ErrorKind::State));
    match error {
        BrokerError::WrongState {
            queue: of,
            id: task,
            state,
        } => {
            assert_eq!((of, task, state), (queue(Q), id(name), in_state));
        }
        other => panic!("{other:?}"),
    }
    before.assert_same(&fx.raw().await);
}

/// A task of the state leaves `from` for the end of `pending`, where it stands since now
/// (differences.md#pending-since); message and counters stay.
async fn moves(fx: &Fixture, state: TaskState, from: &str) {
    fx.task_in("a", state).await;
    fx.enqueue_ids(&["before"]).await;
    fx.edit(|raw| set_field(raw, "a", "tenant", Some(bytes("x")))).await;
    let before = fx.raw().await;
    assert_eq!(before.zset(from).len(), 1);
    fx.advance(5);
    runs(fx, "a").await;
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["a", "before"]);
    assert!(raw.q().get(from).is_none(), "{:?}", raw.zset(from));
    let task = raw.task("a");
    assert_eq!(task.names(), ["msg", "pending_since", "state", "tenant", "x:enq"]);
    assert_eq!(
        (task.state(), task.field("pending_since")),
        ("pending".to_owned(), Some(unix_nanos(fx.now()).to_string()))
    );
    assert_eq!(task.message(), before.task("a").message());
    for counter in ["processed", "failed"] {
        assert_eq!(raw.string(counter), before.string(counter));
    }
    assert_eq!(ids(&fx.take(2).await), ["before", "a"]);
}

/// transitions.md#run-a-task.
pub(super) async fn a_scheduled_task_runs_now(fx: &Fixture) {
    moves(fx, TaskState::Scheduled, "scheduled").await;
}

/// transitions.md#run-a-task: `retried` and the last error stay.
pub(super) async fn a_task_waiting_for_its_retry_runs_now(fx: &Fixture) {
    moves(fx, TaskState::Retry, "retry").await;
}

/// transitions.md#run-a-task.
pub(super) async fn an_archived_task_runs_again(fx: &Fixture) {
    moves(fx, TaskState::Archived, "archived").await;
}

/// transitions.md#run-a-task, differences.md#the-group-field: the last task takes its group out of the index,
/// and does not go back to it when it fails.
pub(super) async fn a_grouped_task_runs_alone(fx: &Fixture) {
    moves(fx, TaskState::Aggregating, "g:g").await;
    assert!(fx.raw().await.q().set("groups").is_empty());
    fx.advance(60);
    let expired = fx.storage.expired(&queue(Q), Duration::ZERO, 10).await.unwrap();
    let batch = expired.tasks.into_iter().map(|task| asynq_core::broker::Recovery {
        task,
        outcome: retry(fx.now()),
    });
    for answer in fx.storage.recover(batch.collect()).await {
        answer.unwrap();
    }
    assert_eq!(fx.storage.forward(&queue(Q), 10).await.unwrap().moved, 2);
    assert_eq!(fx.raw().await.task("a").state(), "pending");
}

/// transitions.md#run-a-task: a group that has other tasks stays in the index.
pub(super) async fn a_group_with_other_tasks_stays(fx: &Fixture) {
    for name in ["a", "b"] {
        fx.enqueue(request(Q, name).group("g")).await;
    }
    runs(fx, "a").await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("g:g"), [("b".to_owned(), fx.secs())]);
    assert_eq!(raw.q().set("groups"), ["g"]);
}

/// transitions.md#run-a-task (Go: `task is already in pending state`, `task is already running`); a completed
/// task is refused as Go's documentation says.
pub(super) async fn a_task_in_another_state_is_refused(fx: &Fixture) {
    for state in [TaskState::Active, TaskState::Completed, TaskState::Pending] {
        fx.task_in(state.as_str(), state).await;
        refused(fx, state.as_str(), state).await;
    }
}

/// transitions.md#run-a-task, differences.md#slow-aggregators: what an aggregator holds is not taken from it;
/// the other tasks of the group are not touched.
pub(super) async fn a_task_in_an_aggregation_set_is_refused(fx: &Fixture) {
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(1),
    };
    fx.enqueue(request(Q, "a").group("g")).await;
    fx.storage
        .collect_group(&queue(Q), &group("g"), limits)
        .await
        .unwrap()
        .unwrap();
    refused(fx, "a", TaskState::Aggregating).await;
    fx.enqueue(request(Q, "b").group("g")).await;
    refused(fx, "a", TaskState::Aggregating).await;
    fx.advance(120);
    fx.storage.reclaim_aggregation_sets(&queue(Q)).await.unwrap();
    runs(fx, "a").await;
}

/// transitions.md#pages, transitions.md#run-a-task: the queue, or the task.
pub(super) async fn what_cannot_be_run_is_told(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let before = fx.raw().await;
    match fx.storage.run_task(&queue("never"), &id("a")).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
    match run(fx, "b").await {
        Err(BrokerError::TaskNotFound { queue: of, id: task }) => assert_eq!((of, task), (queue(Q), id("b"))),
        other => panic!("{other:?}"),
    }
    before.assert_same(&fx.raw().await);
}

/// transitions.md#run-a-task: the lock stays with the task, and is freed when it succeeds.
pub(super) async fn the_lock_stays_with_the_task(fx: &Fixture) {
    let day = Duration::from_secs(24 * 3600);
    let unique = |name| request(Q, name).unique(day);
    fx.enqueue(unique("a").at(fx.after(60))).await;
    let ttl = fx.ttl("unique:t:").await;
    runs(fx, "a").await;
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("a"));
    assert!(
        ttl.zip(fx.ttl("unique:t:").await)
            .is_some_and(|(then, now)| now > then - 60)
    );
    assert!(matches!(
        fx.try_enqueue(unique("b")).await,
        Err(EnqueueError::DuplicateTask)
    ));
    fx.settled(&fx.take_one().await, DONE).await;
    fx.enqueue(unique("b")).await;
}

/// rules.md#fenced-settle: what an earlier run left in the hash claims nothing of the next one.
pub(super) async fn an_earlier_claim_is_cleared(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.advance(60);
    // A Go server recovers it and leaves our fields where they are.
    let due = fx.secs() + 60;
    let token = task.lease.token.as_str().to_owned();
    fx.edit(|state| {
        for container in ["active", "lease"] {
            state.remove(&key(container));
        }
        state.insert(key("retry"), zset(&[("a", due)]));
        for (field, value) in [("state", "retry"), ("x:take", &token), ("x:adopt", "7")] {
            set_field(state, "a", field, Some(bytes(value)));
        }
    })
    .await;
    runs(fx, "a").await;
    assert_eq!(
        fx.raw().await.task("a").names(),
        ["msg", "pending_since", "state", "x:enq"]
    );
    assert!(matches!(fx.settle(&task, DONE).await, Err(SettleError::NotOurs)));
}

/// rules.md#check-then-write: damage is told, and nothing changes: a message that cannot be read, no state, a
/// group that is not named, a task that does not stand where its state says.
pub(super) async fn damage_is_told_and_left_alone(fx: &Fixture) {
    fx.leaves_damage();
    let kinds = [
        ("bare", PoisonKind::NoMessage),
        ("garbage", PoisonKind::Undecodable),
        ("groupless", PoisonKind::Misplaced),
        ("list", PoisonKind::NotAHash),
        ("lost", PoisonKind::Misplaced),
        ("other", PoisonKind::Mismatch),
        ("stateless", PoisonKind::BadState),
    ];
    for (name, _) in kinds {
        fx.enqueue(request(Q, name).at(fx.after(60))).await;
    }
    fx.edit(|state| {
        set_field(state, "bare", "msg", None);
        set_field(state, "garbage", "msg", Some(Bytes::from_static(b"\xff\xff")));
        set_field(state, "groupless", "state", Some(bytes("aggregating")));
        state.insert(key("t:list"), list(&["x"]));
        set_field(state, "lost", "state", Some(bytes("retry")));
        set_field(state, "other", "msg", Some(request("x", "other").encoded()));
        set_field(state, "stateless", "state", None);
    })
    .await;
    let before = fx.raw().await;
    for (name, kind) in kinds {
        match run(fx, name).await {
            Err(BrokerError::Poison {
                queue: of,
                id: task,
                kind: found,
            }) => {
                assert_eq!((of, task, found), (queue(Q), id(name), kind));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
}

/// rules.md#check-then-write: a container of another type refuses the call before anything is written.
pub(super) async fn a_container_of_the_wrong_type_refuses(fx: &Fixture) {
    fx.task_in("r", TaskState::Retry).await;
    fx.enqueue(request(Q, "s").at(fx.after(60))).await;
    fx.enqueue(request(Q, "g").group("g")).await;
    let healthy = fx.raw().await.state;
    for (container, name) in [
        ("pending", "s"),
        ("scheduled", "s"),
        ("retry", "r"),
        ("groups", "g"),
        ("g:g", "g"),
        ("pending", "g"),
    ] {
        fx.edit(|state| drop(state.insert(key(container), string("x")))).await;
        let before = fx.raw().await;
        match run(fx, name).await {
            Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(container)),
            other => panic!("{container}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        fx.edit(|state| state.clone_from(&healthy)).await;
    }
    for name in ["r", "s", "g"] {
        runs(fx, name).await;
    }
}

/// rules.md#watches-only-read: a server that waits is woken, on whatever connection the task was run.
pub(super) async fn a_waiting_server_is_woken(fx: &Fixture) {
    fx.enqueue(request(Q, "a").at(fx.after(60))).await;
    let mut watch = match fx.storage.watch(&[queue(Q)], WatchKind::Pending).await {
        Err(BrokerError::Unsupported { .. }) => return,
        watch => watch.unwrap(),
    };
    fx.connect().await.run_task(&queue(Q), &id("a")).await.unwrap();
    let woken = timeout(LIMIT, watch.changed()).await;
    assert_eq!(woken.unwrap(), asynq_core::broker::Wake::Changed);
}
