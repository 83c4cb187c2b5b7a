//! Damaged data harm only themselves (rules.md#check-then-write, rules.md#damage-stays-local).

use asynq_testing::request::batch_of;
use std::time::Duration;

use asynq_core::{
    BrokerError, EnqueueError, SettleError, TaskState,
    broker::{GroupLimits, LeaseUntil, Outcome, RECOVER_GRACE, Recovery},
    error::PoisonKind,
    inspect::{ListFilter, PageRequest},
    raw::RawState,
};
use asynq_testing::{
    invariants::{self, Violation},
    request::{group, id, queue, request},
    view,
};

use crate::support::{Bench, DONE, archive, ids, key, q, retry};

fn names_key(error: &BrokerError, suffix: &str) -> bool {
    matches!(error, BrokerError::WrongType { key: named } if *named == key(suffix))
}

async fn state(bench: &mut Bench) -> RawState {
    bench.client.raw_state().await
}

/// A queue with a task in each state, and an expired lease.
pub(crate) async fn full_queue() -> Bench {
    let bench = Bench::start().await;
    bench.enqueue(vec![request("q", "active").retention(60)]).await;
    bench.take(1).await;
    bench.enqueue_ids(&["pending"]).await;
    bench
        .enqueue(vec![
            request("q", "scheduled").at(bench.after(1)),
            request("q", "grouped").group("g"),
        ])
        .await;
    bench.advance(100);
    bench
}

#[tokio::test]
async fn a_container_of_the_wrong_type_is_named_and_nothing_is_written() {
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    // The container, and the operations that need it.
    let table: &[(&str, &[&str])] = &[
        ("pending", &["enqueue", "take", "requeue", "forward", "heal", "recover"]),
        ("active", &["take", "done", "adopt", "expired", "recover", "heal"]),
        (
            "lease",
            &[
                "take", "done", "adopt", "expired", "extend", "result", "recover", "heal",
            ],
        ),
        ("scheduled", &["schedule", "forward", "heal"]),
        ("retry", &["retry", "forward", "heal"]),
        ("archived", &["archive", "heal"]),
        ("completed", &["done", "delete_expired", "heal"]),
        (
            "groups",
            &["group", "forward", "list_groups", "collect", "reclaim", "heal"],
        ),
        ("g:g", &["group", "collect"]),
        ("aggregation_sets", &["collect", "reclaim", "heal"]),
    ];
    for (suffix, operations) in table {
        for operation in *operations {
            let mut bench = full_queue().await;
            let task = active(&bench).await;
            let call = bench.storage.begin();
            let expired = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap().tasks;
            bench.raw(&["DEL", &key(suffix)]).await;
            bench.raw(&["SET", &key(suffix), "x"]).await;
            let before = state(&mut bench).await;
            let storage = &bench.storage;
            let settle = async |outcome| match bench.settle(&task, outcome).await {
                Err(SettleError::Broker(error)) => Err(error),
                other => panic!("{other:?}"),
            };
            let enqueue = async |request: asynq_testing::request::RequestBuilder| match storage
                .enqueue(&batch_of([request.build()]))
                .await
                .remove(0)
            {
                Err(EnqueueError::Broker(error)) => Err::<(), _>(error),
                other => panic!("{other:?}"),
            };
            let refused = match *operation {
                "enqueue" => enqueue(request("q", "new")).await,
                "schedule" => enqueue(request("q", "new").at(bench.after(60))).await,
                "group" => enqueue(request("q", "new").group("g")).await,
                "take" => Err(bench.exchange(Vec::new(), 1).await.failed.remove(0).1),
                "done" => settle(DONE).await,
                "retry" => settle(retry(bench.after(60))).await,
                "archive" => settle(archive()).await,
                "requeue" => settle(Outcome::Requeue).await,
                "adopt" => storage.adopt(&q(), &call).await.map(drop),
                "expired" => storage.expired(&q(), RECOVER_GRACE, 10).await.map(drop),
                "extend" => match storage.extend_leases(vec![task.lease.clone()]).await.remove(0) {
                    Err(SettleError::Broker(error)) => Err(error),
                    other => panic!("{other:?}"),
                },
                "result" => match storage.write_result(&task.lease, "r".into()).await {
                    Err(SettleError::Broker(error)) => Err(error),
                    other => panic!("{other:?}"),
                },
                "recover" => {
                    let batch = expired
                        .into_iter()
                        .map(|task| Recovery {
                            task,
                            outcome: Outcome::Requeue,
                        })
                        .collect();
                    match storage.recover(batch).await.remove(0) {
                        Err(SettleError::Broker(error)) => Err(error),
                        other => panic!("{other:?}"),
                    }
                }
                "forward" => storage.forward(&q(), 10).await.map(drop),
                "heal" => storage.heal(&q(), 10).await.map(drop),
                "delete_expired" => storage.delete_expired(&q(), 10).await.map(drop),
                "list_groups" => storage.list_groups(&q()).await.map(drop),
                "collect" => storage.collect_group(&q(), &group("g"), limits).await.map(drop),
                "reclaim" => storage.reclaim_aggregation_sets(&q()).await.map(drop),
                other => panic!("{other}"),
            };
            let error = refused.expect_err(operation);
            assert!(names_key(&error, suffix), "{operation} on {suffix}: {error:?}");
            // The name of the queue may be published; nothing else changes.
            view::assert_same(&before, &state(&mut bench).await);
        }
    }
}

