//! An operator archives a task (transitions.md#archive-a-task).

use asynq_core::{
    broker::{GroupLimits, MAX_ARCHIVED},
    error::PoisonKind,
};

use super::kit::*;

async fn archives(fx: &Fixture, name: &str) {
    let answer = fx.storage.archive_task(&queue(Q), &id(name)).await;
    answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
}

/// Checks that the task is refused because of its state, and that nothing changes.
async fn refused(fx: &Fixture, name: &str, in_state: TaskState) {
    let before = fx.raw().await;
    match fx.storage.archive_task(&queue(Q), &id(name)).await {
        Err(BrokerError::WrongState {
            queue: of,
            id: task,
            state,
        }) => assert_eq!((of, task, state), (queue(Q), id(name), in_state)),
        other => panic!("{name}: {other:?}"),
    }
    before.assert_same(&fx.raw().await);
}

/// transitions.md#archive-a-task: the score is now; message, counters and the fields of strangers stay.
async fn moves(fx: &Fixture, state: TaskState, from: &str) {
    fx.task_in("a", state).await;
    fx.edit(|raw| {
        for (field, value) in [("tenant", "x"), ("x:unstarted", "2"), ("x:take", "old"), ("x:at", "7")] {
            set_field(raw, "a", field, Some(bytes(value)));
        }
    })
    .await;
    let before = fx.raw().await;
    fx.advance(5);
    archives(fx, "a").await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("a".to_owned(), fx.secs())]);
    assert!(raw.q().get(from).is_none(), "{from}");
    let task = raw.task("a");
    assert_eq!(
        (task.state().as_str(), task.names()),
        ("archived", vec!["msg", "state", "tenant", "x:enq"])
    );
    assert_eq!(task.message(), before.task("a").message());
    for counter in ["processed", "failed"] {
        assert_eq!(raw.string(counter), before.string(counter));
    }
    fx.storage.run_task(&queue(Q), &id("a")).await.unwrap();
    fx.settled(&fx.take_one().await, DONE).await;
}

/// transitions.md#archive-a-task.
pub(super) async fn a_waiting_task_is_archived(fx: &Fixture) {
    for (state, from) in [
        (TaskState::Pending, "pending"),
        (TaskState::Scheduled, "scheduled"),
        (TaskState::Retry, "retry"),
    ] {
        moves(fx, state, from).await;
    }
    fx.enqueue_ids(&["b", "c", "d"]).await;
    archives(fx, "c").await;
    assert_eq!(fx.raw().await.list("pending"), ["d", "b"]);
}

/// transitions.md#archive-a-task, differences.md#the-group-field: the last task takes its group out of the index.
pub(super) async fn a_grouped_task_leaves_its_group_for_the_archive(fx: &Fixture) {
    moves(fx, TaskState::Aggregating, "g:g").await;
    for name in ["a", "b"] {
        fx.enqueue(request(Q, name).group("g")).await;
    }
    archives(fx, "a").await;
    let raw = fx.raw().await;
    assert_eq!(raw.q().set("groups"), ["g"]);
    assert_eq!(raw.task("a").field("group"), None);
    archives(fx, "b").await;
    assert!(fx.raw().await.q().set("groups").is_empty());
}

/// transitions.md#archive-a-task (Go: `cannot archive task in active state`, `task is already archived`); a
/// completed task is refused as Go's documentation says.
pub(super) async fn a_task_in_another_state_is_not_archived(fx: &Fixture) {
    for state in [TaskState::Active, TaskState::Archived, TaskState::Completed] {
        fx.task_in(state.as_str(), state).await;
        refused(fx, state.as_str(), state).await;
    }
}

/// transitions.md#archive-a-task: what an aggregator holds is not taken from it.
pub(super) async fn a_task_in_an_aggregation_set_is_not_archived(fx: &Fixture) {
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
}

/// transitions.md#archive-a-task: the queue, or the task.
pub(super) async fn what_cannot_be_archived_is_told(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    match fx.storage.archive_task(&queue("never"), &id("a")).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
    match fx.storage.archive_task(&queue(Q), &id("b")).await {
        Err(BrokerError::TaskNotFound { queue: of, id: task }) => assert_eq!((of, task), (queue(Q), id("b"))),
        other => panic!("{other:?}"),
    }
}

