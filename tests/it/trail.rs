//! The audit trail: each act of an inspector is recorded once, with its operator, and no refused one is.

use asynq::{
    Client, Inspector, Task, TaskState,
    inspect::{Cursor, ListFilter},
    inspector::{Act, Actor, Then, TrailEntry},
    memory::MemoryStore,
};
use chrono::{TimeDelta, Utc};

async fn trail(inspector: &Inspector) -> Vec<TrailEntry> {
    let mut acts = inspector.audit_trail(Cursor::default(), 100).await.unwrap().items;
    acts.reverse();
    acts
}

async fn start() -> (Client, Inspector) {
    let storage = MemoryStore::new();
    let client = Client::new(storage.clone()).await.unwrap();
    (client, Inspector::connect(storage).await.unwrap())
}

async fn scheduled(client: &Client, id: &str) {
    let task = Task::new("t", b"1").unwrap().with_task_id(id);
    client.enqueue_at(task, Utc::now() + TimeDelta::hours(1)).await.unwrap();
}

#[tokio::test]
async fn each_act_is_recorded_once_with_its_operator_and_target() {
    let (client, inspector) = start().await;
    let ann = Actor::new("ann").with_reason("ticket 7");
    let acting = inspector.acting_as(ann.clone()).unwrap();
    for id in ["a", "b", "c"] {
        scheduled(&client, id).await;
    }
    let at = Utc::now() + TimeDelta::days(1);
    acting.update_task_payload("default", "a", b"22").await.unwrap();
    acting.reschedule_task("default", "a", at).await.unwrap();
    acting.archive_task("default", "a").await.unwrap();
    acting.requeue_archived_task("default", "a").await.unwrap();
    acting.run_task("default", "b").await.unwrap();
    acting.delete_task("default", "b").await.unwrap();
    acting
        .enqueue_copy("default", "c", |copy| Ok(copy.with_task_id("d")))
        .await
        .unwrap();
    acting.cancel_processing("c").await.unwrap();
    acting.pause_queue("default").await.unwrap();
    acting.unpause_queue("default").await.unwrap();
    acting.clear_counters("default").await.unwrap();
    let waiting = ListFilter::State(TaskState::Scheduled);
    acting.act_on_all("default", &waiting, Act::Archive).await.unwrap();
    acting.delete_all_archived_tasks("default").await.unwrap();
    acting.delete_queue("default", true).await.unwrap();

    let acts = trail(&inspector).await;
    let of = |act: &TrailEntry| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        format!(
            "{} {} {} {}",
            act.act,
            text(&act.task),
            text(&act.tasks),
            text(&act.detail)
        )
    };
    let told: Vec<_> = acts.iter().map(|act| of(act).trim_end().to_owned()).collect();
    assert_eq!(
        told,
        [
            "update_task_payload a  2 bytes".to_owned(),
            format!("reschedule_task a  to {}", at.to_rfc3339()),
            "archive_task a".to_owned(),
            "run_task a".to_owned(),
            "run_task b".to_owned(),
            "delete_task b".to_owned(),
            "enqueue_copy c  as d of default".to_owned(),
            "cancel_processing c".to_owned(),
            "pause_queue".to_owned(),
            "unpause_queue".to_owned(),
            "clear_counters".to_owned(),
            "archive_all_tasks  state=scheduled".to_owned(),
            "delete_all_tasks  state=archived".to_owned(),
            "delete_queue   with its tasks".to_owned(),
        ]
    );
    for act in &acts {
        assert_eq!(act.actor.as_ref(), Some(&ann));
        assert_eq!((act.pid, act.failure.as_deref()), (std::process::id(), None));
        let queue = (act.act != "cancel_processing").then_some("default");
        assert_eq!(act.queue.as_deref(), queue);
    }
    let changed: Vec<_> = acts.iter().filter_map(|act| act.changed).collect();
    assert_eq!(changed, [1, 1]);
}

#[tokio::test]
async fn a_refused_act_and_a_read_are_not_recorded() {
    let (client, inspector) = start().await;
    scheduled(&client, "a").await;
    assert!(inspector.delete_task("default", "none").await.is_err());
    assert!(inspector.run_task("none", "a").await.is_err());
    assert!(inspector.requeue_archived_task("default", "a").await.is_err());
    assert!(inspector.cancel_task("default", "a", Then::Archive).await.is_err());
    inspector.get_task_info("default", "a").await.unwrap();
    inspector
        .list_tasks("default", TaskState::Scheduled, 1, 10)
        .await
        .unwrap();
    assert_eq!(trail(&inspector).await, []);
    inspector.delete_task("default", "a").await.unwrap();
    let [act] = trail(&inspector).await.try_into().unwrap();
    assert_eq!(act.actor, None, "nobody was named");
}

#[tokio::test]
async fn an_act_without_a_reason_is_refused_where_one_is_required() {
    let (client, inspector) = start().await;
    scheduled(&client, "a").await;
    let strict = inspector.requiring_reason();
    let nobody = strict.delete_task("default", "a").await.unwrap_err();
    assert!(
        nobody
            .to_string()
            .contains("reason must contain one or more characters"),
        "{nobody}"
    );
    let silent = strict.acting_as(Actor::new("ann")).unwrap();
    assert!(silent.pause_queue("default").await.is_err());
    assert!(
        silent
            .act_on_all("default", &ListFilter::State(TaskState::Scheduled), Act::Delete)
            .await
            .is_err()
    );
    strict.get_task_info("default", "a").await.unwrap();
    assert!(!strict.get_queue_stats("default").await.unwrap().paused);
    let ann = strict.acting_as(Actor::new("ann").with_reason("ticket 7")).unwrap();
    ann.delete_task("default", "a").await.unwrap();
    assert_eq!(trail(&inspector).await.len(), 1);
    assert!(inspector.acting_as(Actor::new(" ")).is_err());
}
