//! Ticks of periodic tasks are decided once (rules.md#one-tick-one-task).
//!
//! Longer than other files, since the cases of one topic are one list that is read from top to bottom.

use asynq_core::{
    broker::{EnqueueRequest, Tick, TickStart, Ticked},
    info::TaskInfo,
    keys::own,
    options::TaskOptions,
    periodic::{EntryKey, OnConflict, TickMark, TickOutcome},
    task::Task,
};
use chrono::{DateTime, Utc};

use super::kit::*;
use crate::request::RequestBuilder;

const HOUR: Duration = Duration::from_secs(3600);
const WEEK: i64 = 7 * 24 * 3600;

fn entry(name: &str) -> EntryKey {
    let task = Task::new("t", b"p").unwrap();
    EntryKey::new(name, "@every 30s", "UTC", &task, &TaskOptions::new())
}

/// A tick of the entry `e`, `secs` from the fixture's second.
fn tick(fx: &Fixture, secs: i64) -> Tick {
    Tick {
        entry: entry("e"),
        at: second(fx, secs),
        gap: Duration::ZERO,
        keep: Duration::from_secs(WEEK.unsigned_abs()),
        by: "one".into(),
        on_conflict: OnConflict::Skip,
        decide: true,
    }
}

/// The same, as another scheduler asks.
fn tick_of_another(fx: &Fixture, secs: i64) -> Tick {
    Tick {
        by: "another".into(),
        ..tick(fx, secs)
    }
}

fn second(fx: &Fixture, secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(fx.secs() + secs, 0).unwrap()
}

async fn try_tick(fx: &Fixture, request: RequestBuilder, tick: &Tick) -> Result<Ticked, EnqueueError> {
    fx.storage.enqueue_tick(request.build(), tick).await
}

async fn ticked(fx: &Fixture, request: RequestBuilder, tick: &Tick) -> TaskInfo {
    match try_tick(fx, request, tick).await {
        Ok(Ticked::Enqueued(info)) => info,
        other => panic!("{tick:?}: {other:?}"),
    }
}

/// The tick is refused, with this last one, and nothing changes.
async fn taken(fx: &Fixture, request: RequestBuilder, tick: &Tick, last: DateTime<Utc>) {
    let before = fx.raw().await;
    let answer = try_tick(fx, request, tick).await;
    assert!(
        matches!(&answer, Ok(Ticked::Taken { last: told }) if *told == last),
        "{tick:?}: {answer:?}"
    );
    before.assert_same(&fx.raw().await);
}

async fn last(fx: &Fixture, queues: &[&str], entry: &EntryKey) -> Vec<Option<DateTime<Utc>>> {
    let entries: Vec<_> = queues.iter().map(|name| (queue(name), entry.clone())).collect();
    let answers = fx.storage.last_ticks(&entries).await;
    let marks = answers.into_iter().map(Result::unwrap);
    marks.map(|mark| mark.map(|mark| mark.instant())).collect()
}

fn mark(at: DateTime<Utc>, token: u64, outcome: TickOutcome) -> String {
    let at = at.timestamp();
    TickMark { at, token, outcome }.to_string()
}

fn mark_key(entry: &EntryKey) -> String {
    own::tick(&queue(Q), entry)
}

async fn mark_text(fx: &Fixture) -> Option<String> {
    fx.raw().await.string(&format!("x:tick:{}", entry("e")))
}

/// The first tick enqueues its task as any other, and is remembered with the token of its request.
pub(super) async fn the_first_tick_enqueues_its_task(fx: &Fixture) {
    let info = ticked(fx, request(Q, "a").payload("p").token(7), &tick(fx, 0)).await;
    assert_eq!((info.id, info.state), (id("a"), TaskState::Pending));
    let raw = fx.raw().await;
    assert_eq!(raw.state["asynq:queues"], RawValue::Set([bytes(Q)].into()));
    assert_eq!(raw.list("pending"), ["a"]);
    assert_eq!(raw.task("a").names(), ["msg", "pending_since", "state", "x:enq"]);
    assert_eq!(mark_text(fx).await, Some(mark(second(fx, 0), 7, TickOutcome::Enqueued)));
    assert_eq!(last(fx, &[Q], &entry("e")).await, [Some(second(fx, 0))]);
    assert_eq!(fx.take_one().await.message.id, "a");
}

