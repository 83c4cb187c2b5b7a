//! The faulty broker fails exactly as it is told, and otherwise is the storage it wraps.

use asynq_testing::request::batch_of;
use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{
    Broker as _, BrokerError, Connector as _, EnqueueError, Env, Inspect as _, SettleError, Storage,
    broker::{Exchanged, LeasedTask, Outcome, Settlement, Tick, Ticked, Want},
    options::TaskOptions,
    periodic::EntryKey,
    task::Task,
};
use asynq_memory::{MemoryBroker, MemoryStore};
use asynq_testing::{
    Fault, Faults, FaultyBroker, FaultyConnector,
    conformance::{Fixture, Harness},
    faulty::{Op, Plan},
    request,
    request::queue,
};
use tokio::time::timeout;

use crate::memory_backend::MemoryBackend;

fn faulty() -> (Faults, FaultyBroker<MemoryBroker>) {
    let faults = Faults::new();
    let broker = faults.around(Arc::new(MemoryBroker::default()));
    (faults, broker)
}

async fn enqueue(broker: &dyn Storage, id: &str) -> Result<(), EnqueueError> {
    broker
        .enqueue(&batch_of([request("q", id).token(7).build()]))
        .await
        .remove(0)
        .map(drop)
}

async fn exchange(broker: &dyn Storage, settle: &[(&LeasedTask, Outcome)], max: u32) -> Exchanged {
    let settle = settle.iter().map(|(task, outcome)| Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome: outcome.clone(),
        run: None,
    });
    broker
        .exchange(
            &broker.begin(),
            &settle.collect::<Vec<_>>(),
            &[Want { queue: queue("q"), max }],
        )
        .await
}

#[tokio::test]
async fn a_failure_is_not_executed() {
    let (faults, broker) = faulty();
    faults.next(Op::Enqueue, Fault::Fail(|| BrokerError::OutOfMemory));
    let answer = enqueue(&broker, "a").await;
    assert!(
        matches!(answer, Err(EnqueueError::Broker(BrokerError::OutOfMemory))),
        "{answer:?}"
    );
    assert!(broker.inner().raw_state().is_empty());
    enqueue(&broker, "a").await.unwrap();
    assert_eq!(faults.calls(Op::Enqueue), 2);
}

#[tokio::test]
async fn a_lost_reply_is_executed_and_a_lost_request_is_not() {
    let (faults, broker) = faulty();
    faults.next(Op::Enqueue, Fault::LoseRequest);
    faults.next(Op::Enqueue, Fault::LoseReply);
    for executed in [false, true] {
        let answer = enqueue(&broker, "a").await;
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
            "{answer:?}"
        );
        assert_eq!(!broker.inner().raw_state().is_empty(), executed);
    }
    // The same token again: success.
    enqueue(&broker, "a").await.unwrap();
}

#[tokio::test]
async fn a_lost_exchange_fails_every_part_and_can_be_adopted() {
    let (faults, broker) = faulty();
    enqueue(&broker, "a").await.unwrap();
    enqueue(&broker, "b").await.unwrap();
    let task = exchange(&broker, &[], 1).await.leased.remove(0);
    faults.next(Op::Exchange, Fault::LoseReply);
    let call = broker.begin();
    let settle = Settlement {
        lease: task.lease.clone(),
        message: Arc::clone(&task.message),
        outcome: Outcome::Done { retain: false },
        run: None,
    };
    let wants = ["q", "other"]
        .map(|name| Want {
            queue: queue(name),
            max: 1,
        })
        .to_vec();
    let answer = broker.exchange(&call, &[settle], &wants).await;
    assert!(matches!(
        answer.settled[..],
        [Err(SettleError::Broker(BrokerError::Ambiguous { .. }))]
    ));
    let failed: Vec<_> = answer
        .failed
        .iter()
        .map(|(of, error)| (of.as_str(), error.is_ambiguous()))
        .collect();
    assert_eq!(failed, [("other", true), ("q", true)]);
    assert!(answer.leased.is_empty());
    let adopted = broker.adopt(&queue("q"), &call).await.unwrap();
    assert_eq!(adopted[0].message.id, "b");
    let again = exchange(&broker, &[(&task, Outcome::Done { retain: false })], 0).await;
    assert!(matches!(again.settled[..], [Err(SettleError::NotOurs)]));
}

