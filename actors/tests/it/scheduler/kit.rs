//! A scheduler whose ticks are written down, and a look at the storage.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use asynq_actors::{
    AsynqSystem, AsynqSystemBuilder, SchedulerConfig, SchedulerHandle,
    supervisor::{Backoff, Intensity},
};
use asynq_core::{
    Clock, Connector, Entropy, Inspect as _, QueueName, Task,
    broker::Env,
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    published,
    raw::RawValue,
};
use asynq_memory::MemoryStore;
use chrono::{DateTime, TimeDelta, Utc};

pub(super) type Time = DateTime<Utc>;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn at(text: &str) -> Time {
    text.parse().unwrap()
}

/// Virtual time that begins on a Sunday at half a minute past noon.
pub(super) fn env() -> Env {
    Env {
        clock: Clock::tokio_at(at("2024-03-10T12:00:30.25Z")),
        entropy: Entropy::seeded(5),
    }
}

/// The same time with other randomness, as another process has it.
pub(super) fn other(env: &Env, seed: u64) -> Env {
    Env {
        clock: env.clock.clone(),
        entropy: Entropy::seeded(seed),
    }
}

pub(super) fn task(task_type: &str) -> Task {
    Task::new(task_type, b"").unwrap()
}

/// Sleeps until the clock has passed a time by half a second.
pub(super) async fn until(env: &Env, text: &str) {
    tokio::time::sleep(env.clock.until(at(text) + TimeDelta::milliseconds(500))).await;
}

/// The times from one on, a step apart, up to another.
pub(super) fn times(from: &str, step: Duration, to: &str) -> Vec<Time> {
    std::iter::successors(Some(at(from)), |at| Some(*at + step))
        .take_while(|time| *time <= at(to))
        .collect()
}

/// The ticks that were enqueued, by all schedulers that share the book.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<Vec<(String, Time)>>>);

impl Book {
    /// A scheduler that writes its ticks down. Each task type is that of one entry.
    pub(super) fn scheduler(&self, config: SchedulerConfig, env: &Env) -> SchedulerHandle {
        let own: Arc<OnceLock<SchedulerHandle>> = Arc::default();
        let (book, scheduler) = (Arc::clone(&self.0), Arc::clone(&own));
        let config = config.post_enqueue(move |answer| {
            let Ok(info) = answer else {
                return;
            };
            let entries = scheduler.get().unwrap().entries();
            let entry = entries.into_iter().find(|entry| entry.task_type == info.task_type);
            let tick = entry.unwrap().prev.unwrap();
            book.lock().unwrap().push((info.task_type.clone(), tick));
        });
        let handle = SchedulerHandle::new(config, env.clone()).unwrap();
        own.set(handle.clone()).unwrap();
        handle
    }

    /// The ticks of an entry, in the order in which they were enqueued.
    pub(super) fn of(&self, task_type: &str) -> Vec<Time> {
        let book = self.0.lock().unwrap();
        book.iter()
            .filter(|(t, _)| t == task_type)
            .map(|(_, tick)| *tick)
            .collect()
    }

    /// Returns how many ticks there are of all entries.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A system with nothing but a scheduler, which may crash as often as it likes.
pub(super) fn builder(connector: impl Connector, env: &Env) -> AsynqSystemBuilder {
    AsynqSystem::builder(connector)
        .env(env.clone())
        .intensity(Intensity {
            restarts: 100_000,
            within: MINUTE,
        })
        .backoff(Backoff {
            first: Duration::from_millis(5),
            most: Duration::from_millis(50),
        })
}

pub(super) async fn start(connector: impl Connector, env: &Env, scheduler: &SchedulerHandle) -> AsynqSystem {
    let builder = builder(connector, env).scheduler_handle(scheduler.clone());
    builder.spawn().await.unwrap()
}

/// Returns how many tasks stand in the default queue.
pub(super) async fn tasks(store: &MemoryStore, env: &Env) -> usize {
    let info = store.open(env.clone()).queue_info(&QueueName::default()).await;
    info.map_or(0, |info| usize::try_from(info.size()).unwrap())
}

/// The entries that the storage shows, of all schedulers.
pub(super) async fn shown(store: &MemoryStore, env: &Env) -> Vec<SchedulerEntry> {
    // Brings the store the time.
    tasks(store, env).await;
    let raw = store.raw_state();
    let lists = raw.iter().filter(|(key, _)| key.starts_with("asynq:schedulers:"));
    let entries = lists.flat_map(|(_, value)| match value {
        RawValue::List(entries) => entries.clone(),
        other => panic!("{other:?}"),
    });
    entries
        .map(|bytes| published::decode_scheduler_entry(bytes).unwrap())
        .collect()
}

/// The histories that the storage has, with the ids of their entries.
pub(super) fn histories(store: &MemoryStore) -> Vec<(String, Vec<SchedulerEnqueueEvent>)> {
    let raw = store.raw_state();
    let histories = raw.iter().filter_map(|(key, value)| {
        let id = key.strip_prefix("asynq:scheduler_history:")?;
        let RawValue::ZSet(events) = value else {
            panic!("{value:?}")
        };
        let events = events
            .iter()
            .map(|(bytes, _)| published::decode_enqueue_event(bytes).unwrap());
        Some((id.to_owned(), events.collect()))
    });
    histories.collect()
}
