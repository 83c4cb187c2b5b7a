//! Entries, which tools see from the first second on, and their histories.

use async_trait::async_trait;
use asynq_actors::{Crash, SchedulerConfig, supervisor::Intensity};
use asynq_core::{PeriodicTaskConfig, PeriodicTaskConfigProvider, TaskOptions, error::BoxError};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};
use chrono::TimeDelta;

use super::kit::{Book, HOUR, MINUTE, SECOND, at, builder, env, histories, shown, start, task, until};

struct NoTasks;

#[async_trait]
impl PeriodicTaskConfigProvider for NoTasks {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        Ok(Vec::new())
    }
}

#[tokio::test(start_paused = true)]
async fn entries_are_shown_at_once_and_kept_in_step() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let options = TaskOptions::new().queue("low").max_retry(3);
    let id = scheduler.register_with("*/2 * * * *", task("t"), &options).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T12:00:30Z").await;
    let [entry] = &shown(&store, &env).await[..] else {
        panic!("not shown within the first second")
    };
    assert_eq!((entry.id.as_str(), entry.spec.as_str()), (id.as_str(), "*/2 * * * *"));
    assert_eq!((entry.task_type.as_str(), &entry.payload[..]), ("t", &b""[..]));
    assert_eq!(entry.options, ["MaxRetry(3)", r#"Queue("low")"#]);
    assert_eq!((entry.next, entry.prev), (Some(at("2024-03-10T12:02:00Z")), None));

    // A change is shown at once, times with the next heartbeat.
    let second = scheduler.register("0 0 30 2 *", task("never")).unwrap();
    tokio::time::sleep(SECOND).await;
    let never = shown(&store, &env).await.into_iter().find(|e| e.id == second.as_str());
    assert_eq!(never.map(|entry| (entry.next, entry.prev)), Some((None, None)));
    until(&env, "2024-03-10T12:02:10Z").await;
    let entry = shown(&store, &env)
        .await
        .into_iter()
        .find(|e| e.id == id.as_str())
        .unwrap();
    assert_eq!(entry.next, Some(at("2024-03-10T12:04:00Z")));
    assert_eq!(entry.prev, Some(at("2024-03-10T12:02:00Z")));
    scheduler.unregister(&second).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(shown(&store, &env).await.len(), 1);

    system.shutdown().await;
    assert_eq!(shown(&store, &env).await, []);
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_dead_scheduler_vanish() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new().heartbeat_interval(4 * SECOND), &env);
    scheduler.register("@hourly", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(shown(&store, &env).await.len(), 1);
    faults.always(Op::WriteSchedulerEntries, Fault::unavailable());
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(shown(&store, &env).await, [], "after two intervals");
    let note = || {
        let tree = system.tree().unwrap();
        tree.find(&["maintenance", "scheduler"]).unwrap().note.clone()
    };
    assert_eq!(
        note().as_deref(),
        Some("entries are not shown: storage is not reachable")
    );
    faults.clear();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(shown(&store, &env).await.len(), 1);
    assert_eq!(note(), None);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn histories_are_kept_while_the_entry_is_there() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let minutely = scheduler.register("* * * * *", task("minutely")).unwrap();
    let hourly = scheduler.register("@hourly", task("hourly")).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T15:00:00Z").await;
    let kept = |id: &str| {
        let kept = histories(&store).into_iter().find(|(of, _)| of == id);
        kept.map_or_else(Vec::new, |(_, events)| events)
    };
    assert_eq!(kept(minutely.as_str()).len(), 180);
    let late = kept(hourly.as_str()).into_iter().zip(book.of("hourly"));
    let late: Vec<_> = late.map(|(event, tick)| event.enqueued_at - tick).collect();
    assert_eq!(late.len(), 3);
    assert!(
        late.iter()
            .all(|late| (TimeDelta::zero()..TimeDelta::seconds(1)).contains(late)),
        "{late:?}"
    );

    // A crash deletes nothing.
    assert!(system.crash_actor("maintenance/scheduler", Crash::Panic));
    scheduler.unregister(&minutely).unwrap();
    tokio::time::sleep(15 * SECOND).await;
    assert_eq!(kept(minutely.as_str()), []);
    assert_eq!(kept(hourly.as_str()).len(), 3);
    tokio::time::sleep(HOUR).await;
    assert_eq!(kept(hourly.as_str()).len(), 4);
    system.shutdown().await;
    assert_eq!(histories(&store), []);
}

/// A branch that gives up stops its actors in order; that is a crash all the same, and deletes nothing.
#[tokio::test(start_paused = true)]
async fn a_restart_of_the_branch_keeps_histories() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let id = scheduler.register("* * * * *", task("t")).unwrap();
    let system = builder(store.clone(), &env)
        .intensity(Intensity {
            restarts: 1,
            within: MINUTE,
        })
        .scheduler_handle(scheduler)
        .periodic_tasks(NoTasks, None)
        .spawn()
        .await
        .unwrap();
    until(&env, "2024-03-10T12:10:00Z").await;
    assert_eq!(histories(&store)[0].1.len(), 10);
    for _ in 0..2 {
        assert!(system.kill_actor("maintenance/periodic_task_manager"));
        tokio::time::sleep(SECOND).await;
    }
    let tree = system.tree().unwrap();
    assert_eq!(tree.find(&["maintenance"]).unwrap().restarts, 1);
    assert_eq!(histories(&store)[0].1.len(), 10);
    assert_eq!(shown(&store, &env).await[0].id, id.as_str());
    until(&env, "2024-03-10T12:11:00Z").await;
    assert_eq!(histories(&store)[0].1.len(), 11);
    system.shutdown().await;
    assert_eq!(histories(&store), []);
}

/// A history is deleted however long the storage is away, and not written again by a tick under way.
#[tokio::test(start_paused = true)]
async fn the_history_of_an_unregistered_entry_stays_deleted() {
    let (store, env, book, faults) = (MemoryStore::new(), env(), Book::default(), Faults::new());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let id = scheduler.register("* * * * *", task("t")).unwrap();
    let system = start(FaultyConnector::new(store.clone(), faults.clone()), &env, &scheduler).await;
    until(&env, "2024-03-10T12:01:30Z").await;
    assert_eq!(histories(&store).len(), 1);
    faults.next(Op::RecordEnqueueEvent, Fault::Hang);
    faults.next(Op::ClearSchedulerHistory, Fault::unavailable());
    until(&env, "2024-03-10T12:02:00Z").await;
    assert_eq!(faults.hanging(Op::RecordEnqueueEvent), 1);
    scheduler.unregister(&id).unwrap();
    tokio::time::sleep(SECOND).await;
    faults.release();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(histories(&store), []);
    assert!(faults.calls(Op::ClearSchedulerHistory) >= 2);
    system.shutdown().await;
}
