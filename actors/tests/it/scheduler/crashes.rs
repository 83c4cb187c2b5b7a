//! The actor crashes: no tick is missed, none comes twice.

use std::time::Duration;

use asynq_actors::{ActorState, AsynqSystem, Crash, Exit, SchedulerConfig};
use asynq_core::Entropy;
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op, Plan};

use super::kit::{Book, SECOND, env, histories, start, task, tasks, times, until};

const SCHEDULER: &str = "maintenance/scheduler";
const ALL: [Crash; 3] = [Crash::Kill, Crash::Panic, Crash::Error];

fn restarts(system: &AsynqSystem, path: &[&str]) -> u64 {
    system.tree().unwrap().find(path).unwrap().restarts
}

/// An hour of a tick a second; the paths crash at random moments, in the ways given, once in three
/// seconds or so.
async fn survives(paths: &[&str], crashes: &[Crash], plan: Option<Plan>, seed: u64) {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("@every 1s", task("t")).unwrap();
    scheduler.register("@every 2s", task("u")).unwrap();
    if let Some(plan) = plan {
        faults.plan(plan);
    }
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    let chance = Entropy::seeded(seed);
    let pick = |most: usize| usize::try_from(chance.below(most as u64)).unwrap();
    while env.clock.now() < super::kit::at("2024-03-10T13:00:00Z") {
        // Often right at a tick.
        let wait = chance.around(3 * SECOND);
        tokio::time::sleep(wait).await;
        if pick(2) == 0 {
            let nanos = 1_000_000_000 - env.clock.now().timestamp_subsec_nanos();
            tokio::time::sleep(Duration::from_nanos(nanos.into())).await;
            for _ in 0..pick(40) {
                tokio::task::yield_now().await;
            }
        }
        assert!(system.crash_actor(paths[pick(paths.len())], crashes[pick(crashes.len())]));
    }
    faults.clear();
    until(&env, "2024-03-10T13:02:00Z").await;
    assert_eq!(
        book.of("t"),
        times("2024-03-10T12:00:31Z", SECOND, "2024-03-10T13:02:00Z")
    );
    assert_eq!(
        book.of("u"),
        times("2024-03-10T12:00:32Z", 2 * SECOND, "2024-03-10T13:02:00Z")
    );
    assert_eq!(tasks(&store, &env).await, book.len());
    assert!(
        restarts(&system, &["maintenance", "scheduler"]) > 300,
        "{:?}",
        system.tree()
    );
    assert_eq!(system.shutdown().await, Exit::Stopped);
    assert_eq!(histories(&store), []);
}

#[tokio::test(start_paused = true)]
async fn killed() {
    survives(&[SCHEDULER], &[Crash::Kill], None, 1).await;
}

#[tokio::test(start_paused = true)]
async fn panics() {
    survives(&[SCHEDULER], &[Crash::Panic], None, 2).await;
}

#[tokio::test(start_paused = true)]
async fn errs() {
    survives(&[SCHEDULER], &[Crash::Error], None, 3).await;
}

#[tokio::test(start_paused = true)]
async fn with_its_supervisor_and_the_broker_while_answers_are_lost() {
    let plan = Plan::seeded(4)
        .with(50, Fault::LoseReply)
        .with(50, Fault::LoseRequest)
        .with(50, Fault::unavailable());
    let paths = [SCHEDULER, SCHEDULER, SCHEDULER, "maintenance", "broker"];
    survives(&paths, &ALL, Some(plan), 5).await;
}

/// A tick is being enqueued when the actor crashes: the next incarnation sends the same request, and
/// what the first attempt did counts.
#[tokio::test(start_paused = true)]
async fn a_tick_under_way_goes_on() {
    for (crash, fault) in [
        (Crash::Kill, Fault::HoldReply),
        (Crash::Kill, Fault::Hang),
        (Crash::Panic, Fault::HoldReply),
        (Crash::Error, Fault::HoldReply),
    ] {
        let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
        let scheduler = book.scheduler(SchedulerConfig::new(), &env);
        scheduler.register("* * * * *", task("t")).unwrap();
        let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
        faults.next(Op::EnqueueTick, fault);
        until(&env, "2024-03-10T12:01:00Z").await;
        assert_eq!(faults.calls(Op::EnqueueTick), 1);
        assert_eq!(book.len(), 0);
        let mut events = system.tree_events();
        assert!(system.crash_actor(SCHEDULER, crash));
        // It notices a lit fuse when it handles something.
        scheduler.register("@yearly", task("rare")).unwrap();
        while restarts(&system, &["maintenance", "scheduler"]) == 0 {
            let event = events.recv().await.unwrap();
            assert_ne!(event.state, ActorState::Failed);
        }
        until(&env, "2024-03-10T12:01:05Z").await;
        assert_eq!(book.len(), 1, "{crash:?} {fault:?}");
        assert_eq!(tasks(&store, &env).await, 1, "{crash:?} {fault:?}");
        faults.release();
        until(&env, "2024-03-10T12:02:00Z").await;
        assert_eq!(tasks(&store, &env).await, 2);
        system.shutdown().await;
    }
}
