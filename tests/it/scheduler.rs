//! The scheduler and the periodic task manager, with an API as Go's.

use std::time::Duration;

use async_trait::async_trait;
use asynq::{
    error::{BoxError, Error},
    memory::MemoryStore,
    scheduler::{PeriodicTaskConfig, PeriodicTaskConfigProvider, PeriodicTaskManager, Scheduler, SchedulerConfig},
    task::{Task, TaskOptions},
};

fn task() -> Task {
    Task::new("t", b"").unwrap()
}

fn lifecycle(result: Result<(), Error>) -> String {
    match result {
        Err(error @ Error::Lifecycle(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_scheduler_lives_once() {
    let (tell, mut enqueued) = tokio::sync::mpsc::unbounded_channel();
    let config = SchedulerConfig::new().post_enqueue(move |answer| {
        let _ = tell.send(answer.unwrap().queue.to_string());
    });
    let mut scheduler = Scheduler::new(MemoryStore::new(), config).await.unwrap();
    scheduler.ping().await.unwrap();
    let first = scheduler.register("@every 1s", task()).unwrap();
    assert!(scheduler.system().is_none());
    scheduler.start().await.unwrap();
    assert_eq!(
        lifecycle(scheduler.start().await),
        "asynq: the scheduler is already running"
    );
    let options = TaskOptions::new().queue("low");
    let second = scheduler.register_with("@hourly", task(), &options).unwrap();
    assert_eq!(scheduler.handle().entries().len(), 2);
    scheduler.ping().await.unwrap();
    let first_tick = tokio::time::timeout(Duration::from_secs(60), enqueued.recv()).await;
    assert_eq!(first_tick.unwrap().unwrap(), "default");
    scheduler.unregister(&second).unwrap();
    assert_eq!(
        lifecycle(scheduler.unregister(&second)),
        "asynq: no scheduler entry found"
    );
    scheduler.shutdown().await;
    assert_eq!(
        lifecycle(scheduler.start().await),
        "asynq: the scheduler has already been stopped"
    );
    assert_eq!(
        lifecycle(scheduler.run().await),
        "asynq: the scheduler has already been stopped"
    );
    scheduler.ping().await.unwrap();
    scheduler.unregister(&first).unwrap();
}

#[tokio::test]
async fn bad_settings_and_specs_are_refused() {
    let bad = SchedulerConfig::new().name("");
    assert!(matches!(
        Scheduler::new(MemoryStore::new(), bad).await,
        Err(Error::Config(_))
    ));
    let scheduler = Scheduler::new(MemoryStore::new(), SchedulerConfig::new())
        .await
        .unwrap();
    let error = scheduler.register("0 25 * * *", task()).unwrap_err().to_string();
    assert!(error.contains("0 25 * * *"), "{error}");
    let refused = scheduler.register("@daily", task().with_queue(" "));
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let unregistered = scheduler.unregister(&asynq::scheduler::EntryId::new("nobody"));
    assert_eq!(lifecycle(unregistered), "asynq: no scheduler entry found");
}

struct Provider(Result<&'static str, &'static str>);

#[async_trait]
impl PeriodicTaskConfigProvider for Provider {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        Ok(vec![PeriodicTaskConfig::new(self.0?, task())])
    }
}

#[tokio::test]
async fn a_manager_lives_once() {
    let store = MemoryStore::new();
    let mut manager = PeriodicTaskManager::new(store.clone(), Provider(Ok("@hourly")))
        .config(SchedulerConfig::new().name("managed"))
        .sync_interval(Duration::from_secs(1));
    manager.start().await.unwrap();
    assert_eq!(
        lifecycle(manager.start().await),
        "asynq: the scheduler is already running"
    );
    let scheduler = manager.system().unwrap().scheduler().unwrap();
    assert_eq!(scheduler.entries()[0].spec, "@hourly");
    manager.shutdown().await;
    assert_eq!(
        lifecycle(manager.start().await),
        "asynq: the scheduler has already been stopped"
    );
}

#[tokio::test]
async fn a_manager_does_not_start_when_its_provider_fails() {
    for (answer, told) in [
        (Err("no database"), "failed: no database"),
        (
            Ok(""),
            "contained an invalid config: PeriodicTaskConfig.Cronspec cannot be empty",
        ),
    ] {
        let mut manager = PeriodicTaskManager::new(MemoryStore::new(), Provider(answer));
        let error = manager.start().await.unwrap_err().to_string();
        assert_eq!(error, format!("asynq: initial call to GetConfigs {told}"));
        assert!(manager.system().is_none());
    }
    let manager = PeriodicTaskManager::new(MemoryStore::new(), Provider(Ok("@hourly")));
    let mut hasty = manager.sync_interval(Duration::ZERO);
    assert!(matches!(hasty.start().await, Err(Error::Config(_))));
}
