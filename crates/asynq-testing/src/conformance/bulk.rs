//! An operator acts on all tasks of a state or group (transitions.md#act-on-all-tasks).

use asynq_core::{
    Act,
    broker::{GroupLimits, WatchKind},
    clock::unix_nanos,
    error::PoisonKind,
    inspect::{BULK_STEP, BulkDone, ListFilter},
};
use tokio::time::timeout;

use super::kit::*;

fn of(state: TaskState) -> ListFilter {
    match state {
        TaskState::Aggregating => ListFilter::Group(group("g")),
        state => ListFilter::State(state),
    }
}

/// The suffix of the container.
fn place(state: TaskState) -> &'static str {
    match state {
        TaskState::Aggregating => "g:g",
        state => state.as_str(),
    }
}

async fn act_on_all(fx: &Fixture, act: Act, state: TaskState) -> BulkDone {
    let answer = fx.storage.act_on_all(&queue(Q), &of(state), act).await;
    answer.unwrap_or_else(|error| panic!("{act} {state}: {error:?}"))
}

fn counts(done: BulkDone) -> (u64, u64, u64) {
    (done.done, done.dropped, done.poisoned)
}

/// Puts three tasks into a state, the one with the highest id first.
async fn three(fx: &Fixture, state: TaskState) {
    for name in ["c", "b", "a"] {
        if state == TaskState::Pending {
            fx.enqueue_ids(&[name]).await;
        } else {
            fx.task_in(name, state).await;
        }
    }
}

async fn cleared(fx: &Fixture) {
    fx.edit(|state| state.clear()).await;
}

/// transitions.md#act-on-all-tasks: as each of them alone, in the order of the list; others stay.
pub(super) async fn all_tasks_of_a_state_are_run(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| Act::Run.applies_to(*state)) {
        three(fx, state).await;
        fx.enqueue(request(Q, "other").group("other")).await;
        fx.edit(|raw| set_field(raw, "a", "x:take", Some(bytes("old")))).await;
        fx.advance(5);
        assert_eq!(counts(act_on_all(fx, Act::Run, state).await), (3, 0, 0), "{state}");
        let raw = fx.raw().await;
        assert_eq!(raw.list("pending"), ["c", "b", "a"], "{state}");
        assert!(raw.q().get(place(state)).is_none());
        assert_eq!(raw.q().set("groups"), ["other"]);
        let task = raw.task("a");
        assert_eq!(task.names(), ["msg", "pending_since", "state", "x:enq"]);
        assert_eq!(task.field("pending_since"), Some(unix_nanos(fx.now()).to_string()));
        assert_eq!(ids(&fx.take(4).await), ["a", "b", "c"]);
        cleared(fx).await;
    }
}

/// transitions.md#act-on-all-tasks: messages, locks and counters stay.
pub(super) async fn all_tasks_of_a_state_are_archived(fx: &Fixture) {
    for state in TaskState::ALL
        .into_iter()
        .filter(|state| Act::Archive.applies_to(*state))
    {
        three(fx, state).await;
        let before = fx.raw().await;
        fx.advance(5);
        assert_eq!(counts(act_on_all(fx, Act::Archive, state).await), (3, 0, 0), "{state}");
        let raw = fx.raw().await;
        let expected = ["a", "b", "c"].map(|name| (name.to_owned(), fx.secs()));
        assert_eq!(raw.zset("archived"), expected, "{state}");
        assert!(raw.q().get(place(state)).is_none() && raw.q().get("groups").is_none());
        for name in ["a", "b", "c"] {
            let task = raw.task(name);
            assert_eq!(
                (task.state().as_str(), task.names()),
                ("archived", vec!["msg", "state", "x:enq"])
            );
            assert_eq!(task.message(), before.task(name).message());
        }
        assert_eq!(raw.string("failed"), before.string("failed"));
        cleared(fx).await;
    }
}

/// transitions.md#act-on-all-tasks, differences.md#freed-locks: with their locks, which Go leaves for pending and
/// aggregating tasks.
pub(super) async fn all_tasks_of_a_state_are_deleted(fx: &Fixture) {
    for state in TaskState::ALL
        .into_iter()
        .filter(|state| Act::Delete.applies_to(*state))
    {
        three(fx, state).await;
        fx.edit(|raw| {
            set_field(raw, "a", "unique_key", Some(bytes(key("unique:t:x"))));
            raw.insert(key("unique:t:x"), string("a"));
        })
        .await;
        assert_eq!(counts(act_on_all(fx, Act::Delete, state).await), (3, 0, 0), "{state}");
        let raw = fx.raw().await;
        let left = raw.q().suffixes().into_iter();
        let is_counter = |suffix: &&str| suffix.starts_with("processed") || suffix.starts_with("failed");
        assert_eq!(left.filter(|suffix| !is_counter(suffix)).count(), 0, "{state}");
        cleared(fx).await;
    }
}

