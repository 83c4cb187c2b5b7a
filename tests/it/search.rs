//! An operator finds tasks by a query and acts on them, on either storage.

use std::{collections::BTreeSet, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

use asynq::{
    Client, Connector, Error, Inspector, Task, TaskInfo, TaskState,
    inspect::{Cursor, ListFilter},
    inspector::{Act, ActLimits, ActProgress, Actor, Count, Found, SearchLimits, TrailEntry},
    memory::MemoryStore,
    query::Query,
    redis::RedisConnectionType,
};
use asynq_testing::{
    faulty::{Fault, Faults, Op},
    redis::RedisServer,
};
use chrono::{TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};

macro_rules! on_both_storages {
    ($($name:ident)*) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::MemoryStore::new()).await;
                }
            )*
        }
        mod redis {
            $(
                #[tokio::test]
                async fn $name() {
                    let server = super::RedisServer::start().await;
                    super::$name(super::RedisConnectionType::single(server.url()).unwrap()).await;
                }
            )*
        }
    };
}

on_both_storages! {
    a_stream_gives_every_task_while_the_program_deletes_them
    a_search_goes_through_queues_states_and_groups
    a_search_is_bounded_and_goes_on
    queues_without_such_tasks_cost_time_too
    a_cursor_of_something_else_is_refused
    tasks_are_counted_with_and_without_a_look
    the_tasks_that_a_query_finds_are_acted_on
    a_task_that_moves_between_the_look_and_the_act_is_left_alone
    an_act_by_query_ends_where_it_is_told_to
    an_act_by_query_leaves_its_numbers_in_the_audit_trail
    any_queue_can_be_searched
    an_act_by_query_goes_on_after_any_failed_call
    a_queue_that_is_deleted_hinders_no_act
    a_task_that_fails_meanwhile_is_not_run_again
}

async fn open(storage: impl Connector + Clone) -> (Client, Inspector) {
    let client = Client::new(storage.clone()).await.unwrap();
    (client, Inspector::connect(storage).await.unwrap())
}

fn query(text: &str) -> Query {
    text.parse().unwrap()
}

fn payload(user: u32) -> String {
    format!(r#"{{"user_id":{user}}}"#)
}

async fn mails(client: &Client, queue: &str, count: u32) {
    for user in 0..count {
        let task = Task::new("email:send", payload(user).as_bytes())
            .unwrap()
            .with_queue(queue);
        client.enqueue(task.with_task_id(format!("m{user:04}"))).await.unwrap();
    }
}

async fn later(client: &Client, queue: &str, id: &str, user: u32) {
    let task = Task::new("sms", payload(user).as_bytes())
        .unwrap()
        .with_queue(queue)
        .with_task_id(id);
    client.enqueue_at(task, Utc::now() + TimeDelta::hours(1)).await.unwrap();
}

fn ids(tasks: &[TaskInfo]) -> Vec<&str> {
    tasks.iter().map(|task| task.id.as_str()).collect()
}

/// All that a search finds, in as many calls as it takes.
async fn found(inspector: &Inspector, text: &str, limits: &SearchLimits) -> (Vec<TaskInfo>, u64, u32) {
    let (mut tasks, mut looked_at, mut calls, mut next) = (Vec::new(), 0, 0, Some(Cursor::default()));
    while let Some(from) = next {
        let Found {
            tasks: more,
            looked_at: looked,
            next: then,
            ..
        } = inspector.search(&query(text), limits, &from).await.unwrap();
        assert!(more.len() <= limits.found);
        tasks.extend(more);
        looked_at += looked;
        next = then;
        calls += 1;
        assert!(calls < 1000, "it does not end");
    }
    (tasks, looked_at, calls)
}

async fn a_stream_gives_every_task_while_the_program_deletes_them(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 450).await;
    let mut tasks = pin!(
        inspector
            .scan_tasks("default", &ListFilter::State(TaskState::Pending))
            .unwrap()
    );
    let mut read = Vec::new();
    while let Some(task) = tasks.try_next().await.unwrap() {
        if read.len() % 3 != 0 {
            inspector.delete_task("default", task.id.as_str()).await.unwrap();
        }
        read.push(task);
    }
    let expected: Vec<_> = (0..450).map(|n| format!("m{n:04}")).collect();
    assert_eq!(ids(&read), expected);
    assert_eq!(inspector.get_queue_stats("default").await.unwrap().pending, 150);
    let mut unknown = pin!(
        inspector
            .scan_tasks("never", &ListFilter::State(TaskState::Pending))
            .unwrap()
    );
    assert!(unknown.next().await.unwrap().is_err());
    assert!(
        inspector
            .scan_tasks(" ", &ListFilter::State(TaskState::Pending))
            .is_err()
    );
}

