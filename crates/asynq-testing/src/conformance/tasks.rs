//! Looks at tasks (transitions.md#task-info, transitions.md#list-tasks).

use asynq_core::{
    error::PoisonKind,
    inspect::{ListFilter, PageRequest},
};

use super::kit::*;

async fn listed(fx: &Fixture, filter: ListFilter, page: u32, size: u32) -> Vec<String> {
    let found = fx
        .storage
        .list_tasks(&queue(Q), &filter, PageRequest::new(page, size))
        .await
        .unwrap();
    assert!(found.poisoned().next().is_none());
    found
        .tasks
        .into_iter()
        .map(|task| task.id.as_str().to_owned())
        .collect()
}

async fn of_state(fx: &Fixture, state: TaskState) -> Vec<String> {
    listed(fx, ListFilter::State(state), 1, 30).await
}

/// transitions.md#list-tasks, transitions.md#list-tasks: pending next to run first, active longest first.
pub(super) async fn lists_begin_at_the_tail(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c", "d"]).await;
    fx.take(2).await;
    fx.enqueue_ids(&["e"]).await;
    assert_eq!(of_state(fx, TaskState::Pending).await, ["c", "d", "e"]);
    assert_eq!(of_state(fx, TaskState::Active).await, ["a", "b"]);
}

/// transitions.md#list-tasks, transitions.md#list-tasks (checked): scheduled, retry, archived and completed by
/// ascending time.
pub(super) async fn sets_ascend(fx: &Fixture) {
    for (id, secs) in [("c", 30), ("a", 10), ("b", 20)] {
        fx.enqueue(request(Q, id).at(fx.after(secs))).await;
    }
    assert_eq!(of_state(fx, TaskState::Scheduled).await, ["a", "b", "c"]);
    for (id, secs) in [("r2", 20), ("r1", 10)] {
        let task = fx.running(request(Q, id)).await;
        fx.settled(&task, retry(fx.after(secs))).await;
    }
    assert_eq!(of_state(fx, TaskState::Retry).await, ["r1", "r2"]);
    for id in ["z1", "a1"] {
        fx.task_in(id, TaskState::Archived).await;
        fx.advance(1);
    }
    assert_eq!(of_state(fx, TaskState::Archived).await, ["z1", "a1"]);
    for (id, retention) in [("long", 100), ("short", 10)] {
        let task = fx.running(request(Q, id).retention(retention)).await;
        fx.settled(&task, DONE).await;
    }
    assert_eq!(of_state(fx, TaskState::Completed).await, ["short", "long"]);
}

/// transitions.md#list-tasks: the tasks of one group, oldest first; without a group there is no list.
pub(super) async fn aggregating_tasks_are_listed_by_group(fx: &Fixture) {
    for (id, name) in [("z", "g1"), ("a", "g1"), ("b", "g2")] {
        fx.enqueue(request(Q, id).group(name)).await;
        fx.advance(1);
    }
    assert_eq!(listed(fx, ListFilter::Group(group("g1")), 1, 30).await, ["z", "a"]);
    assert!(listed(fx, ListFilter::Group(group("never")), 1, 30).await.is_empty());
    let filter = ListFilter::State(TaskState::Aggregating);
    match fx.storage.list_tasks(&queue(Q), &filter, PageRequest::default()).await {
        Err(BrokerError::GroupRequired { queue: of }) => assert_eq!(of, queue(Q)),
        other => panic!("{other:?}"),
    }
}