/// transitions.md#archive-a-task, differences.md#locks-outlive-failures.
pub(super) async fn the_lock_stays_with_the_archived_task(fx: &Fixture) {
    let unique = |name| request(Q, name).unique(Duration::from_secs(600));
    fx.enqueue(unique("a")).await;
    archives(fx, "a").await;
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("a"));
    assert!(matches!(
        fx.try_enqueue(unique("b")).await,
        Err(EnqueueError::DuplicateTask)
    ));
}

/// differences.md#archive-trimming: by age and by number, with hashes and locks; Go leaves these.
pub(super) async fn the_archive_is_trimmed(fx: &Fixture) {
    fx.enqueue(request(Q, "old").unique(Duration::from_secs(600))).await;
    archives(fx, "old").await;
    fx.enqueue_ids(&["new"]).await;
    fx.edit(|state| set_score(state, "archived", "old", fx.secs() - 90 * 24 * 3600))
        .await;
    archives(fx, "new").await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("new".to_owned(), fx.secs())]);
    assert!(!raw.has_task("old"));
    assert_eq!(raw.string("unique:t:"), None);

    let names: Vec<_> = (0..MAX_ARCHIVED - 1).map(|n| format!("id{n:05}")).collect();
    let tasks: Vec<_> = names.iter().map(|name| (name.as_str(), fx.secs() - 10)).collect();
    fx.edit(|state| {
        state.insert(key("archived"), zset(&tasks));
        for name in &names {
            state.insert(key(&format!("t:{name}")), go_task(request(Q, name), "archived"));
        }
        state.remove(&key("t:new"));
    })
    .await;
    fx.enqueue_ids(&["last"]).await;
    archives(fx, "last").await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived").len(), MAX_ARCHIVED as usize - 1);
    assert!(!raw.has_task("id00000") && raw.has_task("id00001") && raw.has_task("last"));
}

/// rules.md#check-then-write: damage is told, and nothing changes.
pub(super) async fn damage_is_not_archived(fx: &Fixture) {
    fx.leaves_damage();
    let kinds = [
        ("bare", PoisonKind::NoMessage),
        ("garbage", PoisonKind::Undecodable),
        ("groupless", PoisonKind::Misplaced),
        ("list", PoisonKind::NotAHash),
        ("lost", PoisonKind::Misplaced),
        ("stateless", PoisonKind::BadState),
    ];
    for (name, _) in kinds {
        fx.enqueue(request(Q, name)).await;
    }
    fx.edit(|state| {
        set_field(state, "bare", "msg", None);
        set_field(state, "garbage", "msg", Some(Bytes::from_static(b"\xff\xff")));
        set_field(state, "groupless", "state", Some(bytes("aggregating")));
        state.insert(key("t:list"), list(&["x"]));
        set_field(state, "lost", "state", Some(bytes("retry")));
        set_field(state, "stateless", "state", None);
    })
    .await;
    let before = fx.raw().await;
    for (name, kind) in kinds {
        match fx.storage.archive_task(&queue(Q), &id(name)).await {
            Err(BrokerError::Poison {
                id: task, kind: found, ..
            }) => assert_eq!((task, found), (id(name), kind)),
            other => panic!("{name}: {other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
}

/// rules.md#check-then-write.
pub(super) async fn a_container_of_the_wrong_type_refuses_to_archive(fx: &Fixture) {
    fx.task_in("r", TaskState::Retry).await;
    fx.enqueue(request(Q, "s").at(fx.after(60))).await;
    fx.enqueue(request(Q, "g").group("g")).await;
    fx.enqueue_ids(&["p"]).await;
    let healthy = fx.raw().await.state;
    for (container, name) in [
        ("pending", "p"),
        ("scheduled", "s"),
        ("retry", "r"),
        ("groups", "g"),
        ("g:g", "g"),
        ("archived", "p"),
        ("archived", "g"),
    ] {
        fx.edit(|state| drop(state.insert(key(container), string("x")))).await;
        let before = fx.raw().await;
        match fx.storage.archive_task(&queue(Q), &id(name)).await {
            Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(container)),
            other => panic!("{container}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        fx.edit(|state| state.clone_from(&healthy)).await;
    }
    for name in ["r", "s", "g", "p"] {
        archives(fx, name).await;
    }
}