/// The claim on the task that [`full_queue`] took; its lease is long over, and nobody took it.
pub(crate) async fn active(bench: &Bench) -> asynq_core::broker::LeasedTask {
    let expired = bench
        .storage
        .expired(&q(), RECOVER_GRACE, 10)
        .await
        .unwrap()
        .tasks
        .remove(0);
    // The first call of the first connection.
    let token = {
        let mut client = bench.server.client().await;
        let text = client.ok(&["HGET", &key("t:active"), "x:take"]).await.text();
        let (broker, call) = text.rsplit_once('-').unwrap();
        let (seq, lease) = call.split_once('@').unwrap();
        let lease = LeaseUntil(lease.parse().unwrap());
        asynq_core::broker::CallToken::new(broker, seq.parse().unwrap(), lease)
    };
    asynq_core::broker::LeasedTask {
        deadline: None,
        pending_since: None,
        message: expired.message,
        lease: asynq_core::broker::LeaseRef {
            queue: q(),
            id: id("active"),
            token,
            until: expired.until,
        },
    }
}

#[tokio::test]
async fn names_that_are_not_utf_8_break_no_connection() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("q", "s").at(bench.after(1))]).await;
    bench.advance(5);
    let (task, set) = (key("t:s"), [key("g:").as_bytes(), b"\xff\xfe"].concat());
    bench
        .client
        .cmd_bytes(&[b"HSET".as_slice(), task.as_bytes(), b"group", b"\xff\xfe"])
        .await;
    bench.client.cmd_bytes(&[b"SET".as_slice(), &set, b"x"]).await;
    let put_off = bench.storage.forward(&q(), 10).await.unwrap().put_off;
    assert_eq!(put_off, [id("s")]);
    // The connection still stands: a new one would have another number.
    assert_eq!(bench.storage.begin().connection, bench.storage.begin().connection);
    bench.client.cmd_bytes(&[b"DEL".as_slice(), &set]).await;
    bench.advance(60);
    assert_eq!(bench.storage.forward(&q(), 10).await.unwrap().moved, 1);
    assert_eq!(bench.storage.list_groups(&q()).await.unwrap().len(), 1);

    // Ids too: without a hash they are dropped, with one they are put aside, in every way.
    let hash = [key("t:").as_bytes(), b"\xff"].concat();
    let pending = key("pending");
    for command in [
        vec![b"LPUSH".as_slice(), pending.as_bytes(), b"\xff", b"\xfe", b"good"],
        vec![b"HSET".as_slice(), &hash, b"msg", b"m", b"state", b"pending"],
    ] {
        bench.client.cmd_bytes(&command).await;
    }
    bench.raw(&["LREM", &key("pending"), "0", "good"]).await;
    bench.enqueue_ids(&["good"]).await;
    let filter = ListFilter::State(TaskState::Pending);
    let page = bench
        .storage
        .list_tasks(&q(), &filter, PageRequest::default())
        .await
        .unwrap();
    assert_eq!((page.readable().count(), page.poisoned().count()), (1, 2), "{page:?}");
    let answer = bench.exchange(Vec::new(), 3).await;
    assert_eq!(ids(&answer.leased), ["good"]);
    let mut kinds: Vec<_> = answer.poisoned.iter().map(|poison| poison.kind.to_string()).collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [PoisonKind::NoHash.to_string(), PoisonKind::Undecodable.to_string()]
    );
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 1);
    assert_eq!(bench.raw_int(&["ZCARD", &key("x:quarantine")]).await, 1);
    bench.raw(&["HDEL", &key("t:s"), "group"]).await;
}