/// Three queues with tasks in several states.
async fn varied(client: &Client, inspector: &Inspector) {
    for queue in ["a", "b", "c"] {
        mails(client, queue, 3).await;
        later(client, queue, "s1", 1).await;
        for group in ["g1", "g2"] {
            let task = Task::new("part", payload(1).as_bytes())
                .unwrap()
                .with_queue(queue)
                .with_group(group);
            client.enqueue(task.with_task_id(group)).await.unwrap();
        }
        later(client, queue, "x1", 1).await;
        inspector.archive_task(queue, "x1").await.unwrap();
    }
}

async fn a_search_goes_through_queues_states_and_groups(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    varied(&client, &inspector).await;
    let of = ["m0001", "g1", "g2", "s1", "x1"];
    for size in [1, 2, 100] {
        let limits = SearchLimits::default().found(size);
        let (tasks, looked_at, _) = found(&inspector, "payload.user_id=1", &limits).await;
        let expected: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .flat_map(|queue| of.map(|id| (queue, id)))
            .collect();
        let got: Vec<_> = tasks
            .iter()
            .map(|task| (task.queue.as_str(), task.id.as_str()))
            .collect();
        assert_eq!(got, expected, "{size}");
        assert!(looked_at >= 21);
    }
    // Those that cannot match are not looked at.
    let limits = SearchLimits::default();
    let (tasks, looked_at, _) = found(&inspector, "queue=b state=pending type=email:send", &limits).await;
    assert_eq!((tasks.len(), looked_at), (3, 3));
    let (tasks, looked_at, _) = found(&inspector, "state=aggregating group=g2", &limits).await;
    assert_eq!((tasks.len(), looked_at), (3, 6));
    let (tasks, ..) = found(&inspector, "age<1h state!=scheduled", &limits).await;
    assert_eq!(tasks.len(), 18);
    let all: Vec<TaskInfo> = inspector
        .search_all(&query("payload.user_id=1"))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(all.len(), 15);
    assert_eq!(found(&inspector, "state=retry", &limits).await.0, []);
}

async fn a_search_is_bounded_and_goes_on(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 1000).await;
    let (text, every) = ("payload.user_id>=0", |n: usize| SearchLimits::default().found(n));
    for (limits, most) in [
        (every(30), 35),
        (every(1000).looked_at(1), 7),
        (every(1000).looked_at(450), 4),
        (every(1000).time(Duration::ZERO), 12),
        (every(1000).bytes(4000), 20),
        (every(1000), 2),
        (every(1000).time(Duration::MAX), 2),
    ] {
        let (tasks, looked_at, calls) = found(&inspector, text, &limits).await;
        let different: BTreeSet<_> = ids(&tasks).into_iter().collect();
        assert_eq!((tasks.len(), different.len()), (1000, 1000), "{limits:?}");
        assert_eq!(looked_at, 1000);
        assert!((most / 3..=most).contains(&calls), "{limits:?}: {calls} calls");
    }
    let (rare, limits) = (query("payload.user_id=999"), every(1).looked_at(200));
    let first = inspector.search(&rare, &limits, &Cursor::default()).await.unwrap();
    assert_eq!((first.tasks.len(), first.looked_at, first.undecided), (0, 200, 0));
    assert!(first.next.is_some());
    // What is not known is told.
    let first = inspector
        .search(&query("progress>1"), &every(1), &Cursor::default())
        .await
        .unwrap();
    assert_eq!((first.tasks.len(), first.looked_at, first.undecided), (0, 1000, 1000));
}

async fn queues_without_such_tasks_cost_time_too(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    for queue in ["a", "b", "c", "d"] {
        mails(&client, queue, 2).await;
    }
    let no_time = SearchLimits::default().time(Duration::ZERO);
    // A call asks one queue for its groups, and another one for the place where the next call goes on.
    let (tasks, looked_at, calls) = found(&inspector, "state=aggregating", &no_time).await;
    assert_eq!((tasks.len(), looked_at, calls), (0, 0, 2));
    let count = inspector.count(&query("state=pending"), &no_time).await.unwrap();
    assert_eq!((count.tasks, count.is_complete), (2, false));
    let count = inspector.count(&query("state=aggregating"), &no_time).await.unwrap();
    assert_eq!((count.tasks, count.is_complete), (0, false));
}

