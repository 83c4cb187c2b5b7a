//! A query finds what Go enqueued, and Go sees what an act by query did.

use std::{collections::BTreeSet, sync::Arc};

use asynq::{
    Inspector, TaskInfo, TaskState,
    inspect::{Cursor, ListFilter},
    inspector::{Act, ActLimits, SearchLimits},
    query::Query,
};
use asynq_core::{
    TaskId,
    inspect::{Breach, ScanLimits},
};
use asynq_interop::{GoClient, GoTask};

use crate::pair::{Pair, queue_name};

const QUEUES: [&str; 2] = ["default", "gruppe ü/#:"];

async fn found(inspector: &Inspector, text: &str) -> Vec<TaskInfo> {
    let query: Query = text.parse().unwrap();
    let found = inspector
        .search(&query, &SearchLimits::default(), &Cursor::default())
        .await
        .unwrap();
    assert_eq!(found.next, None);
    found.tasks
}

/// Go's ids of a state.
async fn of_go(pair: &mut Pair, queue: &str, state: TaskState) -> BTreeSet<String> {
    pair.list(queue, state).await.into_iter().map(|task| task.id).collect()
}

#[tokio::test]
async fn what_go_enqueued_is_found_and_acted_on_and_go_sees_it() {
    let mut pair = Pair::start().await;
    let mut go = GoClient::start(&pair.redis.address()).await;
    for queue in QUEUES {
        for user in 0..30 {
            let payload = format!(r#"{{"user":{{"id":{user}}}}}"#);
            let task = GoTask::new("email:send").queue(queue).payload(payload);
            let task = match user % 3 {
                0 => task.process_in_ms(3_600_000),
                1 => task.group("g"),
                _ => task,
            };
            go.enqueue(&task.id(&format!("u{user:02}"))).await;
        }
    }
    let inspector = Inspector::new(Arc::clone(&pair.storage));
    let found_ids = |tasks: Vec<TaskInfo>| {
        tasks
            .into_iter()
            .map(|task| task.id.to_string())
            .collect::<BTreeSet<_>>()
    };

    // The same tasks as Go lists, state by state.
    for queue in QUEUES {
        for state in [TaskState::Pending, TaskState::Scheduled] {
            let text = format!("queue={queue:?} state={state} type^=email:");
            assert_eq!(
                found_ids(found(&inspector, &text).await),
                of_go(&mut pair, queue, state).await
            );
        }
        let members = pair
            .list_group(queue, "g")
            .await
            .into_iter()
            .map(|task| task.id)
            .collect();
        let text = format!("queue={queue:?} state=aggregating group=g age<1h");
        assert_eq!(found_ids(found(&inspector, &text).await), members);
    }

    // Go sees what was done, and what Go does meanwhile is left alone.
    let query: Query = "payload.user.id>=20".parse().unwrap();
    let mut act = inspector
        .act_by_query(&query, Act::Archive, ActLimits::default())
        .unwrap();
    // The pending tasks of the first queue have been looked at.
    act.next().await.unwrap();
    pair.go.delete("default", "u20").await.unwrap();
    pair.go.archive("default", "u23").await.unwrap();
    while act.next().await.unwrap().is_some() {}
    let done = act.progress();
    assert_eq!((done.found, done.done, done.moved), (20, 18, 2));
    let archived = |from: u32| (from..30).map(|user| format!("u{user:02}")).collect::<BTreeSet<_>>();
    for (queue, from) in QUEUES.into_iter().zip([21, 20]) {
        assert_eq!(of_go(&mut pair, queue, TaskState::Archived).await, archived(from));
        assert_eq!(pair.queue(queue).await.archived, 30 - u64::from(from));
    }

    // Go changes the list between two steps of a scan.
    let filter = ListFilter::State(TaskState::Pending);
    let limits = ScanLimits {
        tasks: 3,
        ..ScanLimits::default()
    };
    let queue = queue_name("default");
    let first = pair.storage.scan_tasks(&queue, &filter, None, limits).await.unwrap();
    for id in ["u02", "u08"] {
        pair.go.delete("default", id).await.unwrap();
    }
    go.enqueue(&GoTask::new("email:send").id("new")).await;
    let limits = ScanLimits::default();
    let second = pair
        .storage
        .scan_tasks(&queue, &filter, first.next.as_ref(), limits)
        .await
        .unwrap();
    let ids: Vec<_> = first
        .tasks
        .iter()
        .chain(&second.tasks)
        .map(|task| task.info.id.as_str())
        .collect();
    assert_eq!(ids, ["u02", "u05", "u08", "u11", "u14", "u17"]);
    assert_eq!(second.next, None);
    // Go leaves it when it archives a pending task.
    let left = Breach::PendingSince {
        id: TaskId::new("u23").unwrap(),
        state: "archived".to_owned(),
    };
    assert_eq!(pair.breaches().await, [left]);
}
