//! The periodic task manager: what becomes of the entries when the provider says something else, or
//! nothing.

use std::{
    collections::VecDeque,
    fmt,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{AsynqSystem, Crash, SchedulerConfig};
use asynq_core::{
    MissedTicks, PeriodicTaskConfig, PeriodicTaskConfigProvider, Result, TaskOptions, broker::Env, error::BoxError,
    info::SchedulerEntry,
};
use asynq_memory::MemoryStore;
use asynq_testing::faulty::{Fault, Faults, FaultyConnector, Op};

use super::kit::{MINUTE, SECOND, builder, env, histories, task, tasks, until};

/// The provider's behaviour when it is asked; the last one repeats.
#[derive(Clone)]
enum Act {
    Gives(Vec<PeriodicTaskConfig>),
    Fails,
    Panics,
    Hangs,
}

/// Neither to be shown nor to be dropped.
#[derive(Debug)]
struct Bad;

impl fmt::Display for Bad {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not to be shown")
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("not to be dropped")
    }
}

impl std::error::Error for Bad {}

#[derive(Clone, Default)]
struct Provider {
    acts: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<Mutex<u32>>,
}

impl Provider {
    fn of(acts: impl IntoIterator<Item = Act>) -> Self {
        Self {
            acts: Arc::new(Mutex::new(acts.into_iter().collect())),
            asked: Arc::default(),
        }
    }