async fn a_cursor_of_something_else_is_refused(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 3).await;
    for text in ["", "17", "{}", r#"{"queue":"q","state":"odd"}"#] {
        let from = Cursor(Some(text.to_owned()));
        let refused = inspector
            .search(&query("type=x"), &SearchLimits::default(), &from)
            .await;
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(
            error.to_string().contains("cursor is not one that was returned before"),
            "{error}"
        );
    }
    // The queue is gone meanwhile.
    let limits = SearchLimits::default().found(1);
    let first = inspector
        .search(&query("type=email:send"), &limits, &Cursor::default())
        .await
        .unwrap();
    inspector.delete_queue("default", true).await.unwrap();
    let second = inspector
        .search(&query("type=email:send"), &limits, &first.next.unwrap())
        .await
        .unwrap();
    assert_eq!((second.tasks.len(), second.next), (0, None));
}

async fn tasks_are_counted_with_and_without_a_look(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    varied(&client, &inspector).await;
    mails(&client, "large", 600).await;
    let limits = SearchLimits::default();
    for (text, tasks, looked_at) in [
        ("queue=large", 600, 0),
        ("queue=a,b state=pending,archived,aggregating", 12, 0),
        ("type=email:send queue=a", 3, 7),
        ("state=archived or type=sms", 6, 618),
    ] {
        let count = inspector.count(&query(text), &limits).await.unwrap();
        assert_eq!((count.tasks, count.looked_at), (tasks, looked_at), "{text}");
        assert!(count.is_complete);
        assert_eq!(count.to_string(), format!("{tasks} tasks"));
    }
    let some = inspector
        .count(&query("type=email:send queue=large"), &limits.looked_at(300))
        .await
        .unwrap();
    assert!(!some.is_complete);
    assert_eq!(some.to_string(), "at least 200 tasks; looked at 200");
    let every = inspector
        .count(&Query::everything(), &SearchLimits::default())
        .await
        .unwrap();
    assert_eq!((every.tasks, every.looked_at), (621, 0));
    assert_eq!(Count::default().tasks, 0);
}

/// Acts until the end, and returns the numbers.
async fn act(inspector: &Inspector, text: &str, act: Act, limits: ActLimits) -> ActProgress {
    let mut run = inspector.act_by_query(&query(text), act, limits).unwrap();
    let mut last = ActProgress::default();
    while let Some(progress) = run.next().await.unwrap() {
        assert!(progress.done >= last.done && progress.looked_at >= last.looked_at);
        last = progress;
    }
    assert!(last.has_ended);
    assert_eq!(run.progress(), last);
    last
}

async fn the_tasks_that_a_query_finds_are_acted_on(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 1100).await;
    varied(&client, &inspector).await;
    let limits = SearchLimits::default();
    // Two of three, and one of three by and by.
    let text = "queue=default payload.user_id>=100 payload.user_id<900";
    let preview = inspector.preview(&query(text), Act::Archive, &limits).await.unwrap();
    assert_eq!((preview.tasks, preview.is_complete), (800, true));
    let done = act(&inspector, text, Act::Archive, ActLimits::default()).await;
    assert_eq!((done.looked_at, done.found, done.done, done.moved), (1100, 800, 800, 0));
    let stats = inspector.get_queue_stats("default").await.unwrap();
    assert_eq!((stats.pending, stats.archived), (300, 800));
    let done = act(&inspector, "queue=default id$=7", Act::Run, ActLimits::default()).await;
    assert_eq!((done.looked_at, done.done), (800, 80));
    // In every state in which it is possible; a group that is empty goes.
    let before = inspector
        .preview(&query("payload.user_id=1 queue!=default"), Act::Delete, &limits)
        .await
        .unwrap();
    assert_eq!(before.tasks, 15);
    let done = act(
        &inspector,
        "payload.user_id=1 queue!=default",
        Act::Delete,
        ActLimits::default(),
    )
    .await;
    assert_eq!((done.found, done.done), (15, 15));
    assert_eq!(inspector.list_groups("a").await.unwrap(), []);
    let none = inspector
        .count(&query("payload.user_id=1 queue!=default"), &limits)
        .await
        .unwrap();
    assert_eq!((none.tasks, none.is_complete), (0, true));
    // What is not known is left alone.
    let done = act(
        &inspector,
        "progress<50 queue=default",
        Act::Delete,
        ActLimits::default(),
    )
    .await;
    assert_eq!((done.found, done.done, done.undecided), (0, 0, 1100));
}