/// transitions.md#pages: pages count from 1; beyond the end there is nothing (differences.md#page-numbers: page
/// 0 is page 1).
pub(super) async fn pages_count_from_one(fx: &Fixture) {
    let names: Vec<_> = (0..7).map(|n| format!("id{n}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    for (id, secs) in names.iter().zip(1..) {
        fx.enqueue(request(Q, &format!("s{id}")).at(fx.after(secs))).await;
    }
    let pending = |page, size| listed(fx, ListFilter::State(TaskState::Pending), page, size);
    assert_eq!(pending(1, 3).await, names[..3]);
    assert_eq!(pending(2, 3).await, names[3..6]);
    assert_eq!(pending(3, 3).await, names[6..]);
    assert!(pending(4, 3).await.is_empty());
    assert_eq!(pending(0, 3).await, names[..3]);
    assert_eq!(pending(u32::MAX, 10_000).await.len(), 0);
    let scheduled = |page, size| listed(fx, ListFilter::State(TaskState::Scheduled), page, size);
    assert_eq!(scheduled(2, 5).await, ["sid5", "sid6"]);
    assert_eq!(scheduled(1, 0).await, ["sid0"]);
}

/// transitions.md#task-info, transitions.md#list-tasks: each state with its time of the next run, in the list
/// as alone.
pub(super) async fn each_task_tells_its_state_and_next_run(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.task_in("pending", TaskState::Pending).await;
    for state in TaskState::ALL {
        let alone = fx.storage.task_info(&queue(Q), &id(state.as_str())).await.unwrap();
        let filter = match state {
            TaskState::Aggregating => ListFilter::Group(group("g")),
            state => ListFilter::State(state),
        };
        let page = fx
            .storage
            .list_tasks(&queue(Q), &filter, PageRequest::default())
            .await
            .unwrap();
        // A list has all but the runs.
        let mut listed = alone.clone();
        listed.runs = None;
        assert_eq!(page.tasks, [listed], "{state}");
        let told = fx.storage.task_state(&queue(Q), &id(state.as_str())).await;
        assert_eq!(told.unwrap(), state);
        assert_eq!(
            (alone.state, alone.id.as_str(), &alone.queue),
            (state, state.as_str(), &queue(Q))
        );
        let next = alone.next_process_at.map(|at| at.timestamp() - fx.secs());
        let expected = match state {
            TaskState::Pending => Some(0),
            TaskState::Scheduled | TaskState::Retry => Some(60),
            _ => None,
        };
        assert_eq!(next, expected, "{state}");
        let failed = matches!(state, TaskState::Retry | TaskState::Archived);
        assert_eq!(alone.last_failed_at.is_some(), failed);
        assert_eq!(alone.last_error, if failed { "boom" } else { "" });
        assert_eq!(alone.retried, u32::from(state == TaskState::Retry));
        assert_eq!(alone.completed_at.is_some(), state == TaskState::Completed);
    }
}

/// transitions.md#list-tasks: an active task whose lease is over is an orphan.
pub(super) async fn an_active_task_without_valid_lease_is_an_orphan(fx: &Fixture) {
    fx.task_in("a", TaskState::Active).await;
    let (of, filter) = (queue(Q), ListFilter::State(TaskState::Active));
    let look = async || {
        let page = fx
            .storage
            .list_tasks(&of, &filter, PageRequest::default())
            .await
            .unwrap();
        (
            page.tasks[0].is_orphaned,
            fx.storage.task_info(&of, &id("a")).await.unwrap().is_orphaned,
        )
    };
    fx.advance(29);
    assert_eq!(look().await, (false, false));
    fx.advance(1);
    assert_eq!(look().await, (true, true));
}

/// The state of one task, from its whole and alone.
async fn both(fx: &Fixture, of: &str, name: &str) -> [Result<TaskState, BrokerError>; 2] {
    let (of, name) = (queue(of), id(name));
    let whole = fx.storage.task_info(&of, &name).await;
    [whole.map(|info| info.state), fx.storage.task_state(&of, &name).await]
}

/// transitions.md#task-info: what is not there is told: the queue, or the task.
pub(super) async fn what_is_not_there_is_told(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    for answer in both(fx, "never", "a").await {
        match answer {
            Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
            other => panic!("{other:?}"),
        }
    }
    for answer in both(fx, Q, "b").await {
        match answer {
            Err(BrokerError::TaskNotFound { queue: of, id: task }) => assert_eq!((of, task), (queue(Q), id("b"))),
            other => panic!("{other:?}"),
        }
    }
    for filter in [ListFilter::State(TaskState::Pending), ListFilter::Group(group("g"))] {
        let answer = fx
            .storage
            .list_tasks(&queue("never"), &filter, PageRequest::default())
            .await;
        assert!(matches!(answer, Err(BrokerError::QueueNotFound { .. })), "{answer:?}");
    }
}

/// The pages of a state add up to what is counted, whatever became of the tasks.
pub(super) async fn pages_are_full_though_tasks_are_gone(fx: &Fixture) {
    fx.leaves_damage();
    for n in 0..25 {
        fx.task_in(&format!("id{n:02}"), TaskState::Archived).await;
    }
    fx.edit(|state| {
        for n in (0..25).filter(|n| *n != 12) {
            state.remove(&key(&format!("t:id{n:02}")));
        }
    })
    .await;
    let filter = ListFilter::State(TaskState::Archived);
    let mut sizes = Vec::new();
    for number in 1..=3 {
        let page = PageRequest::new(number, 10);
        let page = fx.storage.list_tasks(&queue(Q), &filter, page).await.unwrap();
        sizes.push((page.tasks.len(), page.readable().count()));
    }
    assert_eq!(sizes, [(10, 0), (10, 1), (5, 0)]);
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().archived, 25);
    // Nothing can be done with one.
    for answer in [
        fx.storage.run_task(&queue(Q), &id("id00")).await,
        fx.storage.task_info(&queue(Q), &id("id00")).await.map(drop),
    ] {
        assert!(matches!(answer, Err(BrokerError::TaskNotFound { .. })), "{answer:?}");
    }
    // Until they are looked at.
    while !fx.storage.heal(&queue(Q), 10).await.unwrap().is_empty() {}
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().archived, 1);
    let page = fx
        .storage
        .list_tasks(&queue(Q), &filter, PageRequest::default())
        .await
        .unwrap();
    assert_eq!((page.tasks.len(), page.readable().count()), (1, 1));
}