#[tokio::test]
async fn a_late_call_is_executed_after_its_replay() {
    let (faults, broker) = faulty();
    faults.next(Op::Enqueue, Fault::Late);
    assert!(enqueue(&broker, "a").await.is_err());
    assert!(broker.inner().raw_state().is_empty());
    enqueue(&broker, "a").await.unwrap();
    let before = broker.inner().raw_state();
    faults.run_late().await;
    assert_eq!(broker.inner().raw_state(), before, "the same request twice is one task");

    faults.next(Op::Exchange, Fault::Late);
    assert!(exchange(&broker, &[], 1).await.leased.is_empty());
    assert_eq!(exchange(&broker, &[], 1).await.leased.len(), 1);
    faults.run_late().await;
    faults.run_late().await;
}

#[tokio::test]
async fn adoption_is_a_barrier_for_late_exchanges() {
    let (faults, broker) = faulty();
    enqueue(&broker, "a").await.unwrap();
    faults.next(Op::Exchange, Fault::Late);
    let call = broker.begin();
    broker
        .exchange(
            &call,
            &[],
            &[Want {
                queue: queue("q"),
                max: 1,
            }],
        )
        .await;
    assert!(broker.adopt(&queue("q"), &call).await.unwrap().is_empty());
    let before = broker.inner().raw_state();
    faults.run_late().await;
    assert_eq!(broker.inner().raw_state(), before);
}

#[tokio::test]
async fn a_hanging_call_waits_for_its_release() {
    let (faults, broker) = faulty();
    faults.next(Op::Ping, Fault::Hang);
    {
        let mut ping = std::pin::pin!(broker.ping());
        assert!(timeout(Duration::from_millis(10), &mut ping).await.is_err());
        faults.hung(Op::Ping, 1).await;
        faults.release();
        ping.await.unwrap();
    }
    faults.next(Op::Ping, Fault::Hang);
    assert!(timeout(Duration::from_millis(10), broker.ping()).await.is_err());
    assert_eq!(faults.hanging(Op::Ping), 0, "a dropped call does not hang");
    faults.called(Op::Ping, 2).await;
}

#[tokio::test]
async fn orders_hold_until_they_are_taken_back() {
    let (faults, broker) = faulty();
    faults.all(Fault::unavailable());
    faults.always(Op::Ping, Fault::Fail(|| BrokerError::ReadOnly));
    for _ in 0..3 {
        assert!(matches!(broker.ping().await, Err(BrokerError::ReadOnly)));
        assert!(matches!(broker.queues().await, Err(BrokerError::Unavailable { .. })));
    }
    faults.clear();
    broker.ping().await.unwrap();
    broker.queues().await.unwrap();
}

#[tokio::test]
async fn a_plan_is_the_same_for_the_same_seed() {
    let run = async |seed| {
        let (faults, broker) = faulty();
        faults.plan(
            Plan::seeded(seed)
                .only(&[Op::Ping])
                .with(300, Fault::unavailable())
                .with(200, Fault::LoseReply),
        );
        let mut answers = String::new();
        for _ in 0..200 {
            broker.queues().await.unwrap();
            answers.push(match broker.ping().await {
                Ok(()) => '.',
                Err(BrokerError::Ambiguous { .. }) => '?',
                Err(_) => 'x',
            });
        }
        answers
    };
    let (one, two, other) = (run(1).await, run(1).await, run(2).await);
    assert_eq!(one, two);
    assert_ne!(one, other);
    let count = |of| one.chars().filter(|c| *c == of).count();
    assert!(
        (30..90).contains(&count('x')) && (15..70).contains(&count('?')),
        "{one}"
    );
}

