//! Several schedulers of one name on one storage: each tick is enqueued once.

use std::time::Duration;

use asynq_actors::{AsynqSystem, SchedulerConfig};
use asynq_core::{Entropy, broker::Env};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Plan};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

use super::kit::{Book, MINUTE, SECOND, Time, at, builder, env, other, start, task, tasks, times, until};

const ENTRIES: [(&str, &str); 3] = [
    ("* * * * *", "minutely"),
    ("@every 7s", "every 7s"),
    ("@every 90s", "every 90s"),
];

/// Returns whether each is a period after the one before.
fn is_regular(ticks: &[Time], period: Duration) -> bool {
    ticks.is_sorted_by(|a, b| *a + period == *b)
}

fn sorted(mut ticks: Vec<Time>) -> Vec<Time> {
    ticks.sort_unstable();
    ticks
}

async fn begin(store: &MemoryStore, env: &Env, book: &Book, faults: &Faults) -> AsynqSystem {
    let scheduler = book.scheduler(SchedulerConfig::new(), env);
    for (spec, task_type) in ENTRIES {
        scheduler.register(spec, task(task_type)).unwrap();
    }
    start(FaultyConnector::new(store.clone(), faults.clone()), env, &scheduler).await
}

/// So many systems, in different phases, for an hour.
async fn together(systems: u64, faults: Faults) {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let mut running = Vec::new();
    for seed in 0..systems {
        running.push(begin(&store, &other(&env, seed), &book, &faults).await);
        tokio::time::sleep(Duration::from_millis(2300)).await;
    }
    until(&env, "2024-03-10T13:00:00Z").await;
    faults.clear();
    tokio::time::sleep(20 * SECOND).await;
    for system in running {
        system.shutdown().await;
    }
    assert_eq!(
        sorted(book.of("minutely")),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T13:00:00Z")
    );
    for (task_type, first, period) in [("every 7s", "12:00:37", 7), ("every 90s", "12:02:00", 90)] {
        let ticks = sorted(book.of(task_type));
        assert_eq!(ticks[0], at(&format!("2024-03-10T{first}Z")));
        assert!(is_regular(&ticks, period * SECOND), "{task_type}: {ticks:?}");
        assert!(*ticks.last().unwrap() > at("2024-03-10T12:58:00Z"));
    }
    assert_eq!(tasks(&store, &env).await, book.len());
}

#[tokio::test(start_paused = true)]
async fn two() {
    together(2, Faults::new()).await;
}

#[tokio::test(start_paused = true)]
async fn three() {
    together(3, Faults::new()).await;
}

#[tokio::test(start_paused = true)]
async fn three_while_answers_are_lost() {
    let faults = Faults::new();
    let plan = Plan::seeded(8)
        .with(100, Fault::LoseReply)
        .with(100, Fault::LoseRequest)
        .with(100, Fault::unavailable());
    faults.plan(plan);
    together(3, faults).await;
}

/// A process: what is linked to it ends with it, without a word.
struct Process;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Process {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: ractor::SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn process(store: &MemoryStore, env: &Env, book: &Book) -> (ActorCell, AsynqSystem) {
    let (process, _) = Actor::spawn(None, Process, ()).await.unwrap();
    let scheduler = book.scheduler(SchedulerConfig::new(), env);
    for (spec, task_type) in ENTRIES {
        scheduler.register(spec, task(task_type)).unwrap();
    }
    let system = builder(store.clone(), env)
        .scheduler_handle(scheduler)
        .spawn_linked(process.get_cell())
        .await
        .unwrap();
    (process.get_cell(), system)
}

/// Random ones of three are killed at random moments, and started anew, for an hour and a quarter.
#[tokio::test(start_paused = true)]
async fn one_of_them_is_killed_again_and_again() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let chance = Entropy::seeded(21);
    let mut processes = Vec::new();
    for seed in 0..3 {
        processes.push(process(&store, &other(&env, seed), &book).await);
    }
    let mut killed = 0;
    while env.clock.now() < at("2024-03-10T13:15:00Z") {
        tokio::time::sleep(chance.around(10 * SECOND)).await;
        let index = usize::try_from(chance.below(3)).unwrap();
        let (cell, system) = processes.swap_remove(index);
        cell.kill();
        system.wait().await;
        killed += 1;
        processes.push(process(&store, &other(&env, 100 + killed), &book).await);
    }
    tokio::time::sleep(90 * SECOND).await;
    for (process, system) in processes {
        system.shutdown().await;
        process.stop(None);
    }
    assert!(killed > 250, "{killed}");
    let minutely = sorted(book.of("minutely"));
    assert_eq!(minutely[0], at("2024-03-10T12:01:00Z"));
    for (task_type, period) in [("minutely", 60), ("every 7s", 7), ("every 90s", 90)] {
        let ticks = sorted(book.of(task_type));
        assert!(is_regular(&ticks, period * SECOND), "{task_type}: {ticks:?}");
        assert!(*ticks.last().unwrap() >= at("2024-03-10T13:15:00Z"));
    }
    assert_eq!(tasks(&store, &env).await, book.len());
}
