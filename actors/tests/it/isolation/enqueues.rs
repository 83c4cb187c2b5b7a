//! Enqueues into a queue that does not answer keep no other waiting.

use std::time::Duration;

use asynq_actors::AsynqSystem;
use asynq_core::{BrokerError, EnqueueError, Error};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op, QueueFaults};
use tokio::{task::JoinSet, time::Instant};

use super::kit::{SECOND, SICK, WELL, queue, task};
use crate::env;

const SOON: Duration = Duration::from_millis(50);

async fn system() -> (AsynqSystem, Faults, QueueFaults) {
    let faults = Faults::new();
    let connector = FaultyConnector::new(MemoryStore::new(), faults.clone());
    let system = AsynqSystem::builder(connector).env(env()).spawn().await.unwrap();
    system.ping().await.unwrap();
    let sick = faults.for_queue(&queue(SICK));
    (system, faults, sick)
}

/// Many at once and in turn, beside an enqueue into the sick queue every 20 ms.
async fn leaves_the_others_prompt(fault: Fault, late_after: Option<Duration>) {
    let (system, faults, sick) = system().await;
    if let Some(limit) = late_after {
        faults.late_after(limit);
    }
    sick.always(Op::Enqueue, fault);
    let mut callers = JoinSet::new();
    for round in 0..600 {
        let client = system.client();
        let ill = task(SICK, format!("s{round}"));
        callers.spawn(async move { client.enqueue(ill).await.map(drop) });
        let began = Instant::now();
        let well = (0..3).map(|number| task(WELL, format!("w{round}-{number}")));
        for answer in system.client().enqueue_many(well).await {
            answer.unwrap();
        }
        assert!(
            began.elapsed() < SOON,
            "{:?} in round {round}: {fault:?}",
            began.elapsed()
        );
        assert!(sick.hanging(Op::Enqueue) <= 3, "{}", sick.hanging(Op::Enqueue));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sick.clear();
    sick.release();
    // Those that were given up are told so; the others get in.
    let mut taken = 0;
    while let Some(answer) = callers.join_next().await {
        match answer.unwrap() {
            Ok(()) => taken += 1,
            Err(Error::Enqueue(EnqueueError::Unknown { .. }) | Error::Broker(BrokerError::Unavailable { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(taken > 100, "{taken} of 600 when all is well again");
    let began = Instant::now();
    system.client().enqueue(task(SICK, "last")).await.unwrap();
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn enqueues_that_hang() {
    leaves_the_others_prompt(Fault::Hang, None).await;
}

#[tokio::test(start_paused = true)]
async fn enqueues_whose_answer_hangs() {
    leaves_the_others_prompt(Fault::HoldReply, None).await;
}

#[tokio::test(start_paused = true)]
async fn enqueues_that_are_answered_late() {
    leaves_the_others_prompt(Fault::Hang, Some(SECOND)).await;
}

#[tokio::test(start_paused = true)]
async fn enqueues_without_answer() {
    leaves_the_others_prompt(Fault::LoseReply, None).await;
}

#[tokio::test(start_paused = true)]
async fn enqueues_that_fail() {
    leaves_the_others_prompt(Fault::unavailable(), None).await;
}

/// The places among what waits are not all the sick queue's: of a flood, no more than a part is kept.
#[tokio::test(start_paused = true)]
async fn a_flood_into_a_silent_queue_leaves_places_to_the_others() {
    let (system, _faults, sick) = system().await;
    sick.always(Op::Enqueue, Fault::Hang);
    let mut callers = JoinSet::new();
    for number in 0..20_000 {
        let (client, ill) = (system.client(), task(SICK, format!("s{number}")));
        callers.spawn(async move { client.enqueue(ill).await.map(drop) });
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // For the first ones the trouble is not known.
    tokio::time::sleep(10 * SECOND).await;
    for number in 0..50 {
        let began = Instant::now();
        system.client().enqueue(task(WELL, format!("w{number}"))).await.unwrap();
        assert!(began.elapsed() < SOON, "{:?} at {number}", began.elapsed());
        tokio::time::sleep(SECOND / 5).await;
    }
    callers.shutdown().await;
    sick.clear();
    sick.release();
    system.shutdown().await;
}
