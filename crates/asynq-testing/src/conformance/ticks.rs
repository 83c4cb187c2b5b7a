//! Ticks of periodic tasks are decided once (SAFETY 10).

use asynq_core::{
    broker::{EnqueueRequest, Tick, Ticked},
    info::TaskInfo,
    keys::own,
    options::TaskOptions,
    periodic::{EntryKey, TickMark, TickOutcome},
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
    answers.into_iter().map(Result::unwrap).collect()
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

/// SAFETY 10: of several schedulers one decides a tick, and one that comes later cannot decide an
/// earlier one.
pub(super) async fn a_tick_is_decided_once(fx: &Fixture) {
    ticked(fx, request(Q, "a"), &tick(fx, 0)).await;
    taken(fx, request(Q, "b"), &tick(fx, 0), second(fx, 0)).await;
    taken(fx, request(Q, "c"), &tick(fx, -1), second(fx, 0)).await;
    ticked(fx, request(Q, "d"), &tick(fx, 1)).await;
    taken(fx, request(Q, "e"), &tick(fx, 0), second(fx, 1)).await;
    assert_eq!(fx.raw().await.list("pending"), ["d", "a"]);
}

/// SAFETY 10: any number at the same time.
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

/// An id that is taken decides the tick too, and leaves no lock behind (G13).
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

/// SAFETY 3: the request sent again is answered as the first time, whatever became of the task.
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

/// SAFETY 3: when another has decided a later tick meanwhile, the task itself tells that the request
/// was carried out; without it the tick is taken.
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

/// A task that our request created before its tick was forgotten is ours.
pub(super) async fn a_task_of_the_same_request_is_no_conflict(fx: &Fixture) {
    let new = || request(Q, "a").token(7);
    ticked(fx, new(), &tick(fx, 0)).await;
    fx.edit(|state| drop(state.remove(&mark_key(&entry("e"))))).await;
    ticked(fx, new(), &tick(fx, 0)).await;
    assert_eq!(mark_text(fx).await, Some(mark(second(fx, 0), 7, TickOutcome::Enqueued)));
    assert_eq!(fx.raw().await.list("pending"), ["a"]);
}

/// SAFETY 10: a tick is remembered for so long, and each is for itself.
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

/// SAFETY 10: an entry is known in each queue for itself, and no entry is another.
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
        assert_eq!(answer.unwrap(), (n % 7 == 0).then(|| second(fx, 0)), "{n}");
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

/// What is no mark counts as none and is written over: no tick is lost. It is not audited as damage of
/// the queue unless it is of the wrong type.
pub(super) async fn a_damaged_mark_is_replaced(fx: &Fixture) {
    let key = mark_key(&entry("e"));
    let year = fx.secs() + 366 * 24 * 3600;
    let damaged = [
        string(""),
        string("x"),
        string(&year.to_string()),
        string(&format!("{year} 7 1")),
        string(&format!("{year} 0000000000000007 2")),
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

/// SAFETY 5: a container of the wrong type refuses the call, and the tick stays open.
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
