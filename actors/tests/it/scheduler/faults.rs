//! A storage that fails and loses answers.

use asynq_actors::{AsynqSystem, SchedulerConfig, SchedulerHandle};
use asynq_core::{EnqueueError, Error, OnConflict, PeriodicTaskConfig, Task, TaskOptions, error::BrokerError};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op, Plan};

use super::kit::{Book, MINUTE, SECOND, at, env, histories, other, start, task, tasks, times, until};

/// A thousand ticks while calls fail as planned.
async fn a_thousand_ticks(plan: Plan) {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let id = scheduler.register("@every 2s", task("t")).unwrap();
    faults.plan(plan);
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T12:33:50Z").await;
    faults.clear();
    tokio::time::sleep(10 * SECOND).await;
    let ticks = times("2024-03-10T12:00:32Z", 2 * SECOND, "2024-03-10T12:34:00Z");
    assert_eq!(book.of("t"), ticks);
    assert_eq!(tasks(&store, &env).await, ticks.len());
    assert!(
        faults.calls(Op::EnqueueTick) as usize > ticks.len() + 100,
        "too few faults"
    );
    let [(of, events)] = &histories(&store)[..] else {
        panic!("one history")
    };
    assert_eq!(*of, id.to_string());
    assert!(events.len() > 500, "{}", events.len());
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail() {
    a_thousand_ticks(Plan::seeded(1).with(300, Fault::unavailable())).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost() {
    a_thousand_ticks(Plan::seeded(2).with(300, Fault::LoseReply)).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_lost() {
    a_thousand_ticks(Plan::seeded(3).with(300, Fault::LoseRequest)).await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_does_not_answer_is_asked_again() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    faults.next(Op::EnqueueTick, Fault::Hang);
    faults.next(Op::EnqueueTick, Fault::HoldReply);
    until(&env, "2024-03-10T12:03:00Z").await;
    assert_eq!(
        book.of("t"),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:03:00Z")
    );
    assert_eq!(tasks(&store, &env).await, 3);
    system.shutdown().await;
}

/// A duplicate decides the tick, for all schedulers; the next tick comes all the same.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_taken_decides_the_tick() {
    let (store, env) = (MemoryStore::new(), env());
    let (sent, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let config = SchedulerConfig::new().post_enqueue(move |answer| {
        let taken = matches!(answer, Err(EnqueueError::DuplicateTask));
        assert!(taken || answer.is_ok(), "{answer:?}");
        sent.send(taken).unwrap();
    });
    let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
    let options = TaskOptions::new().unique_ttl(90 * SECOND);
    scheduler.register_with("* * * * *", task("t"), &options).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T12:04:00Z").await;
    let mut taken = Vec::new();
    while let Ok(answer) = answers.try_recv() {
        taken.push(answer);
    }
    assert_eq!(taken, [false, true, false, true]);
    assert_eq!(tasks(&store, &env).await, 2);
    system.shutdown().await;
}

/// An error that stays costs the one tick, and no more.
#[tokio::test(start_paused = true)]
async fn an_error_that_stays_is_not_tried_again() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    let refused = || BrokerError::Refused {
        source: "NOPERM".into(),
    };
    faults.next(Op::EnqueueTick, Fault::Fail(refused));
    until(&env, "2024-03-10T12:02:00Z").await;
    assert_eq!(book.of("t"), [at("2024-03-10T12:02:00Z")]);
    assert_eq!(faults.calls(Op::EnqueueTick), 2);
    system.shutdown().await;
}

/// The stored tick of an entry is asked for until there is an answer.
#[tokio::test(start_paused = true)]
async fn a_start_without_a_storage() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("t")).unwrap();
    faults.all(Fault::unavailable());
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T12:04:00Z").await;
    assert_eq!(book.len(), 0);
    faults.clear();
    until(&env, "2024-03-10T12:05:00Z").await;
    assert_eq!(
        book.of("t"),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:05:00Z")
    );
    system.shutdown().await;
}

/// An entry whose queue cannot be read keeps no other one waiting.
#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("@every 2s", task("t")).unwrap();
    let options = TaskOptions::new().queue("away");
    scheduler.register_with("@every 2s", task("away"), &options).unwrap();
    faults.refuse("away", || BrokerError::Unavailable { source: None });
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    faults.called(Op::EnqueueTick, 1).await;
    let first = env.clock.now();
    assert!(first < at("2024-03-10T12:00:33Z"), "{first}");
    faults.clear();
    until(&env, "2024-03-10T12:01:00Z").await;
    for entry in ["t", "away"] {
        assert_eq!(
            book.of(entry),
            times("2024-03-10T12:00:32Z", 2 * SECOND, "2024-03-10T12:01:00Z")
        );
    }
    system.shutdown().await;
}

