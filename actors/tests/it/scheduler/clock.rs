//! A system clock that is set while the scheduler sleeps.

use std::{
    io,
    sync::{Arc, Mutex},
};

use asynq_actors::SchedulerConfig;
use asynq_core::{Clock, Entropy, broker::Env};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector};

use super::kit::{Book, MINUTE, SECOND, at, start, task, tasks, times};

/// A clock that stands but where it is set; and a scheduler that has looked at it.
#[tokio::test(start_paused = true)]
async fn set_forward_and_back() {
    let (store, book) = (MemoryStore::new(), Book::default());
    let env = Env {
        clock: Clock::manual(at("2024-03-10T12:00:30Z")),
        entropy: Entropy::seeded(5),
    };
    let set = async |text: &str| {
        env.clock.set(at(text));
        // It looks at least once a minute.
        tokio::time::sleep(MINUTE + SECOND).await;
    };
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("minutely")).unwrap();
    scheduler.register("@every 90s", task("every")).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    tokio::time::sleep(MINUTE).await;
    set("2024-03-10T12:03:10Z").await;
    assert_eq!(
        book.of("minutely"),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T12:03:00Z")
    );

    // Forward: what is late by more than five minutes is dropped.
    set("2024-03-10T14:00:10Z").await;
    assert_eq!(
        book.of("minutely")[3..],
        times("2024-03-10T13:56:00Z", MINUTE, "2024-03-10T14:00:00Z")
    );
    assert_eq!(
        book.of("every")[1..],
        times("2024-03-10T13:56:00Z", 90 * SECOND, "2024-03-10T13:59:00Z")
    );
    let before = book.len();

    // Back: times that come again were decided.
    set("2024-03-10T13:30:00Z").await;
    for minute in 31..=59 {
        set(&format!("2024-03-10T13:{minute}:10Z")).await;
    }
    set("2024-03-10T14:00:10Z").await;
    assert_eq!(book.len(), before);
    set("2024-03-10T14:01:10Z").await;
    assert_eq!(book.of("minutely").last(), Some(&at("2024-03-10T14:01:00Z")));
    set("2024-03-10T14:02:10Z").await;
    assert_eq!(book.len(), before + 4);
    // In the phase from before.
    assert_eq!(
        book.of("every")[4..],
        times("2024-03-10T14:00:30Z", 90 * SECOND, "2024-03-10T14:02:00Z")
    );
    assert_eq!(tasks(&store, &env).await, book.len());
    system.shutdown().await;
}

/// A clock that was a year ahead at the start is no reason to wait a year.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_at_the_start() {
    let (store, book) = (MemoryStore::new(), Book::default());
    let env = Env {
        clock: Clock::manual(at("2025-03-10T12:00:30Z")),
        entropy: Entropy::seeded(5),
    };
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("@hourly", task("hourly")).unwrap();
    scheduler.register("@every 30m", task("every")).unwrap();
    let system = start(store, &env, &scheduler).await;
    tokio::time::sleep(2 * MINUTE).await;
    env.clock.set(at("2024-03-10T12:00:30Z"));
    tokio::time::sleep(2 * MINUTE).await;
    let next: Vec<_> = scheduler.entries().iter().map(|entry| entry.next.unwrap()).collect();
    assert_eq!(next, [at("2024-03-10T13:00:00Z"), at("2024-03-10T12:30:30Z")]);
    env.clock.set(at("2024-03-10T13:00:30Z"));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(book.of("hourly"), [at("2024-03-10T13:00:00Z")]);
    assert_eq!(book.of("every").last(), Some(&at("2024-03-10T13:00:30Z")));
    system.shutdown().await;
}

/// The same where the storage comes later than the right time, as at the boot of a machine.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_until_the_storage_came() {
    let (store, faults) = (MemoryStore::new(), Faults::new());
    let env = Env {
        clock: Clock::manual(at("2024-03-10T11:59:30Z")),
        entropy: Entropy::seeded(5),
    };
    let register = |book: &Book| {
        let scheduler = book.scheduler(SchedulerConfig::new(), &env);
        scheduler.register("@hourly", task("hourly")).unwrap();
        scheduler.register("@every 30s", task("every")).unwrap();
        scheduler
    };
    let before = Book::default();
    let system = start(store.clone(), &env, &register(&before)).await;
    tokio::time::sleep(SECOND).await;
    env.clock.set(at("2024-03-10T12:00:10Z"));
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(before.len(), 2);
    system.shutdown().await;

    env.clock.set(at("2025-03-10T12:00:30Z"));
    faults.all(Fault::unavailable());
    let book = Book::default();
    let scheduler = register(&book);
    let system = start(FaultyConnector::new(store, faults.clone()), &env, &scheduler).await;
    tokio::time::sleep(2 * MINUTE).await;
    env.clock.set(at("2024-03-10T12:30:10Z"));
    tokio::time::sleep(2 * MINUTE).await;
    faults.clear();
    tokio::time::sleep(2 * MINUTE).await;
    let next: Vec<_> = scheduler.entries().iter().map(|entry| entry.next.unwrap()).collect();
    assert_eq!(next, [at("2024-03-10T13:00:00Z"), at("2024-03-10T12:30:30Z")]);
    system.shutdown().await;
}

/// The destination of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tick of the next day, enqueued by a wrong clock, costs the ticks before it, which is told once.
#[tokio::test(start_paused = true)]
async fn a_tick_of_the_future_is_told() {
    let (store, book, log) = (MemoryStore::new(), Book::default(), Log::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let env = Env {
        clock: Clock::manual(at("2024-03-11T12:59:30Z")),
        entropy: Entropy::seeded(5),
    };
    let set = async |text: &str| {
        env.clock.set(at(text));
        tokio::time::sleep(MINUTE + SECOND).await;
    };
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("@hourly", task("t")).unwrap();
    let system = start(store, &env, &scheduler).await;
    tokio::time::sleep(SECOND).await;
    set("2024-03-11T13:00:10Z").await;
    for hour in 12..=23 {
        set(&format!("2024-03-10T{hour}:00:10Z")).await;
    }
    for hour in 0..=14 {
        set(&format!("2024-03-11T{hour:02}:00:10Z")).await;
    }
    assert_eq!(book.of("t"), [at("2024-03-11T13:00:00Z"), at("2024-03-11T14:00:00Z")]);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("a tick of the future").count(), 1, "{log}");
    system.shutdown().await;
}