#[tokio::test]
async fn a_connector_refuses_and_then_opens() {
    let connector = FaultyConnector::new(MemoryStore::new(), Faults::new());
    connector.faults().next(Op::Connect, Fault::unavailable());
    assert!(matches!(
        connector.connect(Env::default()).await,
        Err(BrokerError::Unavailable { .. })
    ));
    let storage = connector.connect(Env::default()).await.unwrap();
    connector.faults().next(Op::Ping, Fault::LoseReply);
    assert!(storage.ping().await.is_err());
    storage.ping().await.unwrap();
    assert_eq!(
        (connector.faults().calls(Op::Connect), connector.describe().as_str()),
        (2, "faulty memory")
    );
}

/// The suite over a faulty broker without faults.
struct Transparent;

#[async_trait]
impl Harness for Transparent {
    async fn open(&self) -> Fixture {
        let faultless = |store| FaultyConnector::new(store, Faults::new());
        Fixture::new(MemoryBackend::through(faultless)).await
    }
}

#[tokio::test]
async fn without_faults_it_is_the_storage_itself() {
    for case in asynq_testing::conformance::CASES {
        asynq_testing::conformance::run(&Transparent, case.name).await;
    }
}

#[tokio::test]
async fn trees_and_progress_pass_through_and_fail_when_told() {
    use asynq_core::{ActorState, Progress, ServerIdentity, TreeNode};
    let (faults, broker) = faulty();
    let server = ServerIdentity {
        host: "h".into(),
        pid: 7,
        server_id: "s".into(),
    };
    let (now, ttl) = (chrono::Utc::now(), Duration::from_secs(10));
    let tree = TreeNode::new("system", ActorState::Running, now);
    faults.next(Op::WriteTree, Fault::unavailable());
    let failed = broker.write_tree(&server, &tree, ttl).await;
    assert!(matches!(failed, Err(BrokerError::Unavailable { .. })), "{failed:?}");
    assert!(broker.trees().await.unwrap().is_empty());
    broker.write_tree(&server, &tree, ttl).await.unwrap();
    assert_eq!(broker.trees().await.unwrap()[0].tree, tree);
    faults.next(Op::ClearTree, Fault::LoseReply);
    assert!(broker.clear_tree(&server).await.is_err());
    faults.next(Op::Trees, Fault::unavailable());
    assert!(broker.trees().await.is_err());
    assert!(broker.trees().await.unwrap().is_empty());
    enqueue(&broker, "a").await.unwrap();
    let lease = exchange(&broker, &[], 1).await.leased.remove(0).lease;
    let progress = Progress {
        percent: 50,
        note: String::new(),
        at: now,
    };
    faults.next(Op::WriteProgress, Fault::LoseReply);
    assert!(broker.write_progress(&lease, progress.clone()).await.is_err());
    let info = broker.task_info(&lease.queue, &lease.id).await.unwrap();
    assert_eq!((info.progress, faults.calls(Op::WriteProgress)), (Some(progress), 1));
}

#[tokio::test]
async fn a_task_is_run_when_the_answer_is_lost_and_not_when_the_request_is() {
    let (faults, broker) = faulty();
    let delayed = request("q", "a").at(chrono::Utc::now() + Duration::from_secs(60));
    broker.enqueue(&batch_of([delayed.build()])).await.remove(0).unwrap();
    let (queue, id) = (queue("q"), request::id("a"));
    for (fault, state) in [(Fault::LoseRequest, "scheduled"), (Fault::LoseReply, "pending")] {
        faults.next(Op::RunTask, fault);
        let lost = broker.run_task(&queue, &id).await;
        assert!(matches!(lost, Err(BrokerError::Ambiguous { .. })), "{lost:?}");
        assert_eq!(broker.task_info(&queue, &id).await.unwrap().state.as_str(), state);
    }
    assert_eq!(faults.calls(Op::RunTask), 2);
}

