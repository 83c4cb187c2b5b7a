//! Times at which tasks are enqueued.

use std::future::pending;

use async_trait::async_trait;
use asynq_actors::{AsynqSystem, SchedulerConfig};
use asynq_core::{
    Error, PeriodicTaskConfig, PeriodicTaskConfigProvider, Task, TaskError, TaskOptions, error::BoxError,
};
use asynq_memory::MemoryStore;
use chrono_tz::Tz;

use super::kit::{Book, HOUR, MINUTE, SECOND, at, builder, env, start, task, tasks, times, until};

#[tokio::test(start_paused = true)]
async fn ticks_come_in_their_second() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new().timezone(Tz::Asia__Tokyo), &env);
    for (spec, task_type) in [
        ("* * * * *", "minutely"),
        // Aligned down to the whole second.
        ("@every 90s", "every"),
        // In the scheduler's zone, the entry's, and the spec's.
        ("30 21 * * *", "tokyo"),
        ("TZ=America/New_York 30 8 * * *", "new york"),
        ("0 0 30 2 *", "never"),
    ] {
        scheduler.register(spec, task(task_type)).unwrap();
    }
    let berlin = PeriodicTaskConfig::new("30 13 * * *", task("berlin")).timezone(Tz::Europe__Berlin);
    scheduler.add(&berlin).unwrap();
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T13:00:30Z").await;
    assert_eq!(
        book.of("minutely"),
        times("2024-03-10T12:01:00Z", MINUTE, "2024-03-10T13:00:00Z")
    );
    assert_eq!(
        book.of("every"),
        times("2024-03-10T12:02:00Z", 90 * SECOND, "2024-03-10T13:00:30Z")
    );
    for task_type in ["tokyo", "new york", "berlin"] {
        assert_eq!(book.of(task_type), [at("2024-03-10T12:30:00Z")], "{task_type}");
    }
    assert!(book.of("never").is_empty());
    assert_eq!(tasks(&store, &env).await, book.len());
    let specs: Vec<_> = scheduler.entries().into_iter().map(|entry| entry.spec).collect();
    assert_eq!(specs[5], "CRON_TZ=Europe/Berlin 30 13 * * *");
    system.shutdown().await;
    assert_eq!(tasks(&store, &env).await, book.len());
}

