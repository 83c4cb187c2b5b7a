//! An operator deletes a queue (transitions.md#delete-a-queue).

use asynq_core::{broker::GroupLimits, error::ErrorKind};

use super::kit::*;

async fn deleted(fx: &Fixture, force: bool) {
    fx.storage.delete_queue(&queue(Q), force).await.unwrap();
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), [""; 0]);
    assert!(!fx.storage.queues().await.unwrap().contains(&queue(Q)));
}

async fn refused(fx: &Fixture, force: bool, expected: &str) {
    let before = fx.raw().await;
    let error = fx.storage.delete_queue(&queue(Q), force).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::State));
    before.assert_same(&fx.raw().await);
}

async fn collect(fx: &Fixture) {
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    let set = fx.storage.collect_group(&queue(Q), &group("g"), limits).await;
    set.unwrap().unwrap();
}

/// transitions.md#delete-a-queue, differences.md#deleted-queues: its pause and its counters go too, so that a queue of
/// the same name begins anew.
pub(super) async fn a_queue_without_tasks_is_deleted(fx: &Fixture) {
    for force in [false, true] {
        for (id, outcome) in [("a", DONE), ("b", archive())] {
            fx.settled(&fx.running(request(Q, id)).await, outcome).await;
        }
        fx.storage.delete_task(&queue(Q), &id("b")).await.unwrap();
        fx.storage.pause(&queue(Q)).await.unwrap();
        fx.enqueue(request("other", "a")).await;
        deleted(fx, force).await;
        assert_eq!(fx.storage.queues().await.unwrap(), [queue("other")]);
        fx.storage.delete_task(&queue("other"), &id("a")).await.unwrap();
    }
}

/// transitions.md#delete-a-queue, differences.md#deleted-queues: a task in any state; Go does not look at completed and
/// aggregating tasks, and leaves them behind.
pub(super) async fn a_queue_with_tasks_is_deleted_by_force_only(fx: &Fixture) {
    let not_empty = format!("queue \"{Q}\" is not empty");
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Active) {
        fx.task_in("a", state).await;
        refused(fx, false, &not_empty).await;
        deleted(fx, true).await;
    }
    fx.enqueue(request(Q, "a").group("g")).await;
    collect(fx).await;
    refused(fx, false, &not_empty).await;
    deleted(fx, true).await;
    // One in quarantine.
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| set_field(state, "a", "msg", None)).await;
    assert_eq!(fx.exchange(Vec::new(), 1).await.poisoned.len(), 1);
    refused(fx, false, &not_empty).await;
    deleted(fx, true).await;
}

/// transitions.md#delete-a-queue (Go: `cannot remove queue with active tasks`).
pub(super) async fn a_queue_with_active_tasks_is_not_deleted(fx: &Fixture) {
    fx.task_in("a", TaskState::Active).await;
    fx.enqueue_ids(&["b"]).await;
    for force in [false, true] {
        refused(fx, force, &format!("queue \"{Q}\" has active tasks")).await;
    }
}

/// differences.md#freed-locks: Go leaves the locks.
pub(super) async fn tasks_are_deleted_with_their_locks(fx: &Fixture) {
    for (n, new) in [
        request(Q, "p"),
        request(Q, "s").at(fx.after(60)),
        request(Q, "g").group("g"),
        request(Q, "set").group("g"),
    ]
    .into_iter()
    .enumerate()
    {
        let unique = new.payload(format!("{n}")).unique(Duration::from_secs(600));
        fx.enqueue(unique).await;
        if n == 2 {
            collect(fx).await;
        }
    }
    deleted(fx, true).await;
}

/// rules.md#bounded-calls: with groups of many tasks and many groups.
pub(super) async fn a_large_queue_is_deleted_in_parts(fx: &Fixture) {
    let mut batch = Vec::new();
    for n in 0..700 {
        batch.push(request(Q, &format!("p{n}")).build());
        batch.push(request(Q, &format!("s{n}")).at(fx.after(60)).build());
        batch.push(request(Q, &format!("g{n}")).group("g").build());
        batch.push(request(Q, &format!("h{n}")).group(&format!("h{n}")).build());
    }
    for answer in fx.storage.enqueue(&batch_of(batch)).await {
        answer.unwrap();
    }
    refused(fx, false, &format!("queue \"{Q}\" is not empty")).await;
    deleted(fx, true).await;
}

/// transitions.md#delete-a-queue: neither does a queue that has keys and no name in the index.
pub(super) async fn an_unknown_queue_is_not_deleted(fx: &Fixture) {
    fx.leaves_damage();
    fx.storage.pause(&queue(Q)).await.unwrap();
    for force in [false, true] {
        refused(fx, force, &format!("queue \"{Q}\" does not exist")).await;
    }
}

/// differences.md#the-index-of-queues: the next task publishes it again.
pub(super) async fn a_deleted_queue_can_be_used_again(fx: &Fixture) {
    let unique = || request(Q, "a").unique(Duration::from_secs(600));
    fx.enqueue(unique()).await;
    deleted(fx, true).await;
    fx.enqueue(unique()).await;
    fx.settled(&fx.take_one().await, DONE).await;
    assert_eq!(fx.storage.queues().await.unwrap(), [queue(Q)]);
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().processed_total, 1);
}

/// rules.md#check-then-write, rules.md#damage-stays-local: by force, keys of another type and ids without a hash go.
pub(super) async fn a_damaged_queue_is_deleted_by_force_only(fx: &Fixture) {
    for suffix in [
        "pending",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "groups",
        "aggregation_sets",
        "lease",
    ] {
        fx.enqueue_ids(&["a"]).await;
        fx.edit(|state| {
            state.remove(&key("t:a"));
            state.insert(key(suffix), string("x"));
        })
        .await;
        let before = fx.raw().await;
        match fx.storage.delete_queue(&queue(Q), false).await {
            Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(suffix)),
            other => panic!("{suffix}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        deleted(fx, true).await;
    }
}