/// rules.md#damage-stays-local: all hashes of a full queue are deleted; every look has its answer, and each id can be
/// deleted.
pub(super) async fn a_queue_whose_tasks_are_all_gone_still_lists(fx: &Fixture) {
    let states = TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending);
    for state in states.chain([TaskState::Pending]) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.edit(|state| state.retain(|name, _| !name.contains("}:t:"))).await;
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    let sizes = [
        info.pending,
        info.active,
        info.scheduled,
        info.retry,
        info.archived,
        info.completed,
    ];
    assert_eq!((sizes, info.aggregating, info.groups), ([1; 6], 1, 1));
    assert_eq!(fx.storage.group_infos(&queue(Q)).await.unwrap().len(), 1);
    assert_eq!(fx.storage.history(&queue(Q), 1).await.unwrap()[0].failed, 2);
    for state in TaskState::ALL {
        let filter = match state {
            TaskState::Aggregating => ListFilter::Group(group("g")),
            state => ListFilter::State(state),
        };
        let page = fx.storage.list_tasks(&queue(Q), &filter, PageRequest::default()).await;
        let page = page.unwrap();
        let told: Vec<_> = page.poisoned().collect();
        assert_eq!(told, [(&id(state.as_str()), PoisonKind::NoHash)]);
        assert_eq!(page.tasks.len(), 1);
        for answer in both(fx, Q, state.as_str()).await {
            assert!(matches!(answer, Err(BrokerError::TaskNotFound { .. })), "{answer:?}");
        }
        fx.storage.delete_task(&queue(Q), &id(state.as_str())).await.unwrap();
    }
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().size(), 0);
}