async fn a_task_that_moves_between_the_look_and_the_act_is_left_alone(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    for id in ["a", "b", "c", "d"] {
        later(&client, "default", id, 1).await;
    }
    let mut run = inspector
        .act_by_query(&query("type=sms"), Act::Archive, ActLimits::default())
        .unwrap();
    let looked = run.next().await.unwrap().unwrap();
    assert_eq!((looked.looked_at, looked.found, looked.done), (4, 4, 0));
    inspector.run_task("default", "a").await.unwrap();
    inspector.update_task_payload("default", "b", b"other").await.unwrap();
    let at = Utc::now() + TimeDelta::hours(7);
    inspector.reschedule_task("default", "c", at).await.unwrap();
    let mut last = looked;
    while let Some(progress) = run.next().await.unwrap() {
        last = progress;
    }
    assert_eq!((last.done, last.moved), (1, 3));
    for (id, state) in [
        ("a", TaskState::Pending),
        ("b", TaskState::Scheduled),
        ("d", TaskState::Archived),
    ] {
        assert_eq!(
            inspector.get_task_info("default", id).await.unwrap().state,
            state,
            "{id}"
        );
    }
}

async fn an_act_by_query_ends_where_it_is_told_to(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 500).await;
    let done = act(
        &inspector,
        "type=email:send",
        Act::Delete,
        ActLimits::default().tasks(230),
    )
    .await;
    assert_eq!(done.done, 230);
    assert_eq!(inspector.get_queue_stats("default").await.unwrap().pending, 270);
    // Stopped after the first part: with 80 a second, a part has 20.
    let rate = ActLimits::default().rate(NonZeroU32::new(80).unwrap());
    let mut run = inspector
        .act_by_query(&query("type=email:send"), Act::Delete, rate)
        .unwrap();
    run.next().await.unwrap();
    assert_eq!(run.next().await.unwrap().unwrap().done, 20);
    assert_eq!(run.stop().await.done, 20);
    assert_eq!(inspector.get_queue_stats("default").await.unwrap().pending, 250);
    // As a stream, which is dropped.
    let run = inspector
        .act_by_query(&query("type=email:send"), Act::Delete, ActLimits::default())
        .unwrap();
    let mut numbers = pin!(run.into_stream());
    assert_eq!(numbers.try_next().await.unwrap().unwrap().done, 0);
    assert_eq!(numbers.try_next().await.unwrap().unwrap().done, 200);
}

