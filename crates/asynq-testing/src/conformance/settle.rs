//! Ends of runs: done, complete, retry, requeue (transitions.md#done to transitions.md#retry). The archive has a
//! topic of its own.

use asynq_core::keys;

use super::kit::*;

/// 90 days, how long a day's counters live.
const NINETY_DAYS: i64 = 90 * 24 * 3600;

fn today(fx: &Fixture) -> String {
    keys::day(fx.now())
}

/// The counters of [`Q`]: processed, failed, and both of today.
async fn counters(fx: &Fixture) -> [Option<String>; 4] {
    let (raw, day) = (fx.raw().await, today(fx));
    [
        "processed".to_owned(),
        "failed".to_owned(),
        format!("processed:{day}"),
        format!("failed:{day}"),
    ]
    .map(|suffix| raw.string(&suffix))
}

fn counts<const N: usize>(values: [i64; N]) -> [Option<String>; N] {
    values.map(|value| (value > 0).then(|| value.to_string()))
}

/// transitions.md#done: nothing is left of the task but the count.
pub(super) async fn done_deletes_the_task(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.settled(&task, DONE).await;
    let raw = fx.raw().await;
    assert_eq!(raw.q().suffixes(), ["processed", &format!("processed:{}", today(fx))]);
    assert_eq!(counters(fx).await, counts([1, 0, 1, 0]));
}

/// transitions.md#complete: kept until now + retention, with the time of completion in the message.
pub(super) async fn done_with_retention_keeps_the_task_as_completed(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(600)).await;
    fx.advance(5);
    fx.settled(&task, DONE).await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("completed"), [("a".to_owned(), fx.secs() + 600)]);
    assert_eq!((raw.list("active").len(), raw.zset("lease").len()), (0, 0));
    let stored = raw.task("a");
    assert_eq!(
        (stored.names(), stored.state().as_str()),
        (vec!["msg", "state", "x:enq"], "completed")
    );
    assert_eq!(
        stored.message(),
        asynq_core::message::completed(&task.message, fx.secs())
    );
    assert_eq!(counters(fx).await, counts([1, 0, 1, 0]));
}

/// layout.md#counters: a revoked task ends as done, whatever its retention, and counts as processed.
pub(super) async fn a_revoked_task_is_deleted_in_spite_of_its_retention(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(600)).await;
    fx.settled(&task, Outcome::Done { retain: false }).await;
    assert!(!fx.raw().await.has_task("a"));
    assert_eq!(counters(fx).await, counts([1, 0, 1, 0]));
}

/// transitions.md#retry: into `retry` at its time, floored; text, time and number of the failure in the message.
pub(super) async fn a_failure_waits_for_its_retry(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    fx.advance(5);
    let at = fx.after(60) + chrono::TimeDelta::milliseconds(700);
    fx.settled(&task, retry(at)).await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("retry"), [("a".to_owned(), fx.secs() + 60)]);
    assert_eq!((raw.list("active").len(), raw.zset("lease").len()), (0, 0));
    let stored = raw.task("a");
    assert_eq!(
        (stored.names(), stored.state().as_str()),
        (vec!["msg", "state", "x:at", "x:enq"], "retry")
    );
    let message = stored.message();
    assert_eq!(
        (message.error_msg.as_str(), message.retried, message.last_failed_at),
        ("boom", 1, fx.secs())
    );
    assert_eq!(
        message,
        asynq_core::message::failed(&task.message, "boom", fx.secs(), true)
    );
    assert_eq!(counters(fx).await, counts([1, 1, 1, 1]));
}

/// transitions.md#retry: an end that is no failure neither uses up a retry nor counts, but its text is kept.
pub(super) async fn a_retry_that_is_no_failure_counts_nothing(fx: &Fixture) {
    let task = fx.running(request(Q, "a")).await;
    let outcome = Outcome::Retry {
        at: fx.after(9),
        error: "wait".into(),
        is_failure: false,
    };
    fx.settled(&task, outcome).await;
    let message = fx.raw().await.task("a").message();
    assert_eq!(
        (message.error_msg.as_str(), message.retried, message.last_failed_at),
        ("wait", 0, fx.secs())
    );
    assert_eq!(counters(fx).await, counts([0, 0, 0, 0]));
}

