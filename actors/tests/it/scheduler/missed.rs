//! Ticks that fell while nobody was there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use asynq_actors::{SchedulerConfig, SchedulerHandle};
use asynq_core::{Clock, Entropy, MissedTicks, PeriodicTaskConfig, broker::Env};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use super::kit::{Book, HOUR, MINUTE, SECOND, at, env, other, start, task, tasks, times, until};

/// An hourly, a minutely and an `@every` entry, of one policy.
fn register(scheduler: &SchedulerHandle, missed: MissedTicks) {
    for (spec, task_type) in [("@hourly", "hourly"), ("* * * * *", "minutely"), ("@every 4h", "every")] {
        scheduler
            .add(&PeriodicTaskConfig::new(spec, task(task_type)).missed(missed))
            .unwrap();
    }
}

/// A scheduler runs until half past four, and another from half past eight on, two days later.
async fn a_gap(missed: MissedTicks) -> Book {
    let (store, env) = (MemoryStore::new(), env());
    let before = Book::default();
    let scheduler = before.scheduler(SchedulerConfig::new(), &env);
    register(&scheduler, MissedTicks::Skip);
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T16:30:00Z").await;
    system.shutdown().await;
    assert_eq!(before.of("every"), [at("2024-03-10T16:00:30Z")]);
    until(&env, "2024-03-13T08:30:00Z").await;

    let after = Book::default();
    let env = other(&env, 6);
    let scheduler = after.scheduler(SchedulerConfig::new(), &env);
    register(&scheduler, missed);
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-13T09:00:00Z").await;
    system.shutdown().await;
    assert_eq!(tasks(&store, &env).await, before.len() + after.len());
    after
}

/// The first and the last minute that the second scheduler answers for.
const ANSWERED: (&str, &str) = ("2024-03-13T08:31:00Z", "2024-03-13T09:00:00Z");

#[tokio::test(start_paused = true)]
async fn skipped() {
    let book = a_gap(MissedTicks::Skip).await;
    assert_eq!(book.of("hourly"), [at("2024-03-13T09:00:00Z")]);
    assert_eq!(book.of("minutely"), times(ANSWERED.0, MINUTE, ANSWERED.1));
    assert!(book.of("every").is_empty());
}

#[tokio::test(start_paused = true)]
async fn once() {
    let book = a_gap(MissedTicks::Once).await;
    assert_eq!(
        book.of("hourly"),
        [at("2024-03-13T08:00:00Z"), at("2024-03-13T09:00:00Z")]
    );
    assert_eq!(book.of("minutely"), times("2024-03-13T08:30:00Z", MINUTE, ANSWERED.1));
    // In the phase of the ticks before.
    assert_eq!(book.of("every"), [at("2024-03-13T08:00:30Z")]);
}

#[tokio::test(start_paused = true)]
async fn all() {
    let book = a_gap(MissedTicks::All).await;
    assert_eq!(
        book.of("hourly"),
        times("2024-03-10T17:00:00Z", HOUR, "2024-03-13T09:00:00Z")
    );
    // The newest thousand, up to half past eight, and what came then.
    let minutely = book.of("minutely");
    assert_eq!(minutely, times("2024-03-12T15:51:00Z", MINUTE, ANSWERED.1));
    assert_eq!(minutely.len(), 1000 + 30);
    assert_eq!(
        book.of("every"),
        times("2024-03-10T20:00:30Z", 4 * HOUR, "2024-03-13T08:00:30Z")
    );
}

