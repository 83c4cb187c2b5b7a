//! Acts of an operator: what either side does has the same effect, and the other side sees it.

use std::time::Duration;

use asynq::{
    TaskState,
    broker::Outcome,
    error::BrokerError,
    inspect::ListFilter,
    inspector::Act,
    names::{GroupKey, TaskId},
};
use asynq_core::{
    broker::{LeasedTask, Settlement, Want},
    raw::{RawState, RawValue},
};
use asynq_interop::{GoErrorKind, GoTask};
use asynq_testing::request::{RequestBuilder, batch_of, request};
use chrono::Utc;

use crate::{
    pair::{Pair, queue_name},
    sides::{Producer, Side},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Puts a task into a state; to run for that it must be the only pending one. Returns the task that became active.
pub(crate) async fn put(pair: &Pair, queue: &str, id: &str, state: TaskState) -> Option<LeasedTask> {
    let new: RequestBuilder = request(queue, id).payload(id.to_owned()).retention(3600).unique(HOUR);
    let (new, outcome) = match state {
        TaskState::Scheduled => (new.at(Utc::now() + HOUR), None),
        TaskState::Aggregating => (new.group("g"), None),
        TaskState::Retry => {
            let again = Outcome::Retry {
                at: Utc::now() + HOUR,
                error: "boom".into(),
                is_failure: true,
            };
            (new, Some(again))
        }
        TaskState::Archived => (new, Some(Outcome::Archive { error: "boom".into() })),
        TaskState::Completed => (new, Some(Outcome::Done { retain: true })),
        _ => (new, None),
    };
    for answer in pair.storage.enqueue(&batch_of(vec![new.build()])).await {
        answer.unwrap();
    }
    if outcome.is_none() && state != TaskState::Active {
        return None;
    }
    let want = [Want {
        queue: queue_name(queue),
        max: 1,
    }];
    let mut taken = pair.storage.exchange(&pair.storage.begin(), &[], &want).await.leased;
    let task = taken.pop().unwrap();
    match outcome {
        Some(outcome) => settle(pair, task, outcome).await,
        None => return Some(task),
    }
    None
}

async fn settle(pair: &Pair, task: LeasedTask, outcome: Outcome) {
    let settlement = Settlement {
        lease: task.lease,
        message: task.message,
        outcome,
        run: None,
    };
    let settled = pair.storage.exchange(&pair.storage.begin(), &[settlement], &[]).await;
    settled.settled.into_iter().for_each(|answer| answer.unwrap());
}

/// The fields of a task that do not tell its id, or when it was written.
fn fields(raw: &RawState, queue: &str, id: &str) -> Vec<(String, String)> {
    let Some(RawValue::Hash(fields)) = raw.get(&format!("asynq:{{{queue}}}:t:{id}")) else {
        return Vec::new();
    };
    let kept = fields.iter().filter(|(name, _)| {
        // Go leaves the latency unknown (differences.md#pending-since), and the task bound to its group
        // (differences.md#the-group-field).
        !["msg", "unique_key", "pending_since", "group"].contains(&name.as_str()) && !name.starts_with("x:")
    });
    kept.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect()
}

fn locks(raw: &RawState) -> usize {
    raw.keys().filter(|key| key.contains(":unique:")).count()
}

#[tokio::test]
async fn a_task_that_one_side_archives_or_deletes_is_so_for_the_other() {
    let mut pair = Pair::start().await;
    let queue = queue_name("default");
    let ours_and_gos = |state: TaskState, act: Act| [true, false].map(|ours| (format!("{act} {state} {ours}"), ours));
    for act in [Act::Archive, Act::Delete] {
        for state in TaskState::ALL {
            for (id, ours) in ours_and_gos(state, act) {
                put(&pair, "default", &id, state).await;
                assert_eq!(pair.look("default", &id).await.unwrap().state, state.as_str());
                let task = TaskId::new(&id).unwrap();
                let before = locks(&pair.raw().await);
                let answer = match (act, ours) {
                    (Act::Archive, true) => pair
                        .storage
                        .archive_task(&queue, &task)
                        .await
                        .map_err(|e| e.to_string()),
                    (Act::Archive, false) => pair.go.archive("default", &id).await.map_err(|e| e.to_string()),
                    (_, true) => pair.storage.delete_task(&queue, &task).await.map_err(|e| e.to_string()),
                    (_, false) => pair.go.delete("default", &id).await.map_err(|e| e.to_string()),
                };
                let allowed = match (act, state) {
                    (_, TaskState::Active) | (Act::Archive, TaskState::Archived) => false,
                    // Go's documentation refuses it, and its code does not.
                    (Act::Archive, TaskState::Completed) => !ours,
                    _ => true,
                };
                assert_eq!(answer.is_ok(), allowed, "{id}: {answer:?}");
                let found = pair.look("default", &id).await;
                if !allowed {
                    assert_eq!(found.unwrap().state, state.as_str());
                } else if act == Act::Archive {
                    assert_eq!(found.unwrap().state, "archived");
                } else {
                    assert_eq!(found, None);
                    // A completed task has none any more.
                    let freed = usize::from(state != TaskState::Completed);
                    assert_eq!(locks(&pair.raw().await), before - freed, "{id}");
                }
                // The next one is the only one that can be taken.
                let left = pair.storage.delete_task(&queue, &task).await;
                assert!(matches!(
                    left,
                    Ok(()) | Err(BrokerError::TaskNotFound { .. } | BrokerError::WrongState { .. })
                ));
            }
        }
    }
    // Two active tasks of each act are left.
    assert_eq!(pair.list("default", TaskState::Active).await.len(), 4);
    assert_eq!(pair.breaches().await, []);
    for id in ["nobody", "archive pending true"] {
        let gos = pair.go.delete("default", id).await.unwrap_err();
        assert_eq!(gos.kind, GoErrorKind::TaskNotFound);
        let ours = pair.storage.delete_task(&queue, &TaskId::new(id).unwrap()).await;
        assert!(matches!(ours, Err(BrokerError::TaskNotFound { .. })));
    }
}

/// Each queue has three tasks in each state.
async fn fill(pair: &Pair, queue: &str) {
    let states = TaskState::ALL.into_iter().filter(|state| *state != TaskState::Pending);
    for state in states.chain([TaskState::Pending]) {
        for n in 0..3 {
            put(pair, queue, &format!("{state}{n}"), state).await;
        }
    }
}

#[tokio::test]
async fn an_act_on_all_tasks_has_the_same_effect_on_both_sides() {
    let mut pair = Pair::start().await;
    for act in Act::ALL {
        for state in TaskState::ALL {
            let (ours, gos) = (format!("{act} {state} ours"), format!("{act} {state} gos"));
            let filter = match state {
                TaskState::Aggregating => ListFilter::Group(GroupKey::new("g").unwrap()),
                state => ListFilter::State(state),
            };
            if !act.applies_to(state) {
                let go = pair
                    .go
                    .act_on_all(&format!("{act}_all"), "q", state.as_str(), Some("g"))
                    .await;
                assert_eq!(
                    go.unwrap_err().kind,
                    GoErrorKind::BadInput,
                    "Go has it: {act} all {state}"
                );
                continue;
            }
            for queue in [&ours, &gos] {
                fill(&pair, queue).await;
            }
            let done = pair.storage.act_on_all(&queue_name(&ours), &filter, act).await.unwrap();
            let go = pair
                .go
                .act_on_all(&format!("{act}_all"), &gos, state.as_str(), Some("g"))
                .await;
            assert_eq!((done.done, done.dropped, go.unwrap()), (3, 0, 3), "{act} {state}");

            // Both inspectors agree about either, and either is the same.
            let mut lists = Vec::new();
            for queue in [&ours, &gos] {
                let info = pair.queue(queue).await;
                let mut lists_of = vec![format!("{} {} {}", info.size, info.pending, info.archived)];
                for state in TaskState::ALL
                    .into_iter()
                    .filter(|state| *state != TaskState::Aggregating)
                {
                    let tasks = pair.list(queue, state).await;
                    let mut ids: Vec<_> = tasks.into_iter().map(|task| task.id).collect();
                    // In a set they stand by their seconds, and each side acts in its own.
                    if !matches!(state, TaskState::Pending | TaskState::Active) {
                        ids.sort();
                    }
                    lists_of.push(format!("{state}: {ids:?}"));
                }
                lists_of.push(format!("{:?}", pair.list_group(queue, "g").await.len()));
                lists_of.push(format!("{:?}", pair.groups(queue).await));
                let raw = pair.raw().await;
                for n in 0..3 {
                    lists_of.push(format!("{:?}", fields(&raw, queue, &format!("{state}{n}"))));
                }
                lists.push(lists_of);
            }
            assert_eq!(lists[0], lists[1], "{act} {state}");
            assert_eq!(
                pair.storage
                    .audit(&queue_name(&ours), Default::default())
                    .await
                    .unwrap()
                    .items,
                []
            );
        }
    }
}

#[tokio::test]
async fn a_queue_that_one_side_deletes_is_gone_for_the_other() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    for queue in ["ours", "gos", "other"] {
        client
            .enqueue(&GoTask::new("t").queue(queue).id("a").unique_ms(600_000))
            .await;
    }
    for force in [false, true] {
        assert_eq!(
            pair.go.delete_queue("never", force).await.unwrap_err().kind,
            GoErrorKind::QueueNotFound
        );
        let ours = pair.storage.delete_queue(&queue_name("never"), force).await;
        assert!(matches!(ours, Err(BrokerError::QueueNotFound { .. })), "{ours:?}");
    }
    let gos = pair.go.delete_queue("gos", false).await.unwrap_err();
    assert!(gos.text.contains("queue is not empty"), "{gos}");
    let ours = pair.storage.delete_queue(&queue_name("ours"), false).await;
    assert!(matches!(ours, Err(BrokerError::QueueNotEmpty { .. })), "{ours:?}");
    assert_eq!(pair.queues().await, ["gos", "other", "ours"]);

    // Active tasks, also by force.
    for queue in ["ours", "gos"] {
        let task = put(&pair, queue, "next", TaskState::Active).await.unwrap();
        let gos = pair.go.delete_queue(queue, true).await.unwrap_err();
        assert!(gos.text.contains("cannot remove queue with active tasks"), "{gos}");
        let ours = pair.storage.delete_queue(&queue_name(queue), true).await;
        assert!(matches!(ours, Err(BrokerError::QueueHasActiveTasks { .. })), "{ours:?}");
        settle(&pair, task, Outcome::Done { retain: true }).await;
        put(&pair, queue, "b", TaskState::Scheduled).await;
    }
    pair.go.delete_queue("gos", true).await.unwrap();
    assert_eq!(pair.queues().await, ["other", "ours"]);
    pair.storage.delete_queue(&queue_name("ours"), true).await.unwrap();
    assert_eq!(pair.queues().await, ["other"]);
    let raw = pair.raw().await;
    let left = |queue: &str| {
        let prefix = format!("asynq:{{{queue}}}:");
        raw.keys().filter(|key| key.starts_with(&prefix)).count()
    };
    // Go leaves locks and counters (differences.md#deleted-queues).
    assert_eq!((left("ours"), left("gos") > 0), (0, true), "{raw:#?}");

    // A Go client knows that it has published the name, and does not again; ours does.
    for queue in ["ours", "gos"] {
        put(&pair, queue, "again", TaskState::Pending).await;
    }
    assert_eq!(pair.queues().await, ["gos", "other", "ours"]);
    for queue in ["ours", "other"] {
        pair.storage
            .delete_task(&queue_name(queue), &TaskId::new("again").unwrap())
            .await
            .ok();
        pair.storage
            .delete_task(&queue_name(queue), &TaskId::new("a").unwrap())
            .await
            .ok();
        pair.go.delete_queue(queue, false).await.unwrap();
    }
    assert_eq!(pair.queues().await, ["gos"]);
}