/// layout.md#messages: an error text may be empty, long, or in any script.
pub(super) async fn any_error_text_is_kept(fx: &Fixture) {
    for (n, text) in [String::new(), "x".repeat(100_000), "ünï\0\n\"".to_owned()]
        .into_iter()
        .enumerate()
    {
        let task = fx.running(request(Q, &n.to_string())).await;
        fx.settled(
            &task,
            Outcome::Retry {
                at: fx.after(60),
                error: text.clone(),
                is_failure: true,
            },
        )
        .await;
        assert!(
            fx.raw().await.task(&n.to_string()).message().error_msg == text,
            "text {n}"
        );
    }
}

/// Pitfalls 6: headers survive a retry and a completion.
pub(super) async fn headers_survive_a_rewrite(fx: &Fixture) {
    let task = fx
        .running(request(Q, "a").retention(60).header("k", "v").header("a", "b"))
        .await;
    fx.settled(&task, retry(fx.now())).await;
    fx.storage.forward(&queue(Q), 10).await.unwrap();
    let task = fx.take_one().await;
    assert_eq!((task.message.headers.len(), task.message.retried), (2, 1));
    fx.settled(&task, DONE).await;
    assert_eq!(fx.raw().await.task("a").message().headers["k"], "v");
}

/// transitions.md#requeue and differences.md#pending-since: to the tail, so that it runs next, pending since
/// now, the message and the counters as they were.
pub(super) async fn a_requeued_task_runs_next(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c"]).await;
    let taken = fx.take(2).await;
    fx.advance(5);
    fx.settled(&taken[0], Outcome::Requeue).await;
    let raw = fx.raw().await;
    assert_eq!(raw.list("pending"), ["c", "a"]);
    assert_eq!((raw.list("active"), raw.zset("lease").len()), (vec!["b".to_owned()], 1));
    let stored = raw.task("a");
    assert_eq!(
        (stored.names(), stored.state().as_str()),
        (vec!["msg", "pending_since", "state", "x:enq"], "pending")
    );
    assert_eq!(stored.message(), *taken[0].message);
    let nanos = asynq_core::clock::unix_nanos(fx.now());
    assert_eq!(stored.field("pending_since"), Some(nanos.to_string()));
    assert_eq!(counters(fx).await, counts([0, 0, 0, 0]));
}

/// rules.md#orderly-end: given back in reverse order of the take, tasks run in their old order.
pub(super) async fn requeued_in_reverse_they_keep_their_order(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b", "c", "d"]).await;
    let taken = fx.take(3).await;
    let back = taken
        .iter()
        .rev()
        .map(|task| settlement(task, Outcome::Requeue))
        .collect();
    assert!(fx.exchange(back, 0).await.settled.iter().all(Result::is_ok));
    assert_eq!(ids(&fx.take(4).await), ["a", "b", "c", "d"]);
}

/// One call writes outcomes of all kinds, answered in order.
pub(super) async fn one_call_writes_outcomes_of_all_kinds(fx: &Fixture) {
    for id in ["a", "b", "c", "d", "e"] {
        fx.enqueue(request(Q, id).retention(60)).await;
    }
    let taken = fx.take(5).await;
    let settle = taken
        .iter()
        .zip(outcomes(fx.after(60)))
        .map(|(task, outcome)| settlement(task, outcome))
        .collect();
    let answer = fx.exchange(settle, 0).await;
    assert!(answer.settled.iter().all(Result::is_ok), "{:?}", answer.settled);
    let raw = fx.raw().await;
    assert_eq!(raw.zset("completed").len(), 1);
    assert!(!raw.has_task("b"));
    assert_eq!(
        (raw.zset("retry")[0].0.as_str(), raw.zset("archived")[0].0.as_str()),
        ("c", "d")
    );
    assert_eq!(raw.list("pending"), ["e"]);
    assert_eq!(counters(fx).await, counts([4, 2, 4, 2]));
}