/// The contract: states that Go excludes, too, and groups without a name.
pub(super) async fn an_act_that_is_not_for_a_state_is_refused(fx: &Fixture) {
    for state in TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending) {
        fx.task_in(state.as_str(), state).await;
    }
    fx.enqueue_ids(&["pending"]).await;
    let before = fx.raw().await;
    for act in Act::ALL {
        for state in TaskState::ALL {
            let answer = fx.storage.act_on_all(&queue(Q), &ListFilter::State(state), act).await;
            if state == TaskState::Aggregating {
                assert!(matches!(answer, Err(BrokerError::GroupRequired { .. })), "{answer:?}");
            } else if !act.applies_to(state) {
                let error = answer.unwrap_err().to_string();
                assert_eq!(error, format!("cannot {act} all {state} tasks of queue \"{Q}\""));
            } else {
                answer.unwrap();
                fx.edit(|raw| raw.clone_from(&before.state)).await;
            }
        }
        let answer = fx
            .storage
            .act_on_all(&queue("never"), &of(TaskState::Aggregating), act)
            .await;
        assert!(matches!(answer, Err(BrokerError::QueueNotFound { .. })), "{answer:?}");
    }
    before.assert_same(&fx.raw().await);
}

/// The contract: nothing to do is no error.
pub(super) async fn an_act_on_no_tasks_does_nothing(fx: &Fixture) {
    fx.enqueue(request(Q, "a").group("other")).await;
    let before = fx.raw().await;
    for act in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| act.applies_to(*state)) {
            assert_eq!(counts(act_on_all(fx, act, state).await), (0, 0, 0), "{act} {state}");
        }
    }
    before.assert_same(&fx.raw().await);
}

/// rules.md#bounded-calls: in steps, over any number of tasks of one second.
pub(super) async fn many_tasks_are_acted_on_in_steps(fx: &Fixture) {
    let count = 2 * BULK_STEP + 17;
    let at = fx.after(60);
    for (state, act) in [
        (TaskState::Scheduled, Act::Run),
        (TaskState::Pending, Act::Archive),
        (TaskState::Archived, Act::Run),
        (TaskState::Pending, Act::Delete),
        (TaskState::Aggregating, Act::Delete),
    ] {
        match state {
            TaskState::Scheduled | TaskState::Aggregating => {
                let new = |n: u32| {
                    let new = request(Q, &format!("id{n:04}"));
                    match state {
                        TaskState::Scheduled => new.at(at).build(),
                        _ => new.group("g").build(),
                    }
                };
                for answer in fx.storage.enqueue(&batch_of((0..count).map(new))).await {
                    answer.unwrap();
                }
            }
            // Those of the act before.
            _ => {}
        }
        let (mut place, mut steps, mut done) = (None, 0, 0);
        loop {
            let step = fx.storage.act_on_some(&queue(Q), &of(state), act, place).await.unwrap();
            assert!(step.done <= BULK_STEP && step.dropped == 0 && step.poisoned.is_empty());
            steps += 1;
            done += step.done;
            place = step.next;
            if place.is_none() {
                break;
            }
        }
        assert_eq!((steps, done), (3, count), "{act} {state}");
    }
    assert_eq!(fx.raw().await.q().suffixes(), [""; 0]);
}