/// rules.md#damage-stays-local: one unreadable task never hides a page; it is told by its id.
pub(super) async fn an_unreadable_task_is_told_and_hides_nothing(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["garbage", "gone", "good", "bare", "list", "other"])
        .await;
    fx.edit(|state| {
        set_field(state, "garbage", "msg", Some(Bytes::from_static(b"\xff\xff")));
        set_field(state, "bare", "msg", None);
        set_field(state, "other", "msg", Some(request("x", "other").encoded()));
        state.remove(&key("t:gone"));
        state.insert(key("t:list"), list(&["x"]));
    })
    .await;
    let before = fx.raw().await;
    let filter = ListFilter::State(TaskState::Pending);
    let page = fx
        .storage
        .list_tasks(&queue(Q), &filter, PageRequest::default())
        .await
        .unwrap();
    // An item for each, in order.
    let ids: Vec<_> = page.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["garbage", "gone", "good", "bare", "list", "other"]);
    let readable: Vec<_> = page.readable().map(|task| task.id.as_str()).collect();
    assert_eq!(readable, ["good"]);
    for task in page.tasks.iter().filter(|task| task.damage.is_some()) {
        assert_eq!((task.state, &task.queue), (TaskState::Pending, &queue(Q)));
        assert_eq!((task.task_type.as_str(), task.payload.len()), ("", 0));
    }
    let mut told: Vec<_> = page.poisoned().map(|(id, kind)| (id.as_str(), kind)).collect();
    told.sort_unstable_by_key(|(id, _)| *id);
    let expected = [
        ("bare", PoisonKind::NoMessage),
        ("garbage", PoisonKind::Undecodable),
        ("gone", PoisonKind::NoHash),
        ("list", PoisonKind::NotAHash),
        ("other", PoisonKind::Mismatch),
    ];
    assert_eq!(told, expected);
    for (name, kind) in expected.into_iter().filter(|(name, _)| *name != "gone") {
        let [whole, state] = both(fx, Q, name).await;
        match whole {
            Err(BrokerError::Poison {
                id: of, kind: found, ..
            }) => assert_eq!((of.as_str(), found), (name, kind)),
            other => panic!("{name}: {other:?}"),
        }
        // Whether the message can be read is not looked at for the state.
        match (kind, state) {
            (PoisonKind::Undecodable | PoisonKind::Mismatch, state) => assert_eq!(state.unwrap(), TaskState::Pending),
            (_, Err(BrokerError::Poison { kind: found, .. })) => assert_eq!(found, kind),
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
    before.assert_same(&fx.raw().await);
}

/// Pitfalls 6.6: a hash without a state, or with one that nobody writes, is told.
pub(super) async fn an_unknown_state_is_told(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue_ids(&["a", "b"]).await;
    fx.edit(|state| {
        set_field(state, "a", "state", None);
        set_field(state, "b", "state", Some(bytes("Pending")));
    })
    .await;
    for name in ["a", "b"] {
        for answer in both(fx, Q, name).await {
            assert!(
                matches!(
                    answer,
                    Err(BrokerError::Poison {
                        kind: PoisonKind::BadState,
                        ..
                    })
                ),
                "{answer:?}"
            );
        }
    }
}

/// Pitfalls 1.5, 1.6, 2.8: whatever a foreign program wrote is shown without harm: negative
/// durations as zero, no timeout as none, an empty result as none.
pub(super) async fn odd_values_of_foreign_programs_are_shown(fx: &Fixture) {
    fx.edit(|state| {
        let odd = request(Q, "a").timeout(-5).deadline(-1).max_retry(-3).retention(-9);
        state.insert(key("t:a"), go_task(odd, "pending"));
        state.insert(key("pending"), list(&["a", "b"]));
        let plain = request(Q, "b").timeout(0);
        state.insert(key("t:b"), go_task(plain, "pending"));
        state.insert("asynq:queues".into(), RawValue::Set([bytes(Q)].into()));
        set_field(state, "b", "result", Some(Bytes::new()));
        for id in ["a", "b"] {
            set_field(state, id, "pending_since", Some(bytes("1")));
        }
    })
    .await;
    let info = fx.storage.task_info(&queue(Q), &id("a")).await.unwrap();
    assert_eq!(
        (info.timeout, info.max_retry, info.retention),
        (Some(Duration::ZERO), 0, Duration::ZERO)
    );
    let info = fx.storage.task_info(&queue(Q), &id("b")).await.unwrap();
    assert_eq!((info.timeout, info.result), (None, None));
    assert_eq!(ids(&fx.take(2).await), ["b", "a"]);
}

/// layout.md#task-hash: fields of strangers in the hash are left alone.
pub(super) async fn fields_of_strangers_are_left_alone(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| set_field(state, "a", "tenant", Some(bytes("x")))).await;
    let task = fx.take_one().await;
    fx.settled(&task, retry(fx.now())).await;
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    assert_eq!(fx.raw().await.task("a").field("tenant").as_deref(), Some("x"));
    fx.storage.task_info(&queue(Q), &id("a")).await.unwrap();
}
