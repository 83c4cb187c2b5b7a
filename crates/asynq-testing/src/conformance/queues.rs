//! Looks at queues (transitions.md#queues, transitions.md#queue-info, transitions.md#groups-of-a-queue) and the
//! pause (transitions.md#pause).

use super::kit::*;

/// transitions.md#queues: all names, sorted.
pub(super) async fn queues_are_listed_sorted(fx: &Fixture) {
    assert!(fx.storage.queues().await.unwrap().is_empty());
    for name in ["b", "a", "ü", "B"] {
        fx.enqueue(request(name, "a")).await;
    }
    let queues = fx.storage.queues().await.unwrap();
    assert_eq!(queues, ["B", "a", "b", "ü"].map(queue));
}

/// transitions.md#queue-info: the number of tasks in each state and of groups; tasks in aggregation sets are
/// not counted.
pub(super) async fn a_queue_counts_its_tasks(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue_ids(&["p1", "p2", "p3"]).await;
    fx.enqueue(request(Q, "s2").at(fx.after(5))).await;
    fx.enqueue(request(Q, "g2").group("g2")).await;
    fx.enqueue(request(Q, "g2b").group("g2")).await;
    fx.enqueue(request(Q, "set").group("g3")).await;
    let limits = asynq_core::broker::GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    fx.storage
        .collect_group(&queue(Q), &group("g3"), limits)
        .await
        .unwrap()
        .unwrap();
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    let sizes = [
        info.pending,
        info.active,
        info.scheduled,
        info.retry,
        info.archived,
        info.completed,
    ];
    assert_eq!((info.queue.as_str(), sizes), (Q, [3, 1, 2, 1, 1, 1]));
    // With the one that is in a set.
    assert_eq!((info.aggregating, info.groups, info.size()), (4, 2, 13));
    assert_eq!((info.paused, info.timestamp), (false, fx.now()));
}

/// transitions.md#queue-info: today's counts and those of all time.
pub(super) async fn a_queue_tells_its_counters(fx: &Fixture) {
    for (id, outcome) in [("a", DONE), ("b", archive()), ("c", DONE)] {
        let task = fx.running(request(Q, id)).await;
        fx.settled(&task, outcome).await;
    }
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert_eq!(
        (info.processed, info.failed, info.processed_total, info.failed_total),
        (3, 1, 3, 1)
    );
    fx.advance(24 * 3600);
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert_eq!(
        (info.processed, info.failed, info.processed_total, info.failed_total),
        (0, 0, 3, 1)
    );
}

/// transitions.md#queue-info, differences.md#pending-since: the latency is the wait of the task that runs next,
/// also after it was given back.
pub(super) async fn the_latency_is_the_wait_of_the_next_task(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.advance(5);
    fx.enqueue_ids(&["b"]).await;
    fx.advance(2);
    let latency = async || fx.storage.queue_info(&queue(Q)).await.unwrap().latency;
    assert_eq!(latency().await, Duration::from_secs(7));
    let task = fx.take_one().await;
    assert_eq!(latency().await, Duration::from_secs(2));
    fx.settled(&task, Outcome::Requeue).await;
    fx.advance(1);
    assert_eq!(latency().await, Duration::from_secs(1));
    fx.take(2).await;
    assert_eq!(latency().await, Duration::ZERO);
}

/// layout.md#task-hash: a pending task of Go's without `pending_since` has no latency.
pub(super) async fn a_missing_pending_since_is_no_latency(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| set_field(state, "a", "pending_since", None)).await;
    fx.advance(100);
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().latency, Duration::ZERO);
    fx.take(1).await;
}

/// transitions.md#queue-info: a queue that is not in the index does not exist; one that is exists without a task.
pub(super) async fn an_unknown_queue_does_not_exist(fx: &Fixture) {
    match fx.storage.queue_info(&queue("never")).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
    fx.settled(&fx.running(request(Q, "a")).await, DONE).await;
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().size(), 0);
}

/// transitions.md#memory-usage, differences.md#memory-estimates: about how much memory; ids without hash and
/// empty groups harm nothing.
pub(super) async fn memory_usage_survives_damage(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "big").payload(vec![7; 100_000])).await;
    let usage = fx.storage.queue_info(&queue(Q)).await.unwrap().memory_usage;
    assert!(
        usage.is_none_or(|bytes| (100_000..1_000_000).contains(&bytes)),
        "{usage:?}"
    );
    fx.edit(|state| {
        state.remove(&key("t:big"));
        state.insert(key("groups"), RawValue::Set([bytes("empty")].into()));
    })
    .await;
    let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
    assert!(
        info.memory_usage.is_none_or(|bytes| bytes < 100_000),
        "{:?}",
        info.memory_usage
    );
}

/// transitions.md#groups-of-a-queue: groups that have tasks and their sizes; none for an unknown queue.
pub(super) async fn groups_are_told_with_their_sizes(fx: &Fixture) {
    for (id, name) in [("a", "g1"), ("b", "g1"), ("c", "g2")] {
        fx.enqueue(request(Q, id).group(name)).await;
    }
    let mut groups = fx.storage.group_infos(&queue(Q)).await.unwrap();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    let told: Vec<_> = groups.iter().map(|info| (info.group.as_str(), info.size)).collect();
    assert_eq!(told, [("g1", 2), ("g2", 1)]);
    assert!(fx.storage.group_infos(&queue("never")).await.unwrap().is_empty());
}

/// transitions.md#groups-of-a-queue and the contract: a group that is in the index without tasks is left out.
pub(super) async fn an_empty_group_is_left_out(fx: &Fixture) {
    fx.leaves_damage();
    fx.enqueue(request(Q, "a").group("g1")).await;
    fx.edit(|state| drop(state.insert(key("groups"), RawValue::Set(["g1", "empty"].map(bytes).into()))))
        .await;
    let groups = fx.storage.group_infos(&queue(Q)).await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(fx.storage.queue_info(&queue(Q)).await.unwrap().groups, 1);
}