/// The contract: the call ends with the tasks that there were, though each step finds new ones.
pub(super) async fn an_act_ends_while_tasks_are_added(fx: &Fixture) {
    // A list: newer ones come behind the last.
    let names: Vec<_> = (0..2 * BULK_STEP).map(|n| format!("id{n:04}")).collect();
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let step = async |filter: &ListFilter, place| {
        let step = fx.storage.act_on_some(&queue(Q), filter, Act::Delete, place).await;
        step.unwrap()
    };
    let pending = of(TaskState::Pending);
    let first = step(&pending, None).await;
    fx.enqueue_ids(&["new1"]).await;
    let second = step(&pending, first.next).await;
    assert_eq!((first.done, second.done, second.next), (BULK_STEP, BULK_STEP, None));
    assert_eq!(fx.raw().await.list("pending"), ["new1"]);

    // The last one is gone meanwhile: no more than there were.
    fx.enqueue_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let first = step(&pending, None).await;
    fx.storage
        .delete_task(&queue(Q), &id(&names[names.len() - 1]))
        .await
        .unwrap();
    let more: Vec<_> = (0..300).map(|n| format!("more{n}")).collect();
    fx.enqueue_ids(&more.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    let second = step(&pending, first.next).await;
    let third = step(&pending, second.next).await;
    assert_eq!((second.done, third.done, third.next), (BULK_STEP, 1, None));
    act_on_all(fx, Act::Delete, TaskState::Pending).await;

    // A sorted set: what comes before the place, or behind the last one, is left; what comes between is included.
    let at = |id: &str, secs| request(Q, id).at(fx.after(secs)).build();
    let scheduled = of(TaskState::Scheduled);
    for answer in fx.storage.enqueue(&batch_of(names.iter().map(|id| at(id, 60)))).await {
        answer.unwrap();
    }
    let first = step(&scheduled, None).await;
    let late = ["before", "id0000x", "id0199", "id0399x", "later"];
    let new = late
        .into_iter()
        .zip([50, 60, 60, 60, 70])
        .map(|(id, secs)| at(id, secs));
    let between = at("id0200x", 60);
    for answer in fx.storage.enqueue(&batch_of(new.chain([between]))).await {
        answer.unwrap();
    }
    let second = step(&scheduled, first.next).await;
    let third = step(&scheduled, second.next).await;
    assert_eq!((second.done, third.done, third.next), (BULK_STEP, 1, None));
    let left: Vec<_> = fx.raw().await.zset("scheduled").into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, late);
    // Tasks that are always added between the place and the last one: twice as many as there were, at most.
    let filter = of(TaskState::Aggregating);
    for id in ["a", "z"] {
        fx.enqueue(request(Q, id).group("g")).await;
    }
    let mut place = Some(asynq_core::inspect::BulkPlace {
        left: 2,
        ..bulk_place(fx, "a", "z")
    });
    for id in ["b", "c", "d"] {
        fx.enqueue(request(Q, id).group("g")).await;
    }
    let step = step(&filter, place.take()).await;
    assert_eq!((step.done, step.next), (2, None));
    let left: Vec<_> = fx.raw().await.zset("g:g").into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, ["a", "d", "z"]);
}

/// A place in a set of this second.
fn bulk_place(fx: &Fixture, after: &str, last: &str) -> asynq_core::inspect::BulkPlace {
    let entry = |id: &str| asynq_core::inspect::BulkEntry {
        score: bytes(fx.secs().to_string()),
        id: bytes(id),
    };
    asynq_core::inspect::BulkPlace {
        after: entry(after),
        last: entry(last),
        left: 0,
    }
}

/// rules.md#damage-stays-local: all hashes of a full queue are deleted; ids without one leave their containers.
pub(super) async fn ids_without_hashes_hinder_no_act(fx: &Fixture) {
    for act in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| act.applies_to(*state)) {
            three(fx, state).await;
            fx.edit(|raw| raw.retain(|name, _| !name.contains(":t:") || name.ends_with(":t:b")))
                .await;
            assert_eq!(counts(act_on_all(fx, act, state).await), (1, 2, 0), "{act} {state}");
            let raw = fx.raw().await;
            assert!(raw.q().get(place(state)).is_none(), "{act} {state}");
            cleared(fx).await;
        }
    }
}

/// rules.md#damage-stays-local: a task that cannot be used is deleted, or put aside as a server does; one that has
/// another state by now is left alone.
pub(super) async fn damaged_tasks_hinder_no_act(fx: &Fixture) {
    for act in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| act.applies_to(*state)) {
            let other = if state == TaskState::Retry {
                "scheduled"
            } else {
                "retry"
            };
            three(fx, state).await;
            if state == TaskState::Pending {
                fx.enqueue_ids(&["d", "e"]).await;
            } else {
                fx.task_in("d", state).await;
                fx.task_in("e", state).await;
            }
            let healthy = fx.raw().await;
            fx.edit(|raw| {
                set_field(raw, "a", "msg", None);
                raw.insert(key("t:b"), list(&["x"]));
                set_field(raw, "c", "state", Some(bytes(other)));
                raw.insert(key(other), zset(&[("c", 5)]));
                set_field(raw, "d", "state", None);
            })
            .await;
            let done = act_on_all(fx, act, state).await;
            let expected = if act == Act::Delete { (4, 1, 0) } else { (2, 1, 2) };
            assert_eq!(counts(done), expected, "{act} {state}");
            let raw = fx.raw().await;
            assert_eq!((raw.task("c").state().as_str(), raw.zset(other).len()), (other, 1));
            match act {
                Act::Delete => assert!(["a", "b", "d", "e"].iter().all(|name| !raw.has_task(name))),
                act => {
                    let to = if act == Act::Run { "pending" } else { "archived" };
                    assert_eq!((raw.task("d").state(), raw.task("e").state()), (to.into(), to.into()));
                    assert_eq!(raw.task("d").message(), healthy.task("d").message());
                    let aside: Vec<_> = raw.zset("x:quarantine").into_iter().map(|(id, _)| id).collect();
                    assert_eq!(aside, ["a", "b"]);
                }
            }
            cleared(fx).await;
        }
    }
    three(fx, TaskState::Scheduled).await;
    fx.edit(|raw| set_field(raw, "a", "msg", None)).await;
    let filter = of(TaskState::Scheduled);
    let step = fx
        .storage
        .act_on_some(&queue(Q), &filter, Act::Run, None)
        .await
        .unwrap();
    assert_eq!(step.poisoned, [(id("a"), PoisonKind::NoMessage)]);
}