/// rules.md#one-tick-one-task: of several schedulers one decides a tick, and one that comes later cannot decide an
/// earlier one.
pub(super) async fn a_tick_is_decided_once(fx: &Fixture) {
    ticked(fx, request(Q, "a"), &tick(fx, 0)).await;
    taken(fx, request(Q, "b"), &tick(fx, 0), second(fx, 0)).await;
    taken(fx, request(Q, "c"), &tick(fx, -1), second(fx, 0)).await;
    ticked(fx, request(Q, "d"), &tick(fx, 1)).await;
    taken(fx, request(Q, "e"), &tick(fx, 0), second(fx, 1)).await;
    assert_eq!(fx.raw().await.list("pending"), ["d", "a"]);
}

/// rules.md#one-tick-one-task: any number at the same time.
pub(super) async fn of_many_at_once_one_enqueues(fx: &Fixture) {
    let mut calls = Vec::new();
    for n in 0..8 {
        let (storage, tick) = (fx.connect().await, tick(fx, 0));
        let new: EnqueueRequest = request(Q, &format!("id{n}")).build();
        calls.push(async move { storage.enqueue_tick(new, &tick).await });
    }
    let answers = futures::future::join_all(calls).await;
    let enqueued = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Ticked::Enqueued(_))))
        .count();
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Ok(Ticked::Taken { last }) if *last == second(fx, 0)))
        .count();
    assert_eq!((enqueued, refused), (1, 7), "{answers:?}");
    assert_eq!(fx.raw().await.list("pending").len(), 1);
}

/// The contract of `Tick`: times are whole seconds, floored.
pub(super) async fn a_tick_is_a_whole_second(fx: &Fixture) {
    let within = Tick {
        at: second(fx, 0) + chrono::TimeDelta::milliseconds(999),
        ..tick(fx, 0)
    };
    ticked(fx, request(Q, "a"), &within).await;
    taken(fx, request(Q, "b"), &tick(fx, 0), second(fx, 0)).await;
    ticked(fx, request(Q, "c"), &tick(fx, 1)).await;
}

/// The contract of `Tick`: one of `@every` is a period from the last at least.
pub(super) async fn a_tick_keeps_its_gap(fx: &Fixture) {
    let every = |secs, millis| Tick {
        gap: Duration::from_millis(millis),
        ..tick(fx, secs)
    };
    ticked(fx, request(Q, "a"), &every(0, 30_000)).await;
    taken(fx, request(Q, "b"), &every(29, 30_000), second(fx, 0)).await;
    ticked(fx, request(Q, "c"), &every(30, 30_000)).await;
    // Rounded up.
    taken(fx, request(Q, "d"), &every(31, 1001), second(fx, 30)).await;
    ticked(fx, request(Q, "e"), &every(32, 1001)).await;
    taken(fx, request(Q, "f"), &every(1000, u64::MAX), second(fx, 32)).await;
}

/// A lock that is taken decides the tick: nobody tries it again, not even when the lock is gone, and
/// the request sent again is answered as before.
pub(super) async fn a_duplicate_decides_the_tick(fx: &Fixture) {
    let unique = |id: &str, token| request(Q, id).payload("p").unique(HOUR).token(token);
    let owner = fx.running(unique("a", 1)).await;
    for _ in 0..2 {
        let answer = try_tick(fx, unique("b", 2), &tick(fx, 0)).await;
        assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
        assert_eq!(
            mark_text(fx).await,
            Some(mark(second(fx, 0), 2, TickOutcome::Duplicate))
        );
    }
    fx.settled(&owner, DONE).await;
    let answer = try_tick(fx, unique("b", 2), &tick(fx, 0)).await;
    assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
    taken(fx, unique("c", 3), &tick(fx, 0), second(fx, 0)).await;
    ticked(fx, unique("d", 4), &tick(fx, 1)).await;
    assert_eq!(fx.raw().await.list("pending"), ["d"]);
}