/// The storage is away from one o'clock on, for so long.
async fn an_outage(lasts: Duration, missed: MissedTicks) -> Book {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    register(&scheduler, missed);
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T12:58:00Z").await;
    faults.all(Fault::unavailable());
    tokio::time::sleep(lasts).await;
    faults.clear();
    until(&env, "2024-03-10T16:30:00Z").await;
    system.shutdown().await;
    assert_eq!(tasks(&store, &env).await, book.len());
    assert_eq!(book.of("every"), [at("2024-03-10T16:00:30Z")]);
    book
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_tick_whatever_the_policy_is() {
    for missed in [MissedTicks::Skip, MissedTicks::Once, MissedTicks::All] {
        let book = an_outage(4 * MINUTE, missed).await;
        assert_eq!(
            book.of("hourly"),
            times("2024-03-10T13:00:00Z", HOUR, "2024-03-10T16:00:00Z")
        );
        assert_eq!(
            book.of("minutely"),
            times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T16:30:00Z")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_the_policy_counts() {
    // Until 15:28:00.5.
    let outage = 150 * MINUTE;
    let book = an_outage(outage, MissedTicks::Skip).await;
    assert_eq!(
        book.of("hourly"),
        times("2024-03-10T16:00:00Z", HOUR, "2024-03-10T16:00:00Z")
    );
    let before = times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:58:00Z");
    let minutely = book.of("minutely");
    assert_eq!(minutely[..before.len()], before);
    assert_eq!(
        minutely[before.len()..],
        times("2024-03-10T15:24:00Z", MINUTE, "2024-03-10T16:30:00Z")
    );

    let book = an_outage(outage, MissedTicks::Once).await;
    assert_eq!(
        book.of("hourly"),
        times("2024-03-10T15:00:00Z", HOUR, "2024-03-10T16:00:00Z")
    );

    let book = an_outage(outage, MissedTicks::All).await;
    assert_eq!(
        book.of("hourly"),
        times("2024-03-10T13:00:00Z", HOUR, "2024-03-10T16:00:00Z")
    );
    assert_eq!(
        book.of("minutely"),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T16:30:00Z")
    );
}

/// Minutes from before the start and an outage from the start on, of one operation or of all: the policy
/// is applied to them together, and the attempts stay few.
async fn an_outage_at_the_start(of: Option<Op>) {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let minutely = || PeriodicTaskConfig::new("* * * * *", task("t")).missed(MissedTicks::Once);
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.add(&minutely()).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T12:01:30Z").await;
    system.shutdown().await;
    until(&env, "2024-03-10T13:30:30Z").await;

    let (failed, storage) = (Arc::new(AtomicU32::new(0)), faults.clone());
    let count = Arc::clone(&failed);
    let config = SchedulerConfig::new().error_handler(move |_, _, _| {
        if count.fetch_add(1, Ordering::Relaxed) > 5000 {
            // Attempts without a pause would let no time pass.
            storage.clear();
        }
    });
    let env = other(&env, 6);
    let after = Book::default();
    let scheduler = after.scheduler(config, &env);
    scheduler.add(&minutely()).unwrap();
    match of {
        Some(op) => faults.always(op, Fault::unavailable()),
        None => faults.all(Fault::unavailable()),
    }
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T13:50:00Z").await;
    assert_eq!(after.len(), 0);
    faults.clear();
    until(&env, "2024-03-10T14:00:00Z").await;
    assert_eq!(
        after.of("t"),
        times("2024-03-10T13:45:00Z", MINUTE, "2024-03-10T14:00:00Z")
    );
    assert_eq!(tasks(&store, &env).await, book.len() + after.len());
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed < 2000, "{failed} attempts in 20 minutes");
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_goes_away_before_what_was_missed_is_enqueued() {
    an_outage_at_the_start(Some(Op::EnqueueTick)).await;
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_comes_long_after_the_start() {
    an_outage_at_the_start(None).await;
}

/// Ticks that fell while an entry was unregistered are not wanted, however long that was.
#[tokio::test(start_paused = true)]
async fn an_entry_that_comes_back_after_weeks() {
    let (store, book) = (MemoryStore::new(), Book::default());
    let env = Env {
        clock: Clock::manual(at("2024-03-31T23:59:30Z")),
        entropy: Entropy::seeded(5),
    };
    let set = async |text: &str| {
        env.clock.set(at(text));
        // It looks at least once a minute.
        tokio::time::sleep(MINUTE + SECOND).await;
    };
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let monthly = || PeriodicTaskConfig::new("@monthly", task("t")).missed(MissedTicks::All);
    let first = scheduler.add(&monthly()).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    tokio::time::sleep(SECOND).await;
    set("2024-04-01T00:00:10Z").await;
    scheduler.unregister(&first).unwrap();
    set("2024-05-10T00:00:10Z").await;
    for _ in 0..2 {
        scheduler.add(&monthly()).unwrap();
    }
    set("2024-05-10T00:02:10Z").await;
    set("2024-06-01T00:00:10Z").await;
    assert_eq!(
        book.of("t"),
        times("2024-04-01T00:00:00Z", 61 * 24 * HOUR, "2024-06-01T00:00:00Z")
    );
    system.shutdown().await;
}

/// A scheduler that never lives for a whole period goes on with the period of the first one: half of the ticks fall
/// while nobody is there, and are dropped.
#[tokio::test(start_paused = true)]
async fn a_new_period_outlives_restarts() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    for seed in 0..20 {
        let env = other(&env, seed);
        let scheduler = book.scheduler(SchedulerConfig::new().missed(MissedTicks::All), &env);
        scheduler.register("@every 10s", task("t")).unwrap();
        let system = start(store.clone(), &env, &scheduler).await;
        tokio::time::sleep(Duration::from_millis(6700)).await;
        system.shutdown().await;
    }
    let (ticks, first) = (book.of("t"), at("2024-03-10T12:00:40Z"));
    assert_eq!(
        ticks[..3],
        [first, first + 10 * SECOND, first + 20 * SECOND],
        "{ticks:?}"
    );
    assert!(ticks.len() > 10, "{ticks:?}");

    // Nothing was missed before the first tick, whatever the policy.
    let store = MemoryStore::new();
    let (env, brief, late) = (other(&env, 30), Book::default(), Book::default());
    let now = env.clock.now();
    for (book, lives) in [(&brief, 5 * SECOND), (&late, HOUR)] {
        let env = other(&env, lives.as_secs());
        let scheduler = book.scheduler(SchedulerConfig::new().missed(MissedTicks::All), &env);
        scheduler.register("@every 30m", task("t")).unwrap();
        let system = start(store.clone(), &env, &scheduler).await;
        tokio::time::sleep(lives).await;
        system.shutdown().await;
        tokio::time::sleep(3 * HOUR).await;
    }
    assert!(brief.of("t").is_empty());
    // In the phase of the first scheduler.
    let phase = |tick: &chrono::DateTime<chrono::Utc>| (tick.timestamp() - now.timestamp()) % 1800;
    assert_eq!(late.of("t").iter().map(phase).collect::<Vec<_>>(), [0, 0]);
}