/// transitions.md#pause: the second of the pause, without an end; the queue need not exist and is not made by it.
pub(super) async fn a_pause_is_a_key_with_its_second(fx: &Fixture) {
    fx.leaves_damage();
    fx.storage.pause(&queue(Q)).await.unwrap();
    let raw = fx.raw().await;
    assert_eq!(raw.state.keys().collect::<Vec<_>>(), [&key("paused")]);
    assert_eq!(raw.string("paused"), Some(fx.secs().to_string()));
    assert_eq!(fx.ttl("paused").await, None);
    fx.storage.unpause(&queue(Q)).await.unwrap();
    assert!(fx.raw().await.state.is_empty());
}

/// transitions.md#pause: pausing twice and unpausing twice are told, and change nothing.
pub(super) async fn a_second_pause_is_told(fx: &Fixture) {
    fx.enqueue_ids(&["a"]).await;
    match fx.storage.unpause(&queue(Q)).await {
        Err(BrokerError::NotPaused { queue: of }) => assert_eq!(of, queue(Q)),
        other => panic!("{other:?}"),
    }
    fx.storage.pause(&queue(Q)).await.unwrap();
    fx.advance(5);
    let before = fx.raw().await;
    match fx.storage.pause(&queue(Q)).await {
        Err(BrokerError::AlreadyPaused { queue: of }) => assert_eq!(of, queue(Q)),
        other => panic!("{other:?}"),
    }
    before.assert_same(&fx.raw().await);
    assert!(fx.storage.queue_info(&queue(Q)).await.unwrap().paused);
    fx.storage.unpause(&queue(Q)).await.unwrap();
    assert!(!fx.storage.queue_info(&queue(Q)).await.unwrap().paused);
}

/// transitions.md#pause: a pause is of one queue.
pub(super) async fn a_pause_is_of_one_queue(fx: &Fixture) {
    fx.storage.pause(&queue("other")).await.unwrap();
    fx.enqueue(request("other", "b")).await;
    fx.enqueue_ids(&["a"]).await;
    assert_eq!(ids(&fx.take(1).await), ["a"]);
}

/// transitions.md#queue-info, rules.md#damage-stays-local: a counter that is not a number reads as none and
/// hides no other; the audit tells of it.
pub(super) async fn a_counter_that_is_no_number_reads_as_none(fx: &Fixture) {
    fx.leaves_damage();
    for (id, outcome) in [("a", DONE), ("b", archive())] {
        let task = fx.running(request(Q, id)).await;
        fx.settled(&task, outcome).await;
    }
    let whole = fx.raw().await;
    let day = asynq_core::keys::day(fx.now());
    let counters = [
        "processed".to_owned(),
        "failed".to_owned(),
        format!("processed:{day}"),
        format!("failed:{day}"),
    ];
    for (nth, damaged) in counters.iter().enumerate() {
        for value in ["many", "", "1e3", "99999999999999999999"] {
            fx.edit(|state| drop(state.insert(key(damaged), string(value)))).await;
            let info = fx.storage.queue_info(&queue(Q)).await.unwrap();
            let mut expected = [2, 1, 2, 1];
            expected[nth] = 0;
            assert_eq!(
                [info.processed_total, info.failed_total, info.processed, info.failed],
                expected,
                "{damaged}: {value:?}"
            );
        }
        fx.edit(|state| drop(state.insert(key(damaged), string("many")))).await;
        let told = asynq_core::inspect::Breach::Counter {
            key: key(damaged),
            problem: "not a number".into(),
        };
        let found = fx.audit(&queue(Q)).await;
        assert!(found.contains(&told), "{found:#?}");
        fx.edit(|state| *state = whole.state.clone()).await;
    }
}

/// transitions.md#history: a row for each UTC day, today first; 0 where nothing was counted or the counter cannot be
/// read. No day is a row for today (differences.md#page-numbers).
pub(super) async fn the_history_has_each_day(fx: &Fixture) {
    fx.leaves_damage();
    for (id, outcome) in [("a", DONE), ("b", archive())] {
        fx.settled(&fx.running(request(Q, id)).await, outcome).await;
    }
    let first = fx.now().date_naive();
    fx.advance(2 * 24 * 3600);
    fx.settled(&fx.running(request(Q, "c")).await, DONE).await;
    let history = async |days| fx.storage.history(&queue(Q), days).await.unwrap();
    let days = history(4).await;
    let told: Vec<_> = days.iter().map(|day| (day.processed, day.failed)).collect();
    assert_eq!(told, [(1, 0), (0, 0), (2, 1), (0, 0)]);
    let dates: Vec<_> = days.iter().map(|day| day.date).collect();
    assert_eq!((dates[0], dates[2]), (fx.now().date_naive(), first));
    assert!(dates.is_sorted_by(|later, earlier| later.pred_opt() == Some(*earlier)));
    assert_eq!(history(0).await, days[..1]);
    assert_eq!(history(u32::MAX).await.len(), 366);
    let name = format!("processed:{}", asynq_core::keys::day(fx.now()));
    for damaged in [string("many"), list(&["x"])] {
        fx.edit(|state| drop(state.insert(key(&name), damaged))).await;
        assert_eq!(history(1).await[0].processed, 0);
    }
    match fx.storage.history(&queue("never"), 1).await {
        Err(BrokerError::QueueNotFound { queue: of }) => assert_eq!(of, queue("never")),
        other => panic!("{other:?}"),
    }
}