/// An id that is taken decides the tick too, and leaves no lock behind (differences.md#locks-and-id-conflicts).
pub(super) async fn an_id_conflict_decides_the_tick(fx: &Fixture) {
    let owner = fx.running(request(Q, "a")).await;
    let new = || request(Q, "a").payload("p").unique(HOUR).token(2);
    let answer = try_tick(fx, new(), &tick(fx, 0)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    assert_eq!(
        mark_text(fx).await,
        Some(mark(second(fx, 0), 2, TickOutcome::IdConflict))
    );
    assert!(!fx.raw().await.state.keys().any(|key| key.contains("unique")));
    fx.settled(&owner, DONE).await;
    let answer = try_tick(fx, new(), &tick(fx, 0)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    assert!(!fx.raw().await.has_task("a"));
    ticked(fx, new().token(3), &tick(fx, 1)).await;
}

/// rules.md#ambiguous-is-a-state: the request sent again is answered as the first time, whatever became of the task.
pub(super) async fn a_request_sent_again_is_answered_alike(fx: &Fixture) {
    let new = || request(Q, "a").payload("p").unique(HOUR).token(7);
    let first = ticked(fx, new(), &tick(fx, 0)).await;
    let before = fx.raw().await;
    assert_eq!(ticked(fx, new(), &tick(fx, 0)).await, first);
    before.assert_same(&fx.raw().await);
    let task = fx.take_one().await;
    fx.settled(&task, DONE).await;
    let before = fx.raw().await;
    assert_eq!(ticked(fx, new(), &tick(fx, 0)).await.id, first.id);
    before.assert_same(&fx.raw().await);
}

/// rules.md#ambiguous-is-a-state: when another has decided a later tick meanwhile, the task itself tells that
/// the request was carried out; without it the tick is taken.
pub(super) async fn a_request_sent_again_after_a_later_tick_is_told_by_its_task(fx: &Fixture) {
    let new = || request(Q, "a").token(7);
    ticked(fx, new(), &tick(fx, 0)).await;
    ticked(fx, request(Q, "b"), &tick(fx, 1)).await;
    let before = fx.raw().await;
    assert_eq!(ticked(fx, new(), &tick(fx, 0)).await.id, id("a"));
    before.assert_same(&fx.raw().await);
    taken(fx, new().token(8), &tick(fx, 0), second(fx, 1)).await;
    let task = fx.take_one().await;
    assert_eq!(task.message.id, "a");
    fx.settled(&task, DONE).await;
    taken(fx, new(), &tick(fx, 0), second(fx, 1)).await;
}

/// rules.md#ambiguous-is-a-state: its scheduler hears how a tick was decided, though others have decided later
/// ones and the task is gone. Nobody else does, and it is the last one of that scheduler.
pub(super) async fn a_scheduler_hears_of_its_tick_after_later_ones_of_others(fx: &Fixture) {
    let new = || request(Q, "a").token(7);
    ticked(fx, new(), &tick(fx, 0)).await;
    let task = fx.take_one().await;
    fx.settled(&task, DONE).await;
    ticked(fx, request(Q, "b").token(8), &tick_of_another(fx, 1)).await;
    let before = fx.raw().await;
    assert_eq!(ticked(fx, new(), &tick(fx, 0)).await.id, id("a"));
    before.assert_same(&fx.raw().await);
    taken(fx, new(), &tick_of_another(fx, 0), second(fx, 1)).await;
    taken(fx, new().token(9), &tick(fx, 0), second(fx, 1)).await;
    taken(fx, new(), &tick(fx, -1), second(fx, 1)).await;

    // Conflicts, too.
    let owner = fx.running(request(Q, "c").payload("p").unique(HOUR)).await;
    let answer = try_tick(fx, request(Q, "c").token(10), &tick(fx, 2)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    let duplicate = || request(Q, "d").payload("p").unique(HOUR).token(11);
    let answer = try_tick(fx, duplicate(), &tick_of_another(fx, 3)).await;
    assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
    fx.settled(&owner, DONE).await;
    let answer = try_tick(fx, request(Q, "c").token(10), &tick(fx, 2)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    ticked(fx, request(Q, "e"), &tick(fx, 4)).await;
    let answer = try_tick(fx, duplicate(), &tick_of_another(fx, 3)).await;
    assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
    taken(fx, request(Q, "c").token(10), &tick(fx, 2), second(fx, 4)).await;

    let ttl = fx
        .ttl_of(&own::tick_receipt(&queue(Q), &entry("e"), "one"))
        .await
        .unwrap();
    assert!((3540..=3600).contains(&ttl), "{ttl}");
}

/// The contract of `Tick::decide`: one that only asks changes nothing.
pub(super) async fn a_tick_that_is_only_asked_about_is_left_open(fx: &Fixture) {
    let new = || request(Q, "a").token(7);
    let asked = || Tick {
        decide: false,
        ..tick(fx, 0)
    };
    let answer = try_tick(fx, new(), &asked()).await;
    assert!(
        matches!(&answer, Ok(Ticked::Taken { last }) if *last == second(fx, 0)),
        "{answer:?}"
    );
    assert!(!fx.raw().await.has_task("a"));
    assert_eq!(mark_text(fx).await, None);
    ticked(fx, request(Q, "b"), &tick_of_another(fx, -1)).await;
    taken(fx, new(), &asked(), second(fx, -1)).await;
    ticked(fx, new(), &tick(fx, 0)).await;
    assert_eq!(ticked(fx, new(), &asked()).await.id, id("a"));
    ticked(fx, request(Q, "c"), &tick_of_another(fx, 1)).await;
    for task in fx.take(3).await {
        fx.settled(&task, DONE).await;
    }
    let before = fx.raw().await;
    assert_eq!(ticked(fx, new(), &asked()).await.id, id("a"));
    before.assert_same(&fx.raw().await);
}

/// The contract of `start_ticks`: the first start counts, until there is a tick.
pub(super) async fn a_period_starts_once(fx: &Fixture) {
    let every = |secs| Tick {
        gap: Duration::from_secs(30),
        ..tick(fx, secs)
    };
    let start = async |secs| {
        let start = TickStart {
            queue: queue(Q),
            entry: entry("e"),
            at: second(fx, secs),
            keep: HOUR,
        };
        let marks = fx.storage.start_ticks(&[start]).await;
        marks.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let started = TickMark {
        at: second(fx, 0).timestamp(),
        token: 0,
        outcome: TickOutcome::Started,
    };
    assert_eq!(start(0).await, [Some(started)]);
    assert_eq!(start(5).await, [Some(started)]);
    assert_eq!(mark_text(fx).await, Some(started.to_string()));
    let ttl = fx.ttl_of(&mark_key(&entry("e"))).await.unwrap();
    assert!((3540..=3600).contains(&ttl), "{ttl}");
    let raw = fx.raw().await;
    assert_eq!(raw.state["asynq:queues"], RawValue::Set([bytes(Q)].into()));

    taken(fx, request(Q, "a"), &every(0), second(fx, 0)).await;
    taken(fx, request(Q, "a"), &every(29), second(fx, 0)).await;
    // A start is no tick of the request that has its token.
    taken(fx, request(Q, "a").token(0), &every(0), second(fx, 0)).await;
    ticked(fx, request(Q, "b").token(7), &every(30)).await;
    let ticked = TickMark {
        at: second(fx, 30).timestamp(),
        token: 7,
        outcome: TickOutcome::Enqueued,
    };
    assert_eq!(start(60).await, [Some(ticked)]);
    for damage in [string("x"), list(&["x"])] {
        fx.edit(|state| drop(state.insert(mark_key(&entry("e")), damage.clone())))
            .await;
        let before = fx.raw().await;
        assert_eq!(start(60).await, [None], "{damage:?}");
        before.assert_same(&fx.raw().await);
    }
    assert!(fx.storage.start_ticks(&[]).await.is_empty());
    // One after the tick was written by a wrong clock.
    fx.edit(|state| drop(state.remove(&mark_key(&entry("e"))))).await;
    start(100).await;
    let early = request(Q, "c").token(8);
    assert!(matches!(try_tick(fx, early, &every(90)).await, Ok(Ticked::Enqueued(_))));
    assert_eq!(last(fx, &[Q], &entry("e")).await, [Some(second(fx, 90))]);
}

fn replacing(fx: &Fixture, secs: i64) -> Tick {
    Tick {
        on_conflict: OnConflict::ReplaceFinished,
        ..tick(fx, secs)
    }
}

/// The contract of `OnConflict::ReplaceFinished`: a task that is over makes room, with all that it had.
pub(super) async fn a_finished_task_makes_room_for_that_of_a_tick(fx: &Fixture) {
    let states = [TaskState::Archived, TaskState::Completed];
    for state in states {
        fx.task_in(state.as_str(), state).await;
    }
    for (n, state) in states.into_iter().enumerate() {
        let n = i64::try_from(n).unwrap();
        let name = state.as_str();
        let answer = try_tick(fx, request(Q, name), &tick(fx, 10 * n)).await;
        assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
        let new = request(Q, name).payload(name.to_owned()).unique(HOUR).token(7);
        ticked(fx, new.clone(), &replacing(fx, 10 * n + 1)).await;
        let raw = fx.raw().await;
        assert_eq!(raw.task(name).state(), "pending");
        assert_eq!(
            raw.task(name).names(),
            ["msg", "pending_since", "state", "unique_key", "x:enq"]
        );
        assert!(raw.zset(name).is_empty());
        // Sent again it is answered alike, and the new task stays.
        ticked(fx, new, &replacing(fx, 10 * n + 1)).await;
        raw.assert_same(&fx.raw().await);
    }
    assert_eq!(fx.raw().await.list("pending"), ["completed", "archived"]);
}

/// A lock that the finished task holds goes with it; one that another task holds decides the tick.
pub(super) async fn the_lock_of_a_finished_task_makes_room_too(fx: &Fixture) {
    let unique = |id: &str, payload: &str| request(Q, id).payload(payload.to_owned()).unique(HOUR);
    let lock = |payload: &str| asynq_core::keys::unique(&queue(Q), "t", Some(payload.as_bytes()));
    for (id, payload) in [("a", "p"), ("b", "r")] {
        let old = fx.running(unique(id, payload)).await;
        fx.settled(&old, archive()).await;
        assert_eq!(fx.raw().await.state[&lock(payload)], string(id));
    }
    fx.enqueue(unique("owner", "q")).await;
    let before = fx.raw().await;
    let answer = try_tick(fx, unique("a", "q"), &replacing(fx, 0)).await;
    assert!(matches!(answer, Err(EnqueueError::DuplicateTask)), "{answer:?}");
    assert_eq!(fx.raw().await.zset("archived"), before.zset("archived"));
    assert_eq!(fx.raw().await.task("a").names(), before.task("a").names());

    ticked(fx, unique("a", "p"), &replacing(fx, 1)).await;
    assert_eq!(fx.raw().await.state[&lock("p")], string("a"));
    ticked(fx, unique("b", "s"), &replacing(fx, 2)).await;
    let raw = fx.raw().await;
    assert!(!raw.state.contains_key(&lock("r")), "its lock stays behind");
    assert_eq!(raw.state[&lock("s")], string("b"));
}

/// No other task makes room, nor one that does not stand where its state says.
pub(super) async fn only_a_finished_task_makes_room(fx: &Fixture) {
    let states = [
        TaskState::Active,
        TaskState::Retry,
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Aggregating,
    ];
    fx.task_in("elsewhere", TaskState::Archived).await;
    for (n, state) in states.into_iter().enumerate() {
        fx.task_in(state.as_str(), state).await;
        let before = fx.raw().await;
        let tick = replacing(fx, i64::try_from(n).unwrap());
        let answer = try_tick(fx, request(Q, state.as_str()), &tick).await;
        assert!(
            matches!(answer, Err(EnqueueError::TaskIdConflict)),
            "{state}: {answer:?}"
        );
        let raw = fx.raw().await;
        assert_eq!(raw.task(state.as_str()).state(), state.as_str());
        assert_eq!(raw.task(state.as_str()).names(), before.task(state.as_str()).names());
    }
    fx.leaves_damage();
    fx.edit(|state| drop(state.remove(&key("archived")))).await;
    let answer = try_tick(fx, request(Q, "elsewhere"), &replacing(fx, 10)).await;
    assert!(matches!(answer, Err(EnqueueError::TaskIdConflict)), "{answer:?}");
    assert_eq!(fx.raw().await.task("elsewhere").state(), "archived");
    for suffix in ["archived", "completed"] {
        fx.edit(|state| drop(state.insert(key(suffix), string("x")))).await;
        let answer = try_tick(fx, request(Q, "x"), &replacing(fx, 11)).await;
        assert!(
            matches!(&answer, Err(EnqueueError::Broker(BrokerError::WrongType { key: bad })) if *bad == key(suffix)),
            "{answer:?}"
        );
        fx.edit(|state| drop(state.remove(&key(suffix)))).await;
    }
}

/// A task that our request created before its tick was forgotten is ours.
pub(super) async fn a_task_of_the_same_request_is_no_conflict(fx: &Fixture) {
    let new = || request(Q, "a").token(7);
    ticked(fx, new(), &tick(fx, 0)).await;
    fx.edit(|state| drop(state.remove(&mark_key(&entry("e"))))).await;
    ticked(fx, new(), &tick(fx, 0)).await;
    assert_eq!(mark_text(fx).await, Some(mark(second(fx, 0), 7, TickOutcome::Enqueued)));
    assert_eq!(fx.raw().await.list("pending"), ["a"]);
}

/// rules.md#one-tick-one-task: a tick is remembered for so long, and each is for itself.
pub(super) async fn a_mark_lives_as_long_as_asked(fx: &Fixture) {
    let keep = |secs, millis| Tick {
        keep: Duration::from_millis(millis),
        ..tick(fx, secs)
    };
    let lives = async |from: i64, to: i64| {
        let ttl = fx.ttl_of(&mark_key(&entry("e"))).await.unwrap();
        // A real server counts on while the case runs.
        assert!((from..=to).contains(&ttl), "{ttl}");
    };
    ticked(fx, request(Q, "a"), &tick(fx, 0)).await;
    lives(WEEK - 60, WEEK).await;
    ticked(fx, request(Q, "b"), &keep(1, 500_000)).await;
    lives(440, 500).await;
    ticked(fx, request(Q, "c"), &keep(2, u64::MAX)).await;
    let century = 100 * 365 * 24 * 3600;
    lives(century - 60, century).await;
}

/// A tick that was forgotten is open again.
pub(super) async fn a_mark_ends(fx: &Fixture) {
    let brief = Tick {
        keep: Duration::from_secs(1),
        ..tick(fx, 0)
    };
    ticked(fx, request(Q, "a"), &brief).await;
    if fx.has_virtual_time() {
        fx.advance(1);
    } else {
        fx.edit(|state| drop(state.remove(&mark_key(&entry("e"))))).await;
    }
    assert_eq!(last(fx, &[Q], &entry("e")).await, [None]);
    ticked(fx, request(Q, "b"), &brief).await;
}

/// differences.md#deleted-queues: the mark that a deleted queue leaves makes no queue of that name, and decides its
/// tick as before, until it ends.
pub(super) async fn a_mark_outlives_its_queue(fx: &Fixture) {
    ticked(fx, request(Q, "a"), &tick(fx, 0)).await;
    fx.storage.delete_queue(&queue(Q), true).await.unwrap();
    assert_eq!(fx.audit(&queue(Q)).await, []);
    let answer = try_tick(fx, request(Q, "b"), &tick_of_another(fx, 0)).await;
    assert!(matches!(answer, Ok(Ticked::Taken { .. })), "{answer:?}");
    ticked(fx, request(Q, "b"), &tick(fx, 60)).await;
}

/// rules.md#one-tick-one-task: an entry is known in each queue for itself, and no entry is another.
pub(super) async fn entries_and_queues_are_independent(fx: &Fixture) {
    let other = Tick {
        entry: entry("other"),
        ..tick(fx, 0)
    };
    ticked(fx, request(Q, "a"), &tick(fx, 5)).await;
    ticked(fx, request(Q, "b"), &other).await;
    ticked(fx, request("q2", "a"), &tick(fx, 3)).await;
    let queues = ["q2", "unknown", Q, "q2"];
    let told = last(fx, &queues, &entry("e")).await;
    assert_eq!(
        told,
        [Some(second(fx, 3)), None, Some(second(fx, 5)), Some(second(fx, 3))]
    );
    let told = last(fx, &queues, &entry("other")).await;
    assert_eq!(told, [None, None, Some(second(fx, 0)), None]);
    assert!(fx.storage.last_ticks(&[]).await.is_empty());
}

/// Any number of entries is answered, in order.
pub(super) async fn any_number_of_entries_is_read(fx: &Fixture) {
    let name = |n: usize| entry(&n.to_string());
    fx.enqueue_ids(&["a"]).await;
    fx.edit(|state| {
        for n in (0..1200).step_by(7) {
            let text = mark(second(fx, 0), n as u64, TickOutcome::Enqueued);
            state.insert(mark_key(&name(n)), string(&text));
        }
    })
    .await;
    let entries: Vec<_> = (0..1200).map(|n| (queue(Q), name(n))).collect();
    let answers = fx.storage.last_ticks(&entries).await;
    assert_eq!(answers.len(), 1200);
    for (n, answer) in answers.into_iter().enumerate() {
        let at = answer.unwrap().map(|mark| mark.instant());
        assert_eq!(at, (n % 7 == 0).then(|| second(fx, 0)), "{n}");
    }
}

/// The task of a tick may wait for its time or in a group, with a lock or without.
pub(super) async fn a_tick_may_enqueue_to_any_place(fx: &Fixture) {
    let unique = |id: &str| request(Q, id).payload(id.to_owned()).unique(HOUR);
    let info = ticked(fx, unique("a").at(fx.after(60)), &tick(fx, 0)).await;
    assert_eq!(info.state, TaskState::Scheduled);
    let info = ticked(fx, request(Q, "b").group("g"), &tick(fx, 1)).await;
    assert_eq!(info.state, TaskState::Aggregating);
    ticked(fx, unique("c").group("g"), &tick(fx, 2)).await;
    let raw = fx.raw().await;
    assert_eq!(raw.zset("scheduled"), [("a".to_owned(), fx.secs() + 60)]);
    let in_group: Vec<_> = raw.zset("g:g").into_iter().map(|(id, _)| id).collect();
    assert_eq!(in_group, ["b", "c"]);
    let lock = asynq_core::keys::unique(&queue(Q), "t", Some(b"a"));
    assert_eq!(raw.state[&lock], string("a"));
}

/// A value that is no mark counts as none and is written over: no tick is lost. It is not audited as damage of the
/// queue unless it is of the wrong type.
pub(super) async fn a_damaged_mark_is_replaced(fx: &Fixture) {
    let key = mark_key(&entry("e"));
    let year = fx.secs() + 366 * 24 * 3600;
    let damaged = [
        string(""),
        string("x"),
        string(&year.to_string()),
        string(&format!("{year} 7 1")),
        string(&format!("{year} 0000000000000007 2")),
        string(&format!("{year} s")),
        string(&format!("{year}000000 0000000000000007 1")),
        list(&["x"]),
        zset(&[("x", 1)]),
    ];
    for (n, damage) in damaged.into_iter().enumerate() {
        let at = i64::try_from(n).unwrap();
        fx.edit(|state| drop(state.insert(key.clone(), damage.clone()))).await;
        assert_eq!(last(fx, &[Q], &entry("e")).await, [None], "{damage:?}");
        ticked(fx, request(Q, &format!("id{n}")), &tick(fx, at)).await;
        assert_eq!(last(fx, &[Q], &entry("e")).await, [Some(second(fx, at))], "{damage:?}");
        taken(fx, request(Q, "z"), &tick(fx, at), second(fx, at)).await;
    }
}

/// rules.md#check-then-write: a container of the wrong type refuses the call, and the tick stays open.
pub(super) async fn a_refused_task_leaves_the_tick_open(fx: &Fixture) {
    fx.edit(|state| drop(state.insert(key("scheduled"), string("x")))).await;
    let new = || request(Q, "a").at(fx.after(60));
    let answer = try_tick(fx, new(), &tick(fx, 0)).await;
    assert!(
        matches!(&answer, Err(EnqueueError::Broker(BrokerError::WrongType { key: bad })) if *bad == key("scheduled")),
        "{answer:?}"
    );
    assert_eq!(mark_text(fx).await, None);
    let foreign = EnqueueRequest {
        unique_ttl: Some(HOUR),
        ..request(Q, "a").build()
    };
    let answer = fx.storage.enqueue_tick(foreign, &tick(fx, 0)).await;
    assert!(
        matches!(answer, Err(EnqueueError::Broker(BrokerError::Refused { .. }))),
        "{answer:?}"
    );
    assert_eq!(mark_text(fx).await, None);
    fx.edit(|state| drop(state.remove(&key("scheduled")))).await;
    ticked(fx, new(), &tick(fx, 0)).await;
}

/// Times with a fraction of a second change nothing in how a request is known again.
pub(super) async fn a_repeated_tick_with_exact_times_is_answered_alike(fx: &Fixture) {
    let at = second(fx, 60) + chrono::TimeDelta::milliseconds(400);
    let new = || request(Q, "a").at(at).exact_deadline(at).token(9);
    ticked(fx, new(), &tick(fx, 0)).await;
    let before = fx.raw().await;
    ticked(fx, new(), &tick(fx, 0)).await;
    before.assert_same(&fx.raw().await);
    let millis = at.timestamp_millis().to_string();
    for field in ["x:at", "x:deadline"] {
        assert_eq!(before.task("a").field(field), Some(millis.clone()));
    }
    assert_eq!(mark_text(fx).await, Some(mark(second(fx, 0), 9, TickOutcome::Enqueued)));
}

/// The task of a tick is told as any other to those who wait for one.
pub(super) async fn a_tick_wakes_those_who_wait(fx: &Fixture) {
    let mut watch = fx
        .storage
        .watch(&[queue(Q)], asynq_core::broker::WatchKind::Pending)
        .await;
    if let Ok(watch) = &mut watch {
        ticked(fx, request(Q, "a"), &tick(fx, 0)).await;
        assert_eq!(watch.changed().await, asynq_core::broker::Wake::Changed);
    }
}

/// A closed broker says so.
pub(super) async fn a_closed_broker_takes_no_ticks(fx: &Fixture) {
    fx.storage.close().await;
    let answer = try_tick(fx, request(Q, "a"), &tick(fx, 0)).await;
    assert!(
        matches!(answer, Err(EnqueueError::Broker(BrokerError::Closed))),
        "{answer:?}"
    );
    let answers = fx.storage.last_ticks(&[(queue(Q), entry("e"))]).await;
    assert!(matches!(answers[..], [Err(BrokerError::Closed)]), "{answers:?}");
}