#[tokio::test]
async fn a_tick_fails_in_every_way() {
    let (faults, broker) = faulty();
    let task = Task::without_payload("t").unwrap();
    let entry = EntryKey::new("default", "* * * * *", "UTC", &task, &TaskOptions::new());
    let tick = Tick {
        entry: entry.clone(),
        at: chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        gap: Duration::ZERO,
        keep: Duration::from_secs(60),
        by: "s".into(),
        on_conflict: asynq_core::OnConflict::Skip,
        decide: true,
    };
    let new = |id: &str| request("q", id).token(7).build();
    faults.next(Op::EnqueueTick, Fault::unavailable());
    let answer = broker.enqueue_tick(new("a"), &tick).await;
    assert!(
        matches!(answer, Err(EnqueueError::Broker(BrokerError::Unavailable { .. }))),
        "{answer:?}"
    );
    for (fault, executed) in [
        (Fault::LoseRequest, false),
        (Fault::Late, false),
        (Fault::LoseReply, true),
    ] {
        faults.next(Op::EnqueueTick, fault);
        let answer = broker.enqueue_tick(new("a"), &tick).await;
        assert!(
            matches!(answer, Err(EnqueueError::Broker(BrokerError::Ambiguous { .. }))),
            "{answer:?}"
        );
        assert_eq!(!broker.inner().raw_state().is_empty(), executed, "{fault:?}");
    }
    let before = broker.inner().raw_state();
    faults.run_late().await;
    assert_eq!(broker.inner().raw_state(), before);
    let answer = broker.enqueue_tick(new("a"), &tick).await;
    assert!(matches!(answer, Ok(Ticked::Enqueued(_))), "{answer:?}");
    faults.next(Op::LastTicks, Fault::unavailable());
    let asked = [(queue("q"), entry.clone()), (queue("r"), entry)];
    let answers = broker.last_ticks(&asked).await;
    assert!(
        matches!(
            answers[..],
            [
                Err(BrokerError::Unavailable { .. }),
                Err(BrokerError::Unavailable { .. })
            ]
        ),
        "{answers:?}"
    );
    let answers: Vec<_> = broker
        .last_ticks(&asked)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let answers: Vec<_> = answers
        .into_iter()
        .map(|mark| mark.map(|mark| mark.instant()))
        .collect();
    assert_eq!(answers, [Some(tick.at), None]);
}

async fn exchange_both(broker: &dyn Storage) -> (asynq_core::broker::CallRecord, Exchanged) {
    let want = ["b", "q"].map(|name| Want {
        queue: queue(name),
        max: 1,
    });
    let call = broker.begin();
    let answer = broker.exchange(&call, &[], &want).await;
    (call, answer)
}

fn queues(answer: &Exchanged) -> (Vec<String>, Vec<String>) {
    let leased = answer.leased.iter().map(|task| task.lease.queue.to_string());
    let failed = answer.failed.iter().map(|(queue, _)| queue.to_string());
    (leased.collect(), failed.collect())
}