/// differences.md#archive-trimming: the archive never grows beyond its limit.
pub(super) async fn acts_trim_the_archive(fx: &Fixture) {
    fx.task_in("old", TaskState::Archived).await;
    fx.edit(|raw| set_score(raw, "archived", "old", fx.secs() - 90 * 24 * 3600))
        .await;
    fx.enqueue_ids(&["a"]).await;
    assert_eq!(
        counts(act_on_all(fx, Act::Archive, TaskState::Pending).await),
        (1, 0, 0)
    );
    let raw = fx.raw().await;
    assert_eq!(raw.zset("archived"), [("a".to_owned(), fx.secs())]);
    assert!(!raw.has_task("old"));
}

/// differences.md#slow-aggregators: what an aggregator holds is not taken from it, also under the name of its set.
pub(super) async fn an_aggregation_set_is_left_alone(fx: &Fixture) {
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(1),
    };
    fx.enqueue(request(Q, "a").group("g")).await;
    let set = fx.storage.collect_group(&queue(Q), &group("g"), limits).await;
    let set = set.unwrap().unwrap();
    fx.enqueue(request(Q, "b").group("g")).await;
    let named = ListFilter::Group(group(&format!("g:{}", set.id)));
    let before = fx.raw().await;
    for act in Act::ALL {
        let done = fx.storage.act_on_all(&queue(Q), &named, act).await.unwrap();
        assert_eq!(counts(done), (0, 0, 0));
    }
    before.assert_same(&fx.raw().await);
    assert_eq!(
        counts(act_on_all(fx, Act::Delete, TaskState::Aggregating).await),
        (1, 0, 0)
    );
    assert!(fx.raw().await.has_task("a"));
}

/// rules.md#check-then-write.
pub(super) async fn a_container_of_the_wrong_type_refuses_the_act(fx: &Fixture) {
    fx.leaves_damage();
    for act in Act::ALL {
        for state in TaskState::ALL.into_iter().filter(|state| act.applies_to(*state)) {
            three(fx, state).await;
            let to = match act {
                Act::Run => "pending",
                Act::Archive => "archived",
                _ => place(state),
            };
            let healthy = fx.raw().await.state;
            let of_group = (state == TaskState::Aggregating).then_some("groups");
            for container in [place(state), to].into_iter().chain(of_group) {
                fx.edit(|raw| drop(raw.insert(key(container), string("x")))).await;
                let before = fx.raw().await;
                match fx.storage.act_on_all(&queue(Q), &of(state), act).await {
                    Err(BrokerError::WrongType { key: of }) => assert_eq!(of, key(container)),
                    other => panic!("{act} {state} {container}: {other:?}"),
                }
                before.assert_same(&fx.raw().await);
                fx.edit(|raw| raw.clone_from(&healthy)).await;
            }
            cleared(fx).await;
        }
    }
}

/// rules.md#watches-only-read: a server that waits is woken.
pub(super) async fn a_waiting_server_is_woken_by_an_act(fx: &Fixture) {
    fx.enqueue(request(Q, "a").at(fx.after(60))).await;
    let mut watch = match fx.storage.watch(&[queue(Q)], WatchKind::Pending).await {
        Err(BrokerError::Unsupported { .. }) => return,
        watch => watch.unwrap(),
    };
    let other = fx.connect().await;
    let filter = of(TaskState::Scheduled);
    other.act_on_all(&queue(Q), &filter, Act::Run).await.unwrap();
    let woken = timeout(LIMIT, watch.changed()).await;
    assert_eq!(woken.unwrap(), asynq_core::broker::Wake::Changed);
}