#[tokio::test(start_paused = true)]
async fn entries_come_and_go_while_it_runs() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let system = start(store, &env, &scheduler).await;
    until(&env, "2024-03-10T12:10:30Z").await;
    let handle = system.scheduler().unwrap();
    let first = handle.register("* * * * *", task("first")).unwrap();
    let options = TaskOptions::new().queue("low");
    let second = handle.register_with("* * * * *", task("second"), &options).unwrap();
    until(&env, "2024-03-10T12:12:00Z").await;
    scheduler.unregister(&first).unwrap();
    until(&env, "2024-03-10T12:20:00Z").await;
    assert_eq!(
        book.of("first"),
        times("2024-03-10T12:11:00Z", MINUTE, "2024-03-10T12:12:00Z")
    );
    assert_eq!(
        book.of("second"),
        times("2024-03-10T12:11:00Z", MINUTE, "2024-03-10T12:20:00Z")
    );
    let error = scheduler.unregister(&first).unwrap_err();
    assert!(matches!(error, Error::Lifecycle(_)), "{error:?}");
    assert_eq!(error.to_string(), "asynq: no scheduler entry found");
    // What fell while it was not registered was not wanted.
    scheduler.register("* * * * *", task("first")).unwrap();
    until(&env, "2024-03-10T12:21:00Z").await;
    assert_eq!(book.of("first")[2..], [at("2024-03-10T12:21:00Z")]);
    assert_eq!(scheduler.entries()[0].id, second.to_string());
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_entry_twice_is_one() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    let first = scheduler.register("* * * * *", task("t")).unwrap();
    let second = scheduler.register("* * * * *", task("t")).unwrap();
    assert_ne!(first, second);
    let system = start(store.clone(), &env, &scheduler).await;
    until(&env, "2024-03-10T12:05:00Z").await;
    assert_eq!(tasks(&store, &env).await, 5);
    scheduler.unregister(&first).unwrap();
    until(&env, "2024-03-10T12:10:00Z").await;
    assert_eq!(tasks(&store, &env).await, 10);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_system_has_no_more_than_its_scheduler_needs() {
    let env = env();
    let system = builder(MemoryStore::new(), &env)
        .periodic(PeriodicTaskConfig::new("@hourly", task("t")))
        .spawn()
        .await
        .unwrap();
    let names = |path: &[&str]| -> Vec<String> {
        let tree = system.tree().unwrap();
        let node = tree.find(path).unwrap();
        node.children.iter().map(|child| child.name.clone()).collect()
    };
    assert_eq!(names(&[]), ["broker", "client", "maintenance"]);
    assert_eq!(names(&["maintenance"]), ["scheduler"]);
    assert_eq!(system.scheduler().unwrap().entries().len(), 1);
    system.shutdown().await;

    let plain = AsynqSystem::builder(MemoryStore::new()).spawn().await.unwrap();
    assert!(plain.scheduler().is_none());
    plain.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_before_the_start() {
    let env = env();
    let bad = |spec: &str| PeriodicTaskConfig::new(spec, task("t"));
    let error = builder(MemoryStore::new(), &env)
        .periodic(bad("@hourly"))
        .periodic(bad("61 * * * *"))
        .periodic(bad("@never"))
        .periodic(bad("* * * * *").options(TaskOptions::new().queue(" ")))
        .spawn()
        .await
        .unwrap_err();
    let Error::Config(error) = error else { panic!("{error}") };
    let problems: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("cronspec \"61 * * * *\": "), "{problems:?}");
    assert!(problems[1].starts_with("cronspec \"@never\": "), "{problems:?}");
    assert_eq!(
        problems[2],
        "cronspec \"* * * * *\": queue must contain one or more characters"
    );

    let config = SchedulerConfig::new().max_message_bytes(1);
    let problem = config.validate().unwrap_err().to_string();
    assert!(
        problem.contains("scheduler max_message_bytes must be 1024 to"),
        "{problem}"
    );
    let config = SchedulerConfig::new().max_message_bytes(2000);
    let large = Task::new("t", &vec![b'x'; 2000]).unwrap();
    let error = Book::default().scheduler(config, &env).register("@hourly", large);
    assert!(matches!(
        error,
        Err(Error::Invalid(TaskError::TooLarge {
            field: "message size",
            limit: 2000,
            ..
        }))
    ));

    let config = SchedulerConfig::new().name("\t");
    let error = builder(MemoryStore::new(), &env)
        .scheduler(config)
        .spawn()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("scheduler name"), "{error}");

    let scheduler = Book::default().scheduler(SchedulerConfig::new(), &env);
    assert!(matches!(
        scheduler.register("* * * *", task("t")),
        Err(Error::Config(_))
    ));
    assert!(matches!(
        scheduler.register("@hourly", task("t").with_queue("")),
        Err(Error::Invalid(_))
    ));
    let system = start(MemoryStore::new(), &env, &scheduler).await;
    let twice = builder(MemoryStore::new(), &env)
        .scheduler_handle(scheduler)
        .spawn()
        .await;
    assert_eq!(
        twice.unwrap_err().to_string(),
        "asynq: the scheduler is already running"
    );
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn names_keep_schedulers_apart() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let mut systems = Vec::new();
    for name in ["a", "b"] {
        let scheduler = book.scheduler(SchedulerConfig::new().name(name), &env);
        scheduler.register("@hourly", task("t")).unwrap();
        systems.push(start(store.clone(), &env, &scheduler).await);
    }
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!(tasks(&store, &env).await, 10);
    for system in systems {
        system.shutdown().await;
    }
}

/// A provider that never answers.
struct Silent;

#[async_trait]
impl PeriodicTaskConfigProvider for Silent {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        pending().await
    }
}

/// A scheduler that could not be started is as it was, and can be.
#[tokio::test(start_paused = true)]
async fn a_start_that_failed_can_be_tried_again() {
    let (store, env, book) = (MemoryStore::new(), env(), Book::default());
    let scheduler = book.scheduler(SchedulerConfig::new(), &env);
    scheduler.register("* * * * *", task("t")).unwrap();
    let attempt = || builder(store.clone(), &env).scheduler_handle(scheduler.clone());
    let more = |spec: &str| PeriodicTaskConfig::new(spec, task("more"));
    let refused = attempt()
        .periodic(more("@hourly"))
        .periodic(more("@never"))
        .spawn()
        .await;
    assert!(matches!(refused, Err(Error::Config(_))));
    let failing = attempt().periodic(more("@hourly")).periodic_tasks(Silent, None);
    assert!(matches!(failing.spawn().await, Err(Error::Handler(_))));
    let given_up = attempt().periodic(more("@hourly")).periodic_tasks(Silent, None);
    assert!(tokio::time::timeout(SECOND, given_up.spawn()).await.is_err());
    assert_eq!(scheduler.entries().len(), 1);
    let system = attempt().spawn().await.unwrap();
    until(&env, "2024-03-10T12:02:00Z").await;
    assert_eq!(book.of("t"), [at("2024-03-10T12:02:00Z")]);
    system.shutdown().await;
}

/// `Local` is no zone of its own: that of the entry counts.
#[test]
fn a_local_spec_with_a_zone() {
    let scheduler = Book::default().scheduler(SchedulerConfig::new(), &env());
    for spec in ["CRON_TZ=Local 0 7 * * *", "TZ=Local  0 7 * * *", "0 7 * * *"] {
        let config = PeriodicTaskConfig::new(spec, task("t")).timezone(Tz::Asia__Tokyo);
        scheduler.add(&config).unwrap();
        let entry = scheduler.entries().pop().unwrap();
        assert_eq!(entry.next, Some(at("2024-03-10T22:00:00Z")), "{spec}");
    }
}
