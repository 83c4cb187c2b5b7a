//! Names of queues, groups and ids with any content, in every operation of an operator.

use asynq_core::{
    Act, Then,
    doctor::{Repair, RepairMode},
    inspect::{Breach, ListFilter, PageRequest, ScanLimits},
    names::QueueName,
};

use super::kit::*;

/// Names that are awkward somewhere: in a key, a pattern, a URL, a script or a hash tag.
const NAMES: &[&str] = &[
    "a b",
    " a ",
    "ä→日本語",
    "a:b",
    "a:t:b",
    "a/b",
    "#a",
    "{}",
    "{a}",
    "a}b",
    "{a",
    "*?[a]\\",
    "%d %s",
    "'; redis.call('FLUSHALL') --",
    "a\r\nb\0c",
];

/// rules.md#one-state, layout.md#hash-slots: each operation of [`Inspect`](asynq_core::Inspect) has its effect, and on
/// that queue alone. A name with which a cluster would spread the keys is refused by its type.
pub(super) async fn every_operation_takes_any_queue(fx: &Fixture) {
    for name in ["", " ", "}", "}a"] {
        QueueName::new(name).unwrap_err();
    }
    for name in NAMES {
        fx.enqueue(request("bystander", name)).await;
        operate(fx, name).await;
        assert_eq!(fx.storage.queues().await.unwrap(), [queue("bystander")], "{name:?}");
        let raw = fx.raw().await;
        let left: Vec<_> = raw.state.keys().filter(|key| !key.contains("{bystander}")).collect();
        assert_eq!(left, ["asynq:queues"], "{name:?}");
    }
    let waiting = fx.storage.queue_info(&queue("bystander")).await.unwrap();
    assert!(waiting.pending > 10, "{waiting:?}");
}

async fn take(fx: &Fixture, of: &QueueName) -> asynq_core::broker::LeasedTask {
    let want = [Want {
        queue: of.clone(),
        max: 1,
    }];
    let mut answer = fx.storage.exchange(&fx.storage.begin(), &[], &want).await;
    answer.leased.pop().unwrap_or_else(|| panic!("{of:?}: {answer:?}"))
}

/// One of each operation; ids and groups have the awkward name, too.
async fn operate(fx: &Fixture, name: &str) {
    let (of, group_key) = (queue(name), group(name));
    let storage = &fx.storage;
    let ids = ["1", "2", "3"].map(|n| id(&format!("{name}{n}")));
    let [first, second, third] = &ids;
    for task in &ids {
        let new = request(name, task.as_str())
            .task_type(name)
            .payload(task.as_str().to_owned());
        fx.enqueue(new.at(fx.after(60)).unique(Duration::from_secs(600))).await;
    }
    assert!(storage.queues().await.unwrap().contains(&of));
    let page = PageRequest::default();
    let listed = async |filter: ListFilter| storage.list_tasks(&of, &filter, page).await.unwrap().readable().count();
    assert_eq!(listed(ListFilter::State(TaskState::Scheduled)).await, 3);
    storage.update_task_payload(&of, first, "new".into()).await.unwrap();
    storage.reschedule_task(&of, first, fx.after(5)).await.unwrap();
    assert_eq!(storage.task_info(&of, first).await.unwrap().payload, "new");
    storage.run_task(&of, first).await.unwrap();
    assert_eq!(storage.task_state(&of, first).await.unwrap(), TaskState::Pending);
    let task = take(fx, &of).await;
    assert_eq!(listed(ListFilter::State(TaskState::Active)).await, 1);
    storage.cancel_task(&of, first, Then::Archive).await.unwrap();
    let answer = storage
        .exchange(&storage.begin(), &[settlement(&task, retry(fx.now()))], &[])
        .await;
    answer.settled.into_iter().for_each(|answer| answer.unwrap());
    assert_eq!(storage.task_state(&of, first).await.unwrap(), TaskState::Archived);
    storage.archive_task(&of, second).await.unwrap();
    storage.delete_task(&of, second).await.unwrap();
    fx.enqueue(request(name, second.as_str()).group(name)).await;
    assert_eq!(storage.group_infos(&of).await.unwrap().len(), 1);
    assert_eq!(listed(ListFilter::Group(group_key.clone())).await, 1);
    let archived = ListFilter::State(TaskState::Archived);
    let step = storage
        .scan_tasks(&of, &archived, None, ScanLimits::default())
        .await
        .unwrap();
    let marks = [step.tasks[0].mark.clone()];
    assert_eq!((step.tasks.len(), step.tasks[0].info.id.as_str()), (1, first.as_str()));
    let acted = storage.act_on_these(&of, &archived, Act::Run, &marks).await.unwrap();
    assert_eq!((acted.done, acted.moved), (1, 0), "{name:?}");
    let facts = storage.queue_facts(&of, Duration::from_secs(60)).await.unwrap();
    assert_eq!((facts.pending, facts.some_groups.len()), (1, 1), "{name:?}");
    let stale = [Breach::StaleLease { id: first.clone() }];
    let repaired = storage.repair(&of, &stale, RepairMode::Write).await.unwrap();
    assert_eq!(repaired, [Repair::Gone], "{name:?}");
    storage.archive_task(&of, first).await.unwrap();
    for (filter, act) in [
        (ListFilter::Group(group_key), Act::Archive),
        (archived, Act::Run),
        (ListFilter::State(TaskState::Pending), Act::Delete),
    ] {
        let done = storage.act_on_all(&of, &filter, act).await.unwrap().done;
        assert_eq!(done, if act == Act::Archive { 1 } else { 2 }, "{name:?}: {act}");
    }
    let info = storage.queue_info(&of).await.unwrap();
    assert_eq!((info.scheduled, info.size(), info.failed_total), (1, 1, 1), "{name:?}");
    assert_eq!(storage.history(&of, 1).await.unwrap()[0].failed, 1);
    storage.clear_counters(&of).await.unwrap();
    storage.pause(&of).await.unwrap();
    storage.unpause(&of).await.unwrap();
    assert_eq!(fx.audit(&of).await, [], "{name:?}");
    assert_eq!(storage.task_state(&of, third).await.unwrap(), TaskState::Scheduled);
    match storage.cluster_key_slot(&of).await {
        Ok(slot) => assert!(slot < 16384 && !storage.cluster_nodes(&of).await.unwrap().is_empty()),
        Err(error) => assert!(matches!(error, BrokerError::Unsupported { .. }), "{error:?}"),
    }
    storage.delete_queue(&of, true).await.unwrap();
}
