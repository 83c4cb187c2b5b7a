//! Keys may hold any bytes.

use std::time::Duration;

use asynq_core::{
    TaskState, Then,
    broker::{GroupLimits, Outcome, RECOVER_GRACE, Recovery},
    inspect::{ListFilter, PageRequest},
};
use asynq_testing::request::{batch_of, group, id, request};

use crate::{
    damage::{active, full_queue},
    support::{DONE, archive, key, q, retry},
};

/// Every operation on every key of a queue that holds bytes which are no text, in every type: whatever is
/// answered, the connection stands. The redis crate gives it up over an error reply that is not UTF-8.
#[tokio::test]
async fn no_damage_costs_the_connection() {
    const BYTES: &[u8] = b"\xff\xfe:\n\r";
    let mut bench = full_queue().await;
    let connection = bench.storage.begin().connection;
    let task = active(&bench).await;
    let day = asynq_core::keys::day(bench.clock.now());
    let mut names: Vec<Vec<u8>> = [
        "pending",
        "active",
        "lease",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "groups",
        "aggregation_sets",
        "paused",
        "processed",
        "failed",
        "g:g",
        "t:active",
        "t:pending",
        "t:scheduled",
        "t:grouped",
        "unique:t:",
        "x:quarantine",
    ]
    .map(|suffix| key(suffix).into_bytes())
    .into();
    names.push(key(&format!("processed:{day}")).into_bytes());
    for part in ["t:", "g:", "unique:", "processed:", "failed:"] {
        names.push([key(part).as_bytes(), BYTES].concat());
    }
    let values: &[&[&[u8]]] = &[
        &[b"SET", b"", BYTES],
        &[b"RPUSH", b"", BYTES, BYTES],
        &[b"ZADD", b"", b"1.5", BYTES],
        &[b"SADD", b"", BYTES],
        &[
            b"HSET",
            b"",
            b"msg",
            BYTES,
            b"state",
            BYTES,
            b"group",
            BYTES,
            b"x:take",
            BYTES,
            b"x:cancel",
            BYTES,
            b"x:progress",
            BYTES,
            b"x:at",
            BYTES,
            b"x:deadline",
            BYTES,
        ],
        &[
            b"HSET",
            b"",
            b"msg",
            BYTES,
            b"state",
            b"active",
            b"group",
            BYTES,
            b"pending_since",
            BYTES,
        ],
    ];
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: Some(1),
    };
    for name in &names {
        for value in values {
            let mut command = value.to_vec();
            command[1] = name;
            bench.client.cmd_bytes(&[b"DEL".as_slice(), name]).await;
            bench.client.ok(&command).await;
            let storage = &bench.storage;
            drop(storage.queue_info(&q()).await);
            drop(asynq_testing::conformance::audit(&**storage, &q()).await);
            for state in TaskState::ALL {
                drop(
                    storage
                        .list_tasks(&q(), &ListFilter::State(state), PageRequest::default())
                        .await,
                );
            }
            drop(
                storage
                    .list_tasks(&q(), &ListFilter::Group(group("g")), PageRequest::default())
                    .await,
            );
            drop(storage.task_info(&q(), &id("pending")).await);
            drop(storage.group_infos(&q()).await);
            for outcome in [DONE, retry(bench.after(1)), archive(), Outcome::Requeue] {
                drop(bench.settle(&task, outcome).await);
            }
            drop(storage.extend_leases(vec![task.lease.clone()]).await);
            drop(storage.cancel_task(&q(), &id("active"), Then::Archive).await);
            drop(storage.write_result(&task.lease, BYTES.into()).await);
            drop(storage.adopt(&q(), &storage.begin()).await);
            if let Ok(found) = storage.expired(&q(), RECOVER_GRACE, 10).await {
                let outcome = Outcome::Requeue;
                let batch = found.tasks.into_iter().map(|task| Recovery {
                    task,
                    outcome: outcome.clone(),
                });
                drop(storage.recover(batch.collect()).await);
            }
            drop(storage.forward(&q(), 10).await);
            drop(storage.delete_expired(&q(), 10).await);
            drop(storage.collect_group(&q(), &group("g"), limits).await);
            drop(storage.reclaim_aggregation_sets(&q()).await);
            drop(storage.heal(&q(), 1000).await);
            let new = [
                request("q", "n"),
                request("q", "ns").at(bench.after(1)),
                request("q", "ng").group("g"),
            ];
            drop(storage.enqueue(&batch_of(new.into_iter().map(|new| new.build()))).await);
            drop(bench.exchange(Vec::new(), 5).await);
            assert_eq!(
                bench.storage.begin().connection,
                connection,
                "{} {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value[0])
            );
            bench.storage.ping().await.unwrap();
        }
    }
}
