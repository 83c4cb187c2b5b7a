//! An operator deletes a task (transitions.md#delete-a-task).

use asynq_core::broker::GroupLimits;

use super::kit::*;

async fn deletes(fx: &Fixture, name: &str) {
    let answer = fx.storage.delete_task(&queue(Q), &id(name)).await;
    answer.unwrap_or_else(|error| panic!("{name}: {error:?}"));
}

async fn refused(fx: &Fixture, name: &str, in_state: TaskState) {
    let before = fx.raw().await;
    match fx.storage.delete_task(&queue(Q), &id(name)).await {
        Err(BrokerError::WrongState {
            queue: of,
            id: task,
            state,
        }) => assert_eq!((of, task, state), (queue(Q), id(name), in_state)),
        other => panic!("{name}: {other:?}"),
    }
    before.assert_same(&fx.raw().await);
}

async fn not_found(fx: &Fixture, name: &str) {
    match fx.storage.delete_task(&queue(Q), &id(name)).await {
        Err(BrokerError::TaskNotFound { queue: of, id: task }) => assert_eq!((of, task), (queue(Q), id(name))),
        other => panic!("{name}: {other:?}"),
    }
}

/// The suffixes of all keys but the counters.
async fn left(fx: &Fixture) -> Vec<String> {
    let raw = fx.raw().await;
    let suffixes = raw.q().suffixes().into_iter();
    let is_counter = |suffix: &&str| suffix.starts_with("processed") || suffix.starts_with("failed");
    suffixes
        .filter(|suffix| !is_counter(suffix))
        .map(str::to_owned)
        .collect()
}

/// transitions.md#delete-a-task: nothing is left of it, and nothing is counted; the id can be used again.
pub(super) async fn a_task_that_is_not_active_is_deleted(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Active) {
        fx.task_in("a", state).await;
        let before = fx.raw().await;
        deletes(fx, "a").await;
        assert_eq!(left(fx).await, [""; 0], "{state}");
        for counter in ["processed", "failed"] {
            assert_eq!(fx.raw().await.string(counter), before.string(counter));
        }
        not_found(fx, "a").await;
    }
    fx.enqueue_ids(&["b", "c", "d"]).await;
    deletes(fx, "c").await;
    assert_eq!(fx.raw().await.list("pending"), ["d", "b"]);
}

/// transitions.md#delete-a-task (Go: `cannot delete task in active state`).
pub(super) async fn an_active_task_is_not_deleted(fx: &Fixture) {
    fx.task_in("a", TaskState::Active).await;
    refused(fx, "a", TaskState::Active).await;
}

/// transitions.md#delete-a-task.
pub(super) async fn a_group_without_tasks_leaves_the_index(fx: &Fixture) {
    for name in ["a", "b"] {
        fx.enqueue(request(Q, name).group("g")).await;
    }
    deletes(fx, "a").await;
    let raw = fx.raw().await;
    assert_eq!(
        (raw.q().set("groups"), raw.zset("g:g").len()),
        (vec!["g".to_owned()], 1)
    );
    deletes(fx, "b").await;
    assert_eq!(left(fx).await, [""; 0]);
}

/// transitions.md#delete-a-task: what an aggregator holds is not taken from it.
pub(super) async fn a_task_in_an_aggregation_set_is_not_deleted(fx: &Fixture) {
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

/// transitions.md#delete-a-task, layout.md#unique-locks: also the lock of a grouped task, which Go leaves; a lock
/// that another task holds by now stays, and so does a key that is no lock.
pub(super) async fn the_lock_is_freed_if_it_is_the_tasks(fx: &Fixture) {
    let unique = |name: &str| request(Q, name).unique(Duration::from_secs(600));
    for new in [unique("a"), unique("a").at(fx.after(60)), unique("a").group("g")] {
        fx.enqueue(new).await;
        deletes(fx, "a").await;
        assert_eq!(left(fx).await, [""; 0]);
    }
    fx.enqueue(unique("a")).await;
    fx.edit(|state| drop(state.insert(key("unique:t:"), string("b")))).await;
    fx.enqueue_ids(&["b"]).await;
    deletes(fx, "a").await;
    assert_eq!(fx.raw().await.string("unique:t:").as_deref(), Some("b"));
    fx.edit(|state| {
        set_field(state, "b", "unique_key", Some(bytes(key("paused"))));
        state.insert(key("paused"), string("b"));
        state.remove(&key("unique:t:"));
    })
    .await;
    deletes(fx, "b").await;
    assert_eq!(left(fx).await, ["paused"]);
}

/// transitions.md#delete-a-task: the queue, or the task.
pub(super) async fn what_is_not_there_is_not_deleted(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    let before = fx.raw().await;
    match fx.storage.delete_task(&queue("never"), &id("a")).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
    not_found(fx, "b").await;
    before.assert_same(&fx.raw().await);
}

/// differences.md#ids-without-a-hash: Go says that there is no such task, and the id stays.
pub(super) async fn an_id_without_hash_is_deleted_from_every_container(fx: &Fixture) {
    for state in TaskState::ALL {
        fx.task_in("a", state).await;
        fx.edit(|raw| drop(raw.remove(&key("t:a")))).await;
        deletes(fx, "a").await;
        assert_eq!(left(fx).await, [""; 0], "{state}");
        not_found(fx, "a").await;
    }
}

/// The contract: a hash without a message or a state, a key of another type, a task that is not where its state says,
/// and a hash in no container.
pub(super) async fn what_is_left_of_a_task_is_deleted(fx: &Fixture) {
    for state in TaskState::ALL {
        for damage in ["bare", "list", "stateless", "unknown", "elsewhere", "unlisted"] {
            if state == TaskState::Active && !matches!(damage, "bare" | "list") {
                // It may be running.
                continue;
            }
            fx.task_in("a", state).await;
            let place = match state {
                TaskState::Aggregating => "g:g",
                state => state.as_str(),
            };
            fx.edit(|raw| match damage {
                "bare" => set_field(raw, "a", "msg", None),
                "list" => drop(raw.insert(key("t:a"), list(&["x"]))),
                "stateless" => set_field(raw, "a", "state", None),
                "unknown" => set_field(raw, "a", "state", Some(bytes("lost"))),
                "elsewhere" => {
                    let other = if state == TaskState::Retry {
                        "scheduled"
                    } else {
                        "retry"
                    };
                    set_field(raw, "a", "state", Some(bytes(other)));
                }
                _ => {
                    raw.remove(&key(place));
                    raw.remove(&key("groups"));
                    set_field(raw, "a", "state", Some(bytes("completed")));
                }
            })
            .await;
            deletes(fx, "a").await;
            let kept = left(fx).await;
            // A task with a message is not searched for in groups, because it may be in a set.
            let kept = kept
                .iter()
                .filter(|suffix| !matches!(suffix.as_str(), "groups" | "g:g"));
            assert_eq!(kept.count(), 0, "{damage} in {state}: {:?}", left(fx).await);
            fx.edit(|raw| raw.retain(|name, _| !name.ends_with("groups") && !name.ends_with("g:g")))
                .await;
        }
    }
}

/// rules.md#check-then-write.
pub(super) async fn a_container_of_the_wrong_type_refuses_to_delete(fx: &Fixture) {
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
    ] {
        fx.edit(|state| drop(state.insert(key(container), string("x")))).await;
        let before = fx.raw().await;
        match fx.storage.delete_task(&queue(Q), &id(name)).await {
            Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(container)),
            other => panic!("{container}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        fx.edit(|state| state.clone_from(&healthy)).await;
    }
    for name in ["r", "s", "g", "p"] {
        deletes(fx, name).await;
    }
}