/// rules.md#bounded-calls: any number of outcomes is answered in one call, in order.
pub(super) async fn any_number_of_outcomes_is_answered(fx: &Fixture) {
    let names: Vec<_> = (0..450).map(|n| format!("id{n:03}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let mut taken = Vec::new();
    while taken.len() < names.len() {
        taken.extend(fx.take(1000).await);
    }
    let settle: Vec<_> = taken.iter().map(|task| settlement(task, DONE)).collect();
    let answer = fx.exchange(settle, 0).await;
    assert!(answer.settled.iter().all(Result::is_ok));
    assert_eq!(counters(fx).await, counts([450, 0, 450, 0]));
    assert_eq!(fx.raw().await.q().suffixes().len(), 2);
}

/// Several queues in one call: each outcome finds its own.
pub(super) async fn outcomes_of_several_queues_go_in_one_call(fx: &Fixture) {
    let mut settle = Vec::new();
    for name in ["one", "two", "one"] {
        let id = format!("id{}", settle.len());
        fx.enqueue(request(name, &id)).await;
        let want = vec![Want {
            queue: queue(name),
            max: 1,
        }];
        let task = fx
            .storage
            .exchange(&fx.storage.begin(), &[], &want)
            .await
            .leased
            .remove(0);
        settle.push(settlement(&task, DONE));
    }
    let answer = fx.storage.exchange(&fx.storage.begin(), &settle, &[]).await;
    assert_eq!(
        (
            answer.settled.len(),
            answer.settled.iter().filter(|answer| answer.is_ok()).count()
        ),
        (3, 3)
    );
    let raw = fx.raw().await;
    assert_eq!(raw.state["asynq:{one}:processed"], string("2"));
    assert_eq!(raw.state["asynq:{two}:processed"], string("1"));
}

/// Pitfalls 4.2: the day of a count is the UTC day of the worker's clock when it reports.
pub(super) async fn counts_belong_to_the_utc_day(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let taken = fx.take(2).await;
    fx.settled(&taken[0], DONE).await;
    let first = today(fx);
    fx.advance(24 * 3600);
    fx.settled(&taken[1], archive()).await;
    let (raw, second) = (fx.raw().await, today(fx));
    assert_ne!(first, second);
    assert_eq!(raw.string(&format!("processed:{first}")).as_deref(), Some("1"));
    assert_eq!(raw.string(&format!("processed:{second}")).as_deref(), Some("1"));
    assert_eq!(raw.string(&format!("failed:{second}")).as_deref(), Some("1"));
    assert_eq!(
        (raw.string("processed").as_deref(), raw.string("failed").as_deref()),
        (Some("2"), Some("1"))
    );
}

/// layout.md#counters, layout.md#counters: a day's counters live 90 days from their first count, and
/// totals for ever.
pub(super) async fn a_day_lives_ninety_days_from_its_first_count(fx: &Fixture) {
    fx.enqueue_ids(&["a", "b"]).await;
    let taken = fx.take(2).await;
    fx.settled(&taken[0], archive()).await;
    let day = today(fx);
    for kind in ["processed", "failed"] {
        let ttl = fx.ttl(&format!("{kind}:{day}")).await.unwrap_or_default();
        // A real server counts on while the case runs.
        assert!((NINETY_DAYS - 10..=NINETY_DAYS).contains(&ttl), "{kind}: {ttl}");
        assert_eq!(fx.ttl(kind).await, None);
    }
    // Within the same day nothing is set anew. (A step of an hour may pass midnight.)
    fx.advance(3600);
    fx.settled(&taken[1], archive()).await;
    if today(fx) == day {
        let ttl = fx.ttl(&format!("processed:{day}")).await.unwrap_or_default();
        assert!(ttl <= NINETY_DAYS, "{ttl}");
    }
}

/// layout.md#counters: a total that equals the largest number as a double starts again at 1, and in a
/// failing path the failures with it.
pub(super) async fn a_full_total_starts_again(fx: &Fixture) {
    let full = (i64::MAX - 100).to_string();
    for (id, outcome, expected) in [("a", DONE, [1, 77]), ("b", archive(), [1, 1])] {
        let task = fx.running(request(Q, id)).await;
        fx.edit(|state| {
            state.insert(key("processed"), string(&full));
            state.insert(key("failed"), string("77"));
        })
        .await;
        fx.settled(&task, outcome).await;
        let [processed, failed, ..] = counters(fx).await;
        assert_eq!([processed, failed], counts(expected));
        // What is compared below the limit counts on.
        fx.edit(|state| {
            state.insert(key("processed"), string("5"));
            state.insert(key("failed"), string("1"));
        })
        .await;
    }
}

/// rules.md#check-then-write: a counter that cannot count harms no outcome.
pub(super) async fn a_damaged_counter_harms_no_outcome(fx: &Fixture) {
    fx.leaves_damage();
    for (id, damage) in [
        ("a", list(&["x"])),
        ("b", string("many")),
        ("c", string(&i64::MAX.to_string())),
    ] {
        let task = fx.running(request(Q, id)).await;
        fx.edit(|state| {
            state.insert(key("processed"), damage.clone());
            state.insert(key(&format!("failed:{}", today(fx))), damage);
        })
        .await;
        fx.settled(&task, archive()).await;
        let raw = fx.raw().await;
        assert_eq!(raw.task(id).state(), "archived");
        assert!(raw.list("active").is_empty() && raw.zset("lease").is_empty());
    }
}

/// rules.md#check-then-write: a container of the wrong type refuses the outcomes of its queue before any write; they
/// can be written when it is mended.
pub(super) async fn a_container_of_the_wrong_type_refuses_outcomes(fx: &Fixture) {
    let taken = {
        for id in ["a", "b", "c", "d"] {
            fx.enqueue(request(Q, id).retention(60)).await;
        }
        fx.take(4).await
    };
    let ends = [
        ("retry", retry(fx.after(60))),
        ("archived", archive()),
        ("completed", DONE),
        ("pending", Outcome::Requeue),
    ];
    for (task, (suffix, outcome)) in taken.iter().zip(ends) {
        let held = fx.raw().await.q().get(suffix).cloned();
        fx.edit(|state| drop(state.insert(key(suffix), RawValue::Set([bytes("x")].into()))))
            .await;
        let before = fx.raw().await;
        match fx.settle(task, outcome.clone()).await {
            Err(SettleError::Broker(BrokerError::WrongType { key: named })) => assert_eq!(named, key(suffix)),
            other => panic!("{suffix}: {other:?}"),
        }
        before.assert_same(&fx.raw().await);
        fx.edit(|state| {
            state.remove(&key(suffix));
            state.extend(held.map(|held| (key(suffix), held)));
        })
        .await;
        fx.settled(task, outcome).await;
    }
}

/// Invariant 3, transitions.md#take: `pending_since` is there while the task is pending. What a stranger left on a
/// running task goes with its end; Go's own transitions leave none.
pub(super) async fn a_foreign_pending_since_goes_with_the_outcome(fx: &Fixture) {
    let whole = chrono::DateTime::from_timestamp(fx.secs() + 60, 0).unwrap();
    for outcome in [DONE, retry(whole), archive()] {
        let task = fx.running(request(Q, "a").retention(60)).await;
        fx.edit(|state| set_field(state, "a", "pending_since", Some(bytes("7"))))
            .await;
        fx.settled(&task, outcome.clone()).await;
        assert_eq!(
            fx.raw().await.task("a").names(),
            ["msg", "state", "x:enq"],
            "{outcome:?}"
        );
        fx.edit(|state| {
            ["t:a", "retry", "archived", "completed"]
                .iter()
                .for_each(|suffix| drop(state.remove(&key(suffix))));
        })
        .await;
    }
}

/// A retention beyond what a score can hold ends at the highest score there is.
pub(super) async fn a_retention_without_end_is_kept_for_ever(fx: &Fixture) {
    let task = fx.running(request(Q, "a").retention(i64::MAX)).await;
    fx.settled(&task, DONE).await;
    let highest = asynq_core::broker::MAX_SCORE;
    assert_eq!(fx.raw().await.zset("completed"), [("a".to_owned(), highest)]);
    assert_eq!(fx.storage.delete_expired(&queue(Q), 10).await.unwrap(), 0);
}
