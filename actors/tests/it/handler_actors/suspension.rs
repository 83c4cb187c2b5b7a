//! Task types whose handler actors crash again and again.

use std::time::Duration;

use asynq_actors::Exit;
use asynq_core::{QueueName, TaskState};
use tokio::time::Instant;

use super::kit::{House, Stage, config, task};

#[tokio::test(start_paused = true)]
async fn five_poison_payloads_do_not_end_the_system() {
    let stage = Stage::new();
    let house = House::open([stage.spec("poison").instances(2), stage.spec("other")]).await;
    let mut poison = Vec::new();
    for _ in 0..5 {
        poison.push(house.enqueue(task("poison", "panic").with_max_retry(0)).await);
    }
    for poison in &poison {
        house.until(poison, TaskState::Archived).await;
    }
    let note = house.node(&["poison#0"]).note.unwrap();
    assert!(note.starts_with("suspended until "), "{note}");
    assert!(note.contains("after 5 crashes: "), "{note}");
    assert_eq!(house.node(&["poison#1"]).note, Some(note));
    assert_eq!(house.node(&["other#0"]).note, None);

    // What comes meanwhile is put back and uses up no retry; others go on.
    let suspended = Instant::now();
    let waits = house.enqueue(task("poison", "ok").with_max_retry(0)).await;
    let back = house.until(&waits, TaskState::Retry).await;
    assert_eq!((back.retried, back.last_failed_at.is_some()), (0, true));
    assert!(
        back.last_error.starts_with("task type is suspended"),
        "{}",
        back.last_error
    );
    let other = house.enqueue(task("other", "ok")).await;
    house.until_done(&other).await;
    assert!(suspended.elapsed() < Duration::from_secs(5));

    // It runs after the suspension, once, and all is well again.
    house.until_done(&waits).await;
    let waited = suspended.elapsed();
    assert!(
        waited >= Duration::from_secs(29) && waited < Duration::from_secs(50),
        "{waited:?}"
    );
    assert_eq!(stage.deeds("start").iter().filter(|deed| deed.order == "ok").count(), 2);
    assert_eq!(house.node(&["poison#0"]).note, None);
    let tree = house.system.tree().unwrap();
    assert_eq!(tree.find(&["work"]).unwrap().restarts, 0);
    assert_eq!(tree.find(&["work", "handlers"]).unwrap().restarts, 0);
    let totals = house
        .system
        .storage()
        .await
        .unwrap()
        .queue_info(&QueueName::default())
        .await
        .unwrap();
    assert_eq!(
        (totals.processed_total, totals.failed_total),
        (7, 5),
        "being put back is no failure"
    );
    assert_eq!(house.system.shutdown().await, Exit::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_fails_suspends_for_twice_as_long_and_costs_one_task() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").instances(3).suspend_after(2)]).await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        tasks.push(house.enqueue(task("t", "panic").with_max_retry(0)).await);
    }
    // A third may be under way when the second crashes.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let first = stage.deeds("start").len();
    assert!((2..=3).contains(&first), "{first}");
    let mut trials = Vec::new();
    for trial in 1..=3 {
        trials.push(stage.until(first + trial, "start").await.pop().unwrap().at);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(stage.deeds("start").len(), first + trial, "one task only");
    }
    for (pair, least) in trials.windows(2).zip([60, 120]) {
        let pause = (pair[1] - pair[0]).as_secs();
        assert!(
            (least..least * 5 / 4 + 15).contains(&pause),
            "{pause} s, not about {least} s"
        );
    }
    assert!(house.node(&["t#0"]).note.is_some());
    for done in &tasks {
        house.until(done, TaskState::Archived).await;
    }
    assert_eq!(stage.deeds("start").len(), 8, "being put back is no attempt");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_answered_task_between_keeps_the_type_going() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").suspend_after(2)]).await;
    for _ in 0..20 {
        let poison = house.enqueue(task("t", "panic").with_max_retry(0)).await;
        house.until(&poison, TaskState::Archived).await;
        let fine = house.enqueue(task("t", "fail").with_max_retry(0)).await;
        house.until(&fine, TaskState::Archived).await;
    }
    assert_eq!(house.node(&["t#0"]).note, None);
    let node = house.node(&["t#0"]);
    assert_eq!(node.restarts, 20);
    house.close().await;
}

/// A payload that crashes every instance at first sight takes no retry, and is not tried for ever
/// without a pause.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_start_is_no_failure_of_the_task() {
    let stage = Stage::new();
    let house = House::open([stage.spec("panic unstarted").instances(2), stage.spec("other")]).await;
    let poison = house.enqueue(task("panic unstarted", "")).await;
    let back = house.until(&poison, TaskState::Retry).await;
    assert_eq!(back.retried, 0);
    assert!(
        back.last_error.starts_with("task type is suspended"),
        "{}",
        back.last_error
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    let restarts: u64 = house.node(&[]).children.iter().map(|child| child.restarts).sum();
    assert!((5..=15).contains(&restarts), "{restarts} restarts in ten minutes");
    assert_eq!(house.info(&poison).await.unwrap().retried, 0);
    let other = house.enqueue(task("other", "ok")).await;
    house.until_done(&other).await;
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn kills_of_their_supervisor_are_no_crashes_of_the_instances() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").instances(8)]).await;
    assert!(house.system.kill_actor("work/handlers"));
    let done = house.enqueue(task("t", "ok")).await;
    let asked = Instant::now();
    house.until_done(&done).await;
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(stage.starts(), 16);
    house.close().await;
}

/// Those that were taken ahead are put back as soon as they start, and others of another type go on.
#[tokio::test(start_paused = true)]
async fn what_was_taken_ahead_of_a_suspended_type_is_put_back() {
    let stage = Stage::new();
    let specs = [stage.spec("poison"), stage.spec("other")];
    let house = House::with(config().concurrency(1).prefetch(6), specs, |builder| builder).await;
    let (mut poison, mut others) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        poison.push(house.enqueue(task("poison", "panic").with_max_retry(0)).await);
    }
    for poison in &poison {
        house.until(poison, TaskState::Archived).await;
    }
    let suspended = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(house.enqueue(task("poison", "ok").with_max_retry(0)).await);
        others.push(house.enqueue(task("other", "ok").with_max_retry(0)).await);
    }
    for other in &others {
        house.until_done(other).await;
    }
    assert!(suspended.elapsed() < Duration::from_secs(5));
    for waits in &waiting {
        house.until_done(waits).await;
    }
    assert!(suspended.elapsed() >= Duration::from_secs(29));
    assert_eq!(
        stage.deeds("start").iter().filter(|deed| deed.order == "ok").count(),
        12
    );
    house.close().await;
}