#[tokio::test]
async fn a_hash_without_state_is_told() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a", "b"]).await;
    let tasks = bench.take(2).await;
    bench.raw(&["HDEL", &key("t:a"), "state"]).await;
    bench.raw(&["HSET", &key("t:b"), "state", "running"]).await;
    for task in &tasks {
        let answer = bench.settle(task, DONE).await;
        assert!(
            matches!(answer, Err(SettleError::Poison(PoisonKind::BadState))),
            "{answer:?}"
        );
        let answer = bench.storage.extend_leases(vec![task.lease.clone()]).await.remove(0);
        assert!(
            matches!(answer, Err(SettleError::Poison(PoisonKind::BadState))),
            "{answer:?}"
        );
        let answer = bench.storage.write_result(&task.lease, "r".into()).await;
        assert!(
            matches!(answer, Err(SettleError::Poison(PoisonKind::BadState))),
            "{answer:?}"
        );
        let answer = bench.storage.task_info(&q(), &task.lease.id).await;
        assert!(
            matches!(
                answer,
                Err(BrokerError::Poison {
                    kind: PoisonKind::BadState,
                    ..
                })
            ),
            "{answer:?}"
        );
    }
    // Not the caller's business where the claim is another's.
    let mut other = tasks[0].clone();
    other.lease.token = asynq_core::broker::CallToken::new("other", 1, other.lease.until);
    assert!(matches!(bench.settle(&other, DONE).await, Err(SettleError::NotOurs)));
    let healed = bench.storage.heal(&q(), 10).await.unwrap();
    assert_eq!(healed.poisoned.len(), 2);
    assert_eq!(bench.audit(&q()).await, []);
}

#[tokio::test]
async fn a_lock_is_touched_only_if_it_is_one() {
    let mut bench = Bench::start().await;
    // What a stranger may have put into the message and the hash.
    let mut strange = request("q", "a").build();
    strange.message.unique_key = "asynq:{q}:pending".into();
    bench.storage.enqueue(&batch_of([strange])).await.remove(0).unwrap();
    bench.raw(&["HSET", &key("t:a"), "unique_key", "mine"]).await;
    bench.raw(&["SET", "mine", "a"]).await;
    let task = bench.take(1).await.remove(0);
    bench.enqueue_ids(&["b"]).await;
    bench.settle(&task, DONE).await.unwrap();
    assert_eq!(bench.raw_int(&["LLEN", &key("pending")]).await, 1);
    assert_eq!(bench.raw(&["GET", "mine"]).await.text(), "a");
    // And one that cannot be a lock of the queue is refused.
    let mut foreign = request("q", "c").unique(Duration::from_secs(60)).build();
    foreign.message.unique_key = "asynq:{other}:unique:t:".into();
    let answer = bench
        .storage
        .enqueue(&batch_of([foreign, request("q", "d").build()]))
        .await;
    assert!(
        matches!(answer[0], Err(EnqueueError::Broker(BrokerError::Refused { .. }))),
        "{:?}",
        answer[0]
    );
    assert!(answer[1].is_ok());
}