/// An answer is lost, and before the request is sent again another scheduler decides the next ticks, and their
/// tasks are done and gone. Each tick is told by the one that decided it, and is in its history.
#[tokio::test(start_paused = true)]
async fn a_tick_whose_answer_was_lost_is_told_though_others_went_on() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let first = book.scheduler(SchedulerConfig::new(), &env);
    first.register("* * * * *", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &first).await;
    until(&env, "2024-03-10T12:00:50Z").await;
    let env_of_second = other(&env, 2);
    let second = book.scheduler(SchedulerConfig::new(), &env_of_second);
    second.register("* * * * *", task("t")).unwrap();

    // The first one decides 12:01 and does not hear of it, for as long as all its calls fail.
    faults.next(Op::EnqueueTick, Fault::LoseReply);
    faults.called(Op::EnqueueTick, 1).await;
    faults.all(Fault::unavailable());
    let running = start(store.clone(), &env_of_second, &second).await;
    let runs = AsynqSystem::builder(store.clone())
        .env(other(&env, 3))
        .handler(|_: Task| std::future::ready(Ok(())))
        .spawn();
    let worker = runs.await.unwrap();
    until(&env, "2024-03-10T12:03:00Z").await;
    assert_eq!(tasks(&store, &env).await, 0, "all are done and gone");
    faults.clear();
    until(&env, "2024-03-10T12:04:00Z").await;

    let mut told = book.of("t");
    told.sort_unstable();
    assert_eq!(told, times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:04:00Z"));
    let events: usize = histories(&store).iter().map(|(_, events)| events.len()).sum();
    assert_eq!(events, 4);
    for system in [system, running, worker] {
        system.shutdown().await;
    }
}

/// Past its time a tick is sent no more; but whether an answer that was lost said that it was enqueued, is asked.
#[tokio::test(start_paused = true)]
async fn a_tick_that_is_too_late_was_enqueued_or_not() {
    for (fault, enqueued) in [(Fault::LoseReply, 1), (Fault::LoseRequest, 0)] {
        let (store, env, faults) = (MemoryStore::new(), env(), Faults::new());
        let (sent, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let config = SchedulerConfig::new().post_enqueue(move |answer| sent.send(answer.is_ok()).unwrap());
        let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
        scheduler.register("0 * * * *", task("t")).unwrap();
        let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
        until(&env, "2024-03-10T12:59:00Z").await;
        faults.next(Op::EnqueueTick, fault);
        faults.called(Op::EnqueueTick, 1).await;
        faults.all(Fault::unavailable());
        until(&env, "2024-03-10T13:20:00Z").await;
        assert!(answers.try_recv().is_err(), "nobody can know");
        faults.clear();
        until(&env, "2024-03-10T13:20:10Z").await;
        assert_eq!(answers.try_recv(), Ok(enqueued == 1));
        assert!(answers.try_recv().is_err());
        assert_eq!(tasks(&store, &env).await, enqueued);
        let events: usize = histories(&store).iter().map(|(_, events)| events.len()).sum();
        assert_eq!(events, enqueued);
        system.shutdown().await;
    }
}

/// A history that cannot be written now is written later, and keeps no tick waiting.
#[tokio::test(start_paused = true)]
async fn a_history_that_cannot_be_written_now_is_written_later() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    faults.always(Op::RecordEnqueueEvent, Fault::unavailable());
    until(&env, "2024-03-10T12:05:00Z").await;
    let ticks = times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:05:00Z");
    assert_eq!(book.of("t"), ticks);
    assert!(histories(&store).is_empty());
    let calls = faults.calls(Op::RecordEnqueueEvent);
    assert!((5..500).contains(&calls), "{calls} calls");
    faults.clear();
    until(&env, "2024-03-10T12:05:10Z").await;
    let [(_, events)] = &histories(&store)[..] else {
        panic!("one history")
    };
    assert_eq!(events.len(), ticks.len());
    system.shutdown().await;
}

/// A periodic task with a fixed id whose last run was archived.
#[tokio::test(start_paused = true)]
async fn an_archived_task_keeps_its_id_unless_the_entry_says_otherwise() {
    for (policy, expected) in [(OnConflict::Skip, false), (OnConflict::ReplaceFinished, true)] {
        let (store, env) = (MemoryStore::new(), env());
        let (sent, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let config = SchedulerConfig::new().post_enqueue(move |answer| {
            assert!(
                matches!(answer, Ok(_) | Err(EnqueueError::TaskIdConflict)),
                "{answer:?}"
            );
            sent.send(answer.is_ok()).unwrap();
        });
        let scheduler = SchedulerHandle::new(config, env.clone()).unwrap();
        let periodic = PeriodicTaskConfig::new("* * * * *", task("t").with_task_id("report").with_max_retry(0));
        scheduler.add(&periodic.on_conflict(policy)).unwrap();
        let system = start(store.clone(), &env, &scheduler).await;
        let fails = AsynqSystem::builder(store.clone())
            .env(other(&env, 3))
            .handler(|_: Task| std::future::ready(Err(Error::other("boom"))))
            .spawn();
        let worker = fails.await.unwrap();
        until(&env, "2024-03-10T12:04:00Z").await;
        let mut told = Vec::new();
        while let Ok(answer) = answers.try_recv() {
            told.push(answer);
        }
        assert_eq!(told, [true, expected, expected, expected], "{policy:?}");
        assert_eq!(tasks(&store, &env).await, 1);
        for system in [system, worker] {
            system.shutdown().await;
        }
    }
}