#[tokio::test]
async fn a_payload_that_one_side_updates_is_that_of_the_other() {
    let mut pair = Pair::start().await;
    let queue = queue_name("q");
    for state in TaskState::ALL {
        let id = state.as_str();
        let task = TaskId::new(id).unwrap();
        put(&pair, "q", id, state).await;
        let before = pair.raw().await;
        for ours in [true, false] {
            let payload = format!("new {ours}");
            let ok = if ours {
                let answer = pair
                    .storage
                    .update_task_payload(&queue, &task, payload.clone().into())
                    .await;
                if let Err(error) = &answer {
                    assert!(matches!(error, BrokerError::WrongState { .. }), "{error:?}");
                }
                answer.is_ok()
            } else {
                let answer = pair.go.update_payload("q", id, payload.as_bytes()).await;
                if let Err(error) = &answer {
                    assert!(
                        error
                            .text
                            .ends_with("cannot update task that is not in scheduled state."),
                        "{error}"
                    );
                }
                answer.is_ok()
            };
            assert_eq!(ok, state == TaskState::Scheduled, "{state}");
            let found = pair.look("q", id).await.unwrap();
            let expected = if ok { payload.as_bytes() } else { id.as_bytes() };
            assert_eq!(found.payload.as_deref(), Some(expected));
            // The lock keeps its name.
            assert_eq!(locks(&pair.raw().await), locks(&before));
        }
        // The next one is the only one that can be taken.
        pair.storage.delete_task(&queue, &task).await.ok();
    }
}