/// Calls over two queues, of which one has a fault.
#[tokio::test]
async fn a_fault_of_one_queue_leaves_the_parts_of_the_others_alone() {
    let out_of_memory = Fault::Fail(|| BrokerError::OutOfMemory);
    for (fault, executed) in [
        (Fault::LoseReply, true),
        (Fault::LoseRequest, false),
        (out_of_memory, false),
    ] {
        let (faults, broker) = faulty();
        let sick = faults.for_queue(&queue("q"));
        sick.next(Op::Enqueue, fault);
        let batch = [("b", "1"), ("q", "2"), ("b", "3")].map(|(queue, id)| request(queue, id).build());
        let answers = broker.enqueue(&batch_of(batch.to_vec())).await;
        let well: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(well, [true, false, true], "{fault:?}");
        let id = asynq_core::TaskId::new("2").unwrap();
        let known = broker.inner().task_info(&queue("q"), &id).await.is_ok();
        assert_eq!(known, executed, "{fault:?}");
        if !executed {
            broker
                .enqueue(&batch_of([request("q", "2").build()]))
                .await
                .remove(0)
                .unwrap();
        }

        sick.next(Op::Exchange, fault);
        let (call, answer) = exchange_both(&broker).await;
        assert_eq!(
            queues(&answer),
            (vec!["b".to_owned()], vec!["q".to_owned()]),
            "{fault:?}"
        );
        let found = broker.adopt(&queue("q"), &call).await.unwrap();
        assert_eq!(found.len(), usize::from(executed), "{fault:?}");
        let mut taken = answer.leased;
        if executed {
            taken.extend(found);
        } else {
            taken.extend(exchange_both(&broker).await.1.leased);
        }

        sick.next(Op::ExtendLeases, fault);
        let leases: Vec<_> = taken.iter().map(|task| task.lease.clone()).collect();
        for (answer, lease) in broker.extend_leases(leases.clone()).await.iter().zip(&leases) {
            assert_eq!(answer.is_ok(), lease.queue == "b", "{fault:?}: {answer:?}");
        }
        // All orders were carried out.
        assert!(broker.extend_leases(leases).await.iter().all(Result::is_ok));
        assert_eq!((sick.calls(Op::Enqueue) >= 1, sick.calls(Op::ExtendLeases)), (true, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_keeps_its_call_or_is_answered_late() {
    for fault in [Fault::Hang, Fault::HoldReply] {
        let (faults, broker) = faulty();
        let sick = faults.for_queue(&queue("q"));
        for (name, id) in [("b", "1"), ("q", "2"), ("b", "3"), ("q", "4")] {
            broker
                .enqueue(&batch_of([request(name, id).build()]))
                .await
                .remove(0)
                .unwrap();
        }
        sick.always(Op::Exchange, fault);
        let mut whole = std::pin::pin!(exchange_both(&broker));
        assert!(
            timeout(Duration::from_secs(100), &mut whole).await.is_err(),
            "{fault:?}"
        );
        assert_eq!((sick.hanging(Op::Exchange), faults.hanging(Op::Exchange)), (1, 1));
        sick.release();
        let answer = whole.await.1;
        assert_eq!(answer.leased.len(), 2, "{fault:?}");

        faults.late_after(Duration::from_secs(1));
        let (call, answer) = timeout(Duration::from_secs(2), exchange_both(&broker)).await.unwrap();
        assert_eq!(
            queues(&answer),
            (vec!["b".to_owned()], vec!["q".to_owned()]),
            "{fault:?}"
        );
        assert!(answer.failed[0].1.is_ambiguous() && sick.hanging(Op::Exchange) == 0);
        // What did not arrive in time arrives later.
        faults.run_late().await;
        let found = broker.adopt(&queue("q"), &call).await.unwrap();
        assert_eq!(found.len(), 1, "{fault:?}");
    }
}

/// Operations of one queue, and a watch over several.
#[tokio::test(start_paused = true)]
async fn a_queue_without_orders_passes() {
    use asynq_core::broker::WatchKind;
    let (faults, broker) = faulty();
    let sick = faults.for_queue(&queue("q"));
    sick.all(Fault::unavailable());
    let (q, b) = (queue("q"), queue("b"));
    assert!(broker.forward(&q, 1).await.is_err() && broker.forward(&b, 1).await.is_ok());
    assert!(broker.heal(&q, 1).await.is_err() && broker.heal(&b, 1).await.is_ok());
    assert!(broker.list_groups(&q).await.is_err() && broker.list_groups(&b).await.is_ok());
    let both = [b.clone(), q];
    assert!(broker.watch(&both, WatchKind::Delayed).await.is_err());
    assert!(broker.watch(std::slice::from_ref(&b), WatchKind::Delayed).await.is_ok());
    sick.clear();
    assert!(broker.watch(&both, WatchKind::Delayed).await.is_ok());
}