/// Every kind of breach there is, found by the audit and by the check of the raw keys alike.
#[tokio::test]
async fn an_audit_finds_what_a_check_of_the_raw_keys_finds() {
    let mut bench = Bench::start().await;
    bench
        .enqueue(vec![
            request("q", "unique").unique(Duration::from_secs(600)),
            request("q", "grouped").group("g1"),
        ])
        .await;
    bench.enqueue_ids(&["p1", "p2", "p3", "p4", "p5", "t1", "t2"]).await;
    let commands: &[&[&str]] = &[
        &["HDEL", "t:p1", "pending_since"],
        &["HSET", "t:p2", "msg", "garbage"],
        &["HSET", "t:p3", "state", "active"],
        &["DEL", "t:p4"],
        &["LREM", "pending", "0", "p5"],
        &["LPUSH", "pending", "t1"],
        &["ZADD", "retry", "7", "t2"],
        &["LPUSH", "active", "nobody"],
        &["ZADD", "lease", "7", "stranger"],
        &["ZADD", "g:forgotten", "7", "lost"],
        &["ZADD", "g:g1:0f0f0f0f-aaaa-4bbb-8ccc-0123456789ab", "7", "lost too"],
        &["ZADD", "g:other", "7", "grouped"],
        &["SADD", "groups", "empty"],
        &["SET", "unique:t:gone", "nobody"],
        &["SET", "t:string", "x"],
        &["SET", "archived", "x"],
        &["SET", "failed", "3"],
    ];
    for command in commands {
        let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        words[1] = key(&words[1]);
        bench.raw(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    bench.raw(&["SREM", "asynq:queues", "q"]).await;
    let mut audited = bench.audit(&q()).await;
    audited.dedup();
    let mut checked: Vec<_> = invariants::check(&state(&mut bench).await)
        .into_iter()
        .map(|violation| match violation {
            Violation::Breach(of, breach) if of == queue("q") => breach,
            other => panic!("{other}"),
        })
        .collect();
    checked.sort();
    checked.dedup();
    assert_eq!(audited, checked);
    assert!(audited.len() >= commands.len(), "{audited:#?}");

    // And healing leaves nothing that it could repair.
    for _ in 0..4 {
        let Err(error) = bench.storage.heal(&q(), 1000).await else {
            break;
        };
        assert!(names_key(&error, "archived"), "{error:?}");
        bench.raw(&["DEL", &key("archived")]).await;
    }
    bench.raw(&["SET", &key("processed"), "9"]).await;
    bench.raw(&["SADD", "asynq:queues", "q"]).await;
    for _ in 0..3 {
        bench.storage.heal(&q(), 1000).await.unwrap();
    }
    let left = bench.audit(&q()).await;
    let repaired = [
        "Unlisted ",
        "NoLease",
        "StaleLease",
        "GroupIndex",
        "UnlistedSet",
        "OwnerlessLock",
        "WrongType",
        "Counter",
    ];
    for kind in repaired {
        assert!(
            !left.iter().any(|breach| format!("{breach:?}").starts_with(kind)),
            "{kind}: {left:#?}"
        );
    }
    // What is left is stepped over and put aside by those who meet it.
    let answer = bench.exchange(Vec::new(), 50).await;
    assert!(answer.poisoned.iter().any(|poison| poison.id == id("p2")), "{answer:?}");
    assert!(answer.poisoned.iter().any(|poison| poison.id == id("p4")), "{answer:?}");
    let limits = GroupLimits {
        grace: Duration::ZERO,
        max_delay: None,
        max_size: None,
    };
    assert!(
        bench
            .storage
            .collect_group(&q(), &group("forgotten"), limits)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        !bench
            .audit(&q())
            .await
            .iter()
            .any(|breach| breach.to_string().contains("forgotten"))
    );
}

/// A stranger's lease with a fraction is over like any other, and its task is recovered.
#[tokio::test]
async fn a_lease_with_a_fraction_is_recovered() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    bench.take(1).await;
    bench.raw(&["ZADD", &key("lease"), "1700000000.75", "a"]).await;
    let found = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap().tasks;
    assert_eq!(found[0].until.0, 1_700_000_000);
    let batch = found.into_iter().map(|task| Recovery {
        task,
        outcome: Outcome::Requeue,
    });
    bench.storage.recover(batch.collect()).await.remove(0).unwrap();
    assert_eq!(bench.audit(&q()).await, []);
}

/// A text in place of a number counts as none, and hides nothing.
#[tokio::test]
async fn a_pending_since_that_is_no_number_is_no_latency() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    bench.advance(5);
    for value in ["", "soon", "-7"] {
        bench.raw(&["HSET", &key("t:a"), "pending_since", value]).await;
        let info = bench.storage.queue_info(&q()).await.unwrap();
        assert_eq!((info.latency, info.pending), (Duration::ZERO, 1), "{value:?}");
    }
}

/// Other programs may write scores with fractions. What is due within the second is not looked at again and again
/// until it is.
#[tokio::test]
async fn a_fraction_of_a_second_is_due_at_the_next_one() {
    let mut bench = Bench::start().await;
    let (scheduled, retry) = (key("scheduled"), key("retry"));
    for set in [&scheduled, &retry] {
        bench.enqueue(vec![request("q", set).at(bench.after(60))]).await;
        let now = bench.secs();
        bench.raw(&["ZREM", &scheduled, set]).await;
        bench.raw(&["ZADD", set, &format!("{now}.5"), set]).await;
        let done = bench.storage.forward(&q(), 10).await.unwrap();
        assert_eq!((done.moved, done.more), (0, false), "{set}");
        assert_eq!(done.next_due.unwrap().timestamp(), now + 1, "{set}");
        bench.advance(1);
        let done = bench.storage.forward(&q(), 10).await.unwrap();
        assert_eq!((done.moved, done.more, done.next_due), (1, false, None), "{set}");
    }
}

#[tokio::test]
async fn an_undecodable_task_whose_lease_has_a_fraction_is_put_aside() {
    let mut bench = Bench::start().await;
    bench.enqueue_ids(&["a"]).await;
    bench.take(1).await;
    let now = bench.secs();
    bench.raw(&["ZADD", &key("lease"), &format!("{now}.5"), "a"]).await;
    bench.raw(&["HSET", &key("t:a"), "msg", "\u{7}"]).await;
    bench.advance(100);
    let found = bench.storage.expired(&q(), RECOVER_GRACE, 10).await.unwrap();
    assert_eq!(found.poisoned.len(), 1);
    assert_eq!(bench.raw_int(&["ZCARD", &key("lease")]).await, 0);
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 0);
}