#[tokio::test]
async fn both_sides_tell_the_same_history() {
    let mut pair = Pair::start().await;
    put(&pair, "q", "c", TaskState::Completed).await;
    put(&pair, "q", "a", TaskState::Archived).await;
    let yesterday = asynq_core::keys::day(Utc::now() - chrono::TimeDelta::days(1));
    let counter = format!("asynq:{{q}}:processed:{yesterday}");
    pair.redis.client().await.ok(&["SET", &counter, "7"]).await;
    let ours: Vec<_> = pair.storage.history(&queue_name("q"), 3).await.unwrap();
    let ours: Vec<_> = ours
        .into_iter()
        .map(|day| (day.date.to_string(), day.processed, day.failed))
        .collect();
    let gos: Vec<_> = pair.go.history("q", 3).await.unwrap();
    let gos: Vec<_> = gos
        .into_iter()
        .map(|day| (day.date, day.processed, day.failed))
        .collect();
    assert_eq!(ours, gos);
    assert_eq!((ours[0].1, ours[0].2, ours[1].1), (2, 1, 7));
    // Go refuses no days; ours is that of today.
    pair.go.history("q", 0).await.unwrap_err();
    assert_eq!(pair.storage.history(&queue_name("q"), 0).await.unwrap().len(), 1);
}