    fn now(&self, act: Act) {
        *self.acts.lock().unwrap() = [act].into();
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

#[async_trait]
impl PeriodicTaskConfigProvider for Provider {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        *self.asked.lock().unwrap() += 1;
        let act = {
            let mut acts = self.acts.lock().unwrap();
            let act = acts.pop_front().unwrap();
            if acts.is_empty() {
                acts.push_back(act.clone());
            }
            act
        };
        match act {
            Act::Gives(configs) => Ok(configs),
            Act::Fails => Err(Bad.into()),
            Act::Panics => panic!("the provider"),
            Act::Hangs => pending().await,
        }
    }
}

fn gives(entries: &[(&str, &str)]) -> Act {
    Act::Gives(
        entries
            .iter()
            .map(|(spec, t)| PeriodicTaskConfig::new(*spec, task(t)))
            .collect(),
    )
}

async fn system(store: &MemoryStore, env: &Env, provider: &Provider) -> Result<AsynqSystem> {
    let builder = builder(store.clone(), env).scheduler(SchedulerConfig::new());
    builder.periodic_tasks(provider.clone(), MINUTE).spawn().await
}

fn entries(system: &AsynqSystem) -> Vec<SchedulerEntry> {
    system.scheduler().unwrap().entries()
}

fn types(system: &AsynqSystem) -> Vec<String> {
    entries(system).into_iter().map(|entry| entry.task_type).collect()
}

fn note(system: &AsynqSystem) -> Option<String> {
    let tree = system.tree().unwrap();
    let node = tree.find(&["maintenance", "periodic_task_manager"]).unwrap();
    assert_eq!((node.restarts, &node.last_failure), (0, &None));
    node.note.clone()
}

#[tokio::test(start_paused = true)]
async fn entries_come_go_and_stay() {
    let (store, env) = (MemoryStore::new(), env());
    let provider = Provider::of([gives(&[("* * * * *", "stays"), ("* * * * *", "goes")])]);
    let system = system(&store, &env, &provider).await.unwrap();
    // Asked before the start.
    assert_eq!(types(&system), ["stays", "goes"]);
    let by_hand = system
        .scheduler()
        .unwrap()
        .register("* * * * *", task("by hand"))
        .unwrap();
    until(&env, "2024-03-10T12:10:00Z").await;
    let before = entries(&system);
    assert_eq!(histories(&store).len(), 3);

    provider.now(gives(&[("@hourly", "comes"), ("* * * * *", "stays")]));
    until(&env, "2024-03-10T12:11:40Z").await;
    let after = entries(&system);
    assert_eq!(types(&system), ["stays", "by hand", "comes"]);
    assert_eq!((&after[0].id, &after[1].id), (&before[0].id, &by_hand.to_string()));
    assert_eq!(after[0].prev.unwrap(), before[0].prev.unwrap() + MINUTE);
    let histories: Vec<_> = histories(&store)
        .into_iter()
        .map(|(id, events)| (id, events.len()))
        .collect();
    assert_eq!(histories.len(), 2);
    assert!(histories.contains(&(after[0].id.clone(), 11)), "{histories:?}");
    assert_eq!(provider.asked(), 12);
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_does_wrong_changes_nothing() {
    for (act, told) in [
        (Act::Fails, "an error that cannot be shown: its text panics"),
        (Act::Panics, "panicked: the provider"),
        (Act::Hangs, "no answer within 30s"),
        (
            gives(&[("@hourly", "comes"), (" ", "empty")]),
            "PeriodicTaskConfig.Cronspec cannot be empty",
        ),
    ] {
        let (store, env) = (MemoryStore::new(), env());
        let provider = Provider::of([gives(&[("* * * * *", "t")])]);
        let system = system(&store, &env, &provider).await.unwrap();
        assert_eq!(note(&system), None);
        let id = entries(&system)[0].id.clone();
        provider.now(act);
        until(&env, "2024-03-10T12:20:00Z").await;
        assert_eq!(note(&system).unwrap(), format!("keeps the last good set: {told}"));
        assert_eq!(entries(&system)[0].id, id);
        assert_eq!(tasks(&store, &env).await, 20);
        assert!(provider.asked() > 12, "{told}");
        provider.now(gives(&[]));
        until(&env, "2024-03-10T12:22:00Z").await;
        assert_eq!(note(&system), None);
        assert_eq!(types(&system), [""; 0]);
        system.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_system_does_not_start_without_a_first_answer() {
    for (act, told) in [
        (Act::Panics, "failed: panicked: the provider"),
        (Act::Hangs, "failed: no answer within 30s"),
        (
            gives(&[("", "t")]),
            "contained an invalid config: PeriodicTaskConfig.Cronspec cannot be empty",
        ),
    ] {
        let error = system(&MemoryStore::new(), &env(), &Provider::of([act]))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), format!("asynq: initial call to GetConfigs {told}"));
    }
    let provider = Provider::of([gives(&[])]);
    for interval in [Duration::from_millis(999), 25 * 3600 * SECOND] {
        let builder = builder(MemoryStore::new(), &env()).periodic_tasks(provider.clone(), interval);
        let error = builder.spawn().await.unwrap_err().to_string();
        assert!(error.contains("sync_interval must be 1s to 86400s"), "{error}");
    }
    assert_eq!(provider.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_bad_entry_is_left_out() {
    let (store, env) = (MemoryStore::new(), env());
    let provider = Provider::of([Act::Gives(vec![
        PeriodicTaskConfig::new("* * * *", task("no spec")),
        PeriodicTaskConfig::new("* * * * *", task("no queue")).options(TaskOptions::new().queue(" ")),
        PeriodicTaskConfig::new("* * * * *", task("good")),
    ])]);
    let system = system(&store, &env, &provider).await.unwrap();
    until(&env, "2024-03-10T12:05:00Z").await;
    assert_eq!((types(&system), note(&system)), (vec!["good".to_owned()], None));
    system.shutdown().await;
}

/// Twice the same is one; what differs in a header, or in an option of the task's own, is two
/// (differences.md#periodic-configurations).
#[tokio::test(start_paused = true)]
async fn entries_are_told_apart_by_all_that_counts() {
    let (store, env) = (MemoryStore::new(), env());
    let config = || PeriodicTaskConfig::new("* * * * *", task("t"));
    let with = |task| PeriodicTaskConfig::new("* * * * *", task);
    let provider = Provider::of([Act::Gives(vec![
        config(),
        config(),
        with(task("t").with_header("k", "v")),
        with(task("t").with_max_retry(3)),
        with(task("t")).options(TaskOptions::new().max_retry(3)),
        config().timezone(chrono_tz::Europe::Berlin),
    ])]);
    let system = system(&store, &env, &provider).await.unwrap();
    // An option counts wherever it is given.
    assert_eq!(entries(&system).len(), 4);
    until(&env, "2024-03-10T12:02:00Z").await;
    assert_eq!(tasks(&store, &env).await, 8);
    let first = entries(&system)[0].id.clone();
    provider.now(Act::Gives(vec![config().missed(MissedTicks::All)]));
    until(&env, "2024-03-10T12:04:00Z").await;
    let left = entries(&system);
    assert_eq!((left.len(), &left[0].id), (1, &first));
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_manager_changes_nothing() {
    let (store, env) = (MemoryStore::new(), env());
    let provider = Provider::of([gives(&[("* * * * *", "t")])]);
    let system = system(&store, &env, &provider).await.unwrap();
    let id = entries(&system)[0].id.clone();
    for crash in [Crash::Kill, Crash::Panic, Crash::Error] {
        assert!(system.crash_actor("maintenance/periodic_task_manager", crash));
        tokio::time::sleep(2 * MINUTE).await;
    }
    let tree = system.tree().unwrap();
    assert_eq!(
        tree.find(&["maintenance", "periodic_task_manager"]).unwrap().restarts,
        3
    );
    assert_eq!(entries(&system)[0].id, id);
    provider.now(gives(&[]));
    tokio::time::sleep(MINUTE + SECOND).await;
    assert_eq!(entries(&system), []);
    // Asked once a minute all the same.
    assert!((8..=9).contains(&provider.asked()), "{}", provider.asked());
    system.shutdown().await;
}

/// The policy of an entry changes while the storage is away: what was wanted before is not any longer, and
/// the attempts stay few.
#[tokio::test(start_paused = true)]
async fn a_policy_that_changes_in_an_outage() {
    let (store, env, faults) = (MemoryStore::new(), env(), Faults::new());
    let of = |missed| Act::Gives(vec![PeriodicTaskConfig::new("* * * * *", task("t")).missed(missed)]);
    let provider = Provider::of([of(MissedTicks::All)]);
    let first = system(&store, &env, &provider).await.unwrap();
    until(&env, "2024-03-10T12:01:30Z").await;
    first.shutdown().await;
    until(&env, "2024-03-10T12:30:30Z").await;

    let (failed, storage) = (Arc::new(Mutex::new(0)), faults.clone());
    let count = Arc::clone(&failed);
    let config = SchedulerConfig::new().error_handler(move |_, _, _| {
        let mut failed = count.lock().unwrap();
        *failed += 1;
        if *failed > 5000 {
            // Attempts without a pause would let no time pass.
            storage.clear();
        }
    });
    faults.always(Op::EnqueueTick, Fault::unavailable());
    let builder = builder(FaultyConnector::new(store.clone(), faults.clone()), &env).scheduler(config);
    let second = builder.periodic_tasks(provider.clone(), MINUTE).spawn().await.unwrap();
    until(&env, "2024-03-10T12:33:00Z").await;
    provider.now(of(MissedTicks::Skip));
    until(&env, "2024-03-10T12:50:00Z").await;
    assert!(*failed.lock().unwrap() < 2000);
    assert_eq!(tasks(&store, &env).await, 1);
    faults.clear();
    until(&env, "2024-03-10T12:50:30Z").await;
    // From 12:46 on, or from 12:45 if it was quick.
    assert!((6..=7).contains(&tasks(&store, &env).await));
    second.shutdown().await;
}
