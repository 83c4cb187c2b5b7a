//! Instances that crash: what that costs, and whom.

use std::{sync::Arc, time::Duration};

use asynq_actors::{ActorState, AsynqSystem, Crash, HandleTask, HandlerActorSpec, supervisor::Restart};
use asynq_core::{Error, Inspect, QueueName, RetryDelay, TaskState};
use asynq_memory::MemoryStore;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::kit::{House, MINUTE, Stage, breathe, config, env, task};
use crate::{
    load::{Attempts, Load, run_one},
    placeless,
};

#[tokio::test(start_paused = true)]
async fn a_crash_fails_one_task_restarts_one_instance_and_touches_nobody_else() {
    for (order, text) in [
        ("panic", "panic error cause by: panic: the 1. task is too much"),
        (
            "break",
            "panic error cause by: handler actor failed: the stage is broken",
        ),
    ] {
        let stage = Stage::new();
        let house = House::open([stage.spec("t").instances(2), stage.spec("other")]).await;
        // One instance is busy, so the other one crashes.
        let steady = house.enqueue(task("t", "sleep 5000")).await;
        let steady_one = stage.until(1, "start").await[0].incarnation;
        let crash = house.enqueue(task("t", order)).await;
        let failed = house.until(&crash, TaskState::Retry).await;
        assert_eq!((placeless(&failed.last_error).as_str(), failed.retried), (text, 1));
        house.until_done(&steady).await;
        assert_eq!(stage.starts(), 4, "three, and one anew");
        // The one that worked on has its state, the other a fresh one.
        let both = [
            house.enqueue(task("t", "sleep 100")).await,
            house.enqueue(task("t", "sleep 100")).await,
        ];
        for done in &both {
            house.until_done(done).await;
        }
        let seen: Vec<_> = stage
            .deeds("start")
            .into_iter()
            .filter(|d| d.order == "sleep 100")
            .collect();
        for deed in seen {
            let expected = if deed.incarnation == steady_one { 2 } else { 1 };
            assert_eq!(deed.seen, expected, "{order}: {deed:?}");
        }
        let restarts: Vec<_> = house.node(&[]).children.iter().map(|child| child.restarts).collect();
        assert_eq!(restarts.iter().sum::<u64>(), 1, "{order}");
        assert_eq!(house.node(&["other#0"]).restarts, 0);
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_instance_fails_what_it_had_started_and_what_waits_runs_elsewhere_once() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").instances(2).concurrency(2)]).await;
    let started = [
        house.enqueue(task("t", "gate")).await,
        house.enqueue(task("t", "gate")).await,
    ];
    stage.until(2, "start").await;
    let queued = [
        house.enqueue(task("t", "queued a").with_retention(MINUTE)).await,
        house.enqueue(task("t", "queued b").with_retention(MINUTE)).await,
    ];
    breathe().await;
    assert_eq!(stage.deeds("start").len(), 2, "they wait in the mailboxes");
    assert!(house.system.kill_actor("work/handlers/t#0"));
    stage.until(3, "start").await;
    stage.open_gate();
    for queued in &queued {
        let done = house.until(queued, TaskState::Completed).await;
        assert_eq!((done.retried, done.last_error.as_str()), (0, ""), "no failure");
    }
    for queued in ["queued a", "queued b"] {
        let runs = stage.deeds("start").iter().filter(|deed| deed.order == queued).count();
        assert_eq!(runs, 1, "{queued}");
    }
    let mut failures = 0;
    for started in &started {
        if let Some(info) = house.info(started).await {
            assert_eq!(info.last_error, "panic error cause by: handler actor was killed");
            assert_eq!(info.retried, 1);
            failures += 1;
        }
    }
    assert_eq!(failures, 1);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_hangs_on_an_ended_run_is_killed() {
    for (order, kind) in [("hang", "t"), ("ok", "stall")] {
        let stage = Stage::new();
        let spec = stage.spec(kind).kill_after(Duration::from_secs(4));
        let house = House::open([spec, stage.spec("other")]).await;
        let first = house
            .enqueue(task(kind, order).with_timeout(Duration::from_secs(5)))
            .await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let id = format!("{kind}#0");
        assert_eq!(house.node(&[&id]).restarts, 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let node = house.node(&[&id]);
        assert_eq!((node.restarts, node.state), (1, ActorState::Running), "{kind}");
        assert_eq!(node.last_failure.as_deref(), Some("killed"));
        let failed = house.until(&first, TaskState::Retry).await;
        assert_eq!(failed.last_error, "context deadline exceeded", "not by the kill");
        assert_eq!(house.node(&["other#0"]).restarts, 0);
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_tasks_of_a_killed_instance_are_told_why() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").concurrency(2)]).await;
    let innocent = house.enqueue(task("t", "elsewhere 3600000")).await;
    stage.until(1, "start").await;
    house
        .enqueue(task("t", "hang").with_timeout(Duration::from_secs(5)))
        .await;
    let failed = house.until(&innocent, TaskState::Retry).await;
    assert_eq!(
        failed.last_error,
        "panic error cause by: handler actor was killed: it hung for 10s on an ended run"
    );
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_start_must_succeed_and_later_ones_are_tried_on() {
    let stage = Stage::new();
    stage.fail_starts(1);
    let refused = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .handler_actor(stage.spec("t"))
        .spawn()
        .await
        .unwrap_err();
    let Error::Actor(source) = &refused else {
        panic!("{refused}")
    };
    assert!(source.to_string().contains("the stage is broken"), "{source}");

    let house = House::open([stage.spec("t").suspend_after(10), stage.spec("other")]).await;
    stage.fail_starts(6);
    assert!(house.system.kill_actor("work/handlers/t#0"));
    let done = house.enqueue(task("t", "ok")).await;
    house.until_done(&done).await;
    assert_eq!(house.node(&["other#0"]).restarts, 0);
    // The same where their supervisor is started anew.
    stage.fail_starts(2);
    assert!(house.system.kill_actor("work/handlers"));
    let done = house.enqueue(task("t", "ok")).await;
    house.until_done(&done).await;
    assert_eq!(house.system.tree().unwrap().find(&["work"]).unwrap().restarts, 0);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_restarted_leaves_its_tasks_to_come_back() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").restart(Restart::Temporary)]).await;
    assert!(house.system.kill_actor("work/handlers/t#0"));
    breathe().await;
    let waits = house.enqueue(task("t", "ok")).await;
    let back = house.until(&waits, TaskState::Retry).await;
    assert_eq!(back.retried, 0, "no retry is used up");
    assert_eq!(back.last_error, "no instance of the handler actor runs (\"t\")");
    house.close().await;
}

/// A task that cannot be made into the actor's message fails.
#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_made_fails_its_task() {
    let stage = Stage::new();
    let house = House::open([stage.spec("un")]).await;
    let bad = house.enqueue(task("unconvertible", "")).await;
    let failed = house.until(&bad, TaskState::Retry).await;
    assert_eq!(
        placeless(&failed.last_error),
        "panic error cause by: panic: no such cue"
    );
    let done = house.enqueue(task("under", "ok")).await;
    house.until_done(&done).await;
    assert_eq!(stage.starts(), 1);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_never_started_comes_back_and_nothing_spins() {
    let stage = Stage::new();
    let house = House::open([stage.spec("ignore")]).await;
    let ignored = house.enqueue(task("ignore", "")).await;
    let back = house.until(&ignored, TaskState::Retry).await;
    assert_eq!(back.retried, 0, "no retry is used up");
    assert_eq!(
        back.last_error,
        "handler actors drop the task without starting it (\"ignore\")"
    );
    assert_eq!(stage.deeds("offered").len(), 8);
    assert_eq!(stage.starts(), 1);
    house.close().await;
}

/// A handler actor for the load: what it runs may panic.
struct Loaded;

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Loaded {
    type Msg = HandleTask;
    type State = Attempts;
    type Arguments = Attempts;

    async fn pre_start(&self, _: ActorRef<HandleTask>, seen: Attempts) -> Result<Attempts, ActorProcessingErr> {
        Ok(seen)
    }

    async fn handle(
        &self,
        _: ActorRef<HandleTask>,
        task: HandleTask,
        seen: &mut Attempts,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((task, reply)) = task.start() {
            reply.send(run_one(task, Arc::clone(seen)).await);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn instances_that_crash_at_random_lose_no_task_and_run_no_attempt_twice() {
    const INSTANCES: u64 = 8;
    let store = MemoryStore::new();
    let load = Load::start_with(store.clone(), store, env(), |builder, attempts| {
        let spec = HandlerActorSpec::new("t", move || (Loaded, Arc::clone(&attempts)));
        builder.handler_actor(spec.instances(INSTANCES as usize).concurrency(2).suspend_after(1000))
    })
    .await;
    let entropy = asynq_core::Entropy::seeded(23);
    let mut crashes = 0;
    for _ in 0..80 {
        tokio::time::sleep(Duration::from_millis(entropy.below(60))).await;
        let crash = [Crash::Kill, Crash::Panic, Crash::Error][usize::try_from(entropy.below(3)).unwrap()];
        let instance = format!("work/handlers/t#{}", entropy.below(INSTANCES));
        crashes += usize::from(load.system.crash_actor(&instance, crash));
        if entropy.below(20) == 0 {
            load.system
                .kill_actor(["work/handlers", "work/processor"][usize::from(entropy.below(2) == 0)]);
        }
    }
    let tree = load.system.tree().unwrap();
    let restarts: u64 = tree
        .find(&["work", "handlers"])
        .unwrap()
        .children
        .iter()
        .map(|c| c.restarts)
        .sum();
    assert!(restarts > 50, "{tree}");
    assert_eq!(tree.find(&["work"]).unwrap().restarts, 0, "{tree}");
    let (sent, attempts) = load.settle().await;
    let planned = sent + sent * 2 / 10;
    // A crash costs one attempt at most, and nothing of what waits in the mailbox.
    assert!(
        attempts >= planned && attempts <= planned + crashes + 20 * INSTANCES as usize,
        "{attempts}"
    );
}

/// As a message that is sent while the mailbox closes: nobody reads it, and nobody drops it.
#[tokio::test(start_paused = true)]
async fn a_task_that_its_dead_instance_never_read_goes_to_another() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").suspend_after(5)]).await;
    let lost = house.enqueue(task("t:lost", "ok").with_max_retry(0)).await;
    stage.until(1, "lost").await;
    breathe().await;
    assert_eq!(stage.deeds("start").len(), 0, "it waits");
    house.system.kill_actor("work/handlers/t#0");
    house.until_done(&lost).await;
    assert_eq!(stage.deeds("start").len(), 1);

    // The same where it was the trial of a suspended type.
    for _ in 0..5 {
        let poison = house.enqueue(task("t", "panic").with_max_retry(0)).await;
        house.until(&poison, TaskState::Archived).await;
    }
    assert!(house.node(&["t#0"]).note.unwrap().starts_with("suspended"));
    let trial = house.enqueue(task("t:lost", "ok").with_max_retry(0)).await;
    stage.until(2, "lost").await;
    breathe().await;
    house.system.kill_actor("work/handlers/t#0");
    house.until_done(&trial).await;
    assert_eq!(house.node(&["t#0"]).note, None);
    house.close().await;
}

/// A crash at random on two threads, where an instance may die while it is being given a task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_two_threads() {
    const TASKS: usize = 400;
    let stage = Stage::new();
    let spec = stage.spec("t").instances(3).concurrency(2).suspend_after(1000);
    let at_once = config().retry_delay(RetryDelay::new(|_, _, _| Duration::ZERO));
    let house = House::with(at_once, [spec], |builder| builder).await;
    let tasks = (0..TASKS).map(|number| task("t", &format!("yield {number}")).with_retention(MINUTE));
    for answer in house.system.client().enqueue_many(tasks).await {
        answer.unwrap();
    }
    let done = async {
        for seen in (10..TASKS).step_by(10) {
            stage.until(seen, "start").await;
            house.system.kill_actor(&format!("work/handlers/t#{}", seen % 3));
        }
        stage.until(TASKS, "done").await
    };
    let done = tokio::time::timeout(10 * MINUTE, done).await.expect("tasks are stuck");
    assert_eq!(done.len(), TASKS);
    let mut attempts: Vec<_> = stage
        .deeds("start")
        .into_iter()
        .map(|deed| (deed.order, deed.retried))
        .collect();
    let all = attempts.len();
    attempts.sort();
    attempts.dedup();
    assert_eq!(attempts.len(), all, "an attempt ran twice");
    let store = house.store.clone();
    house.close().await;
    let info = store.open(env()).queue_info(&QueueName::default()).await.unwrap();
    assert_eq!((info.completed, info.size()), (TASKS as u64, TASKS as u64));
}