async fn an_act_by_query_leaves_its_numbers_in_the_audit_trail(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    mails(&client, "default", 10).await;
    let strict = inspector.requiring_reason();
    let refused = strict.act_by_query(&query("id$=7"), Act::Delete, ActLimits::default());
    assert_eq!(
        refused.unwrap_err().to_string(),
        "reason must contain one or more characters"
    );
    let ann = strict.acting_as(Actor::new("ann").with_reason("ticket 7")).unwrap();
    act(&ann, "id$=7", Act::Delete, ActLimits::default()).await;
    let nothing = act(&ann, "id$=7", Act::Delete, ActLimits::default()).await;
    assert_eq!(nothing.found, 0);
    // Dropped before anything was acted on.
    let mut run = ann
        .act_by_query(&query("id^=m"), Act::Archive, ActLimits::default())
        .unwrap();
    run.next().await.unwrap();
    drop(run);
    let trail: Vec<TrailEntry> = ann.audit_trail(Cursor::default(), 10).await.unwrap().items;
    let told: Vec<_> = trail
        .iter()
        .rev()
        .map(|entry| {
            (
                entry.act.as_str(),
                entry.tasks.as_deref(),
                entry.detail.as_deref().unwrap_or(""),
                entry.changed,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("delete_by_query", Some("id$=7"), "begun", None),
            (
                "delete_by_query",
                Some("id$=7"),
                "complete; looked at 10, found 1, moved 0, undecided 0",
                Some(1)
            ),
        ]
    );
    assert!(
        trail
            .iter()
            .all(|entry| entry.actor.as_ref().is_some_and(|actor| actor.name == "ann"))
    );
    // Dropped half-way.
    let mut run = ann
        .act_by_query(&query("id^=m"), Act::Archive, ActLimits::default().tasks(5))
        .unwrap();
    run.next().await.unwrap();
    run.next().await.unwrap();
    drop(run);
    let entry = loop {
        let newest = ann.audit_trail(Cursor::default(), 1).await.unwrap().items.remove(0);
        if newest.changed.is_some() && newest.act == "archive_by_query" {
            break newest;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(entry.changed, Some(5));
}

async fn any_queue_can_be_searched(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    let names = ["a b", "ä€", "a:b", "a/b#c", "{a}", "a\"b\\", "a}b"];
    for name in names {
        mails(&client, name, 3).await;
    }
    let (tasks, ..) = found(&inspector, "id$=1", &SearchLimits::default().found(1)).await;
    assert_eq!(tasks.len(), names.len());
    let done = act(&inspector, "id$=1", Act::Archive, ActLimits::default()).await;
    assert_eq!(done.done, names.len() as u64);
    for name in names {
        assert_eq!(inspector.get_queue_stats(name).await.unwrap().archived, 1, "{name}");
    }
}

/// Each call that the act makes fails once, and one time its answer is lost.
async fn an_act_by_query_goes_on_after_any_failed_call(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage.clone()).await;
    varied(&client, &inspector).await;
    let faults = Faults::new();
    let connected = storage.connect(storage.env()).await.unwrap();
    let faulty = Inspector::new(Arc::new(faults.around(connected)));
    for (act, count) in [(Act::Archive, 12), (Act::Run, 15)] {
        let mut run = faulty
            .act_by_query(&query("payload.user_id=1"), act, ActLimits::default())
            .unwrap();
        let (mut failures, mut calls) = (0, 0);
        loop {
            // Every second call.
            for op in [Op::Queues, Op::GroupInfos, Op::ScanTasks, Op::ActOnThese] {
                if calls % 2 == 0 {
                    faults.next(op, Fault::unavailable());
                }
            }
            calls += 1;
            match run.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    assert!(error.to_string().contains("not reachable"), "{error}");
                    failures += 1;
                }
            }
            faults.clear();
        }
        let progress = run.progress();
        assert_eq!((progress.done, progress.moved), (count, 0), "{act}");
        assert!(failures > 3, "{failures}");
    }
    let trail = inspector.audit_trail(Cursor::default(), 1).await.unwrap().items;
    assert_eq!((trail[0].failure.as_ref(), trail[0].changed), (None, Some(15)));
    // The answer is lost: the act took effect, and its tasks have moved.
    let mut run = faulty
        .act_by_query(&query("state=pending type=sms"), Act::Delete, ActLimits::default())
        .unwrap();
    run.next().await.unwrap();
    faults.next(Op::ActOnThese, Fault::LoseReply);
    run.next().await.unwrap_err();
    while run.next().await.unwrap().is_some() {}
    assert_eq!(
        (run.progress().found, run.progress().done + run.progress().moved),
        (6, 6)
    );
    let count = inspector
        .count(&query("type=sms"), &SearchLimits::default())
        .await
        .unwrap();
    assert_eq!(count.tasks, 0);
}

async fn a_queue_that_is_deleted_hinders_no_act(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage).await;
    for queue in ["a", "b"] {
        mails(&client, queue, 3).await;
    }
    let mut run = inspector
        .act_by_query(&query("type=email:send"), Act::Delete, ActLimits::default())
        .unwrap();
    assert_eq!(run.next().await.unwrap().unwrap().found, 3);
    inspector.delete_queue("a", true).await.unwrap();
    while run.next().await.unwrap().is_some() {}
    assert_eq!((run.progress().done, run.progress().moved), (3, 3));
}

async fn a_task_that_fails_meanwhile_is_not_run_again(storage: impl Connector + Clone) {
    let (client, inspector) = open(storage.clone()).await;
    later(&client, "default", "a", 1).await;
    let mut run = inspector
        .act_by_query(&query("type=sms"), Act::Run, ActLimits::default())
        .unwrap();
    let mut progress = run.next().await.unwrap().unwrap();
    while progress.done == 0 {
        progress = run.next().await.unwrap().unwrap();
    }
    // Whole seconds are stored.
    let began = Utc::now().timestamp();
    while Utc::now().timestamp() <= began {
        tokio::task::yield_now().await;
    }
    let system = asynq::AsynqSystem::builder(storage)
        .handler(|_: Task| std::future::ready(asynq::Result::Err(Error::other("not yet"))))
        .spawn()
        .await
        .unwrap();
    while inspector.get_task_info("default", "a").await.unwrap().state != TaskState::Retry {
        tokio::task::yield_now().await;
    }
    system.shutdown().await;
    while run.next().await.unwrap().is_some() {}
    assert_eq!((run.progress().done, run.progress().moved), (1, 1));
    assert_eq!(
        inspector.get_task_info("default", "a").await.unwrap().state,
        TaskState::Retry
    );
}
