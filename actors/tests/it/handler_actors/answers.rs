//! Tasks that are given, answered, withdrawn.

use std::time::Duration;

use asynq_core::TaskState;

use super::kit::{House, MINUTE, Stage, breathe, config, task};

#[tokio::test(start_paused = true)]
async fn state_is_kept_between_tasks() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t")]).await;
    for expected in 1..=3 {
        let done = house.enqueue(task("t", "ok")).await;
        house.until_done(&done).await;
        let deed = stage.deeds("start").pop().unwrap();
        assert_eq!((deed.incarnation, deed.seen), (1, expected));
    }
    house.close().await;
    assert_eq!(stage.deeds("stop").len(), 1, "it is stopped in order");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_written_with_the_task() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t")]).await;
    let kept = house.enqueue(task("t", "result").with_retention(MINUTE)).await;
    let kept = house.until(&kept, TaskState::Completed).await;
    assert_eq!(kept.result.as_deref(), Some(&b"1 of 1"[..]));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_answer_decides_what_becomes_of_the_task() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t")]).await;
    let failed = house.enqueue(task("t", "fail")).await;
    let failed = house.until(&failed, TaskState::Retry).await;
    assert_eq!((failed.last_error.as_str(), failed.retried), ("no luck", 1));
    let skipped = house.enqueue(task("t", "skip")).await;
    assert_eq!(house.until(&skipped, TaskState::Archived).await.last_error, "never");
    let dropped = house.enqueue(task("t", "drop")).await;
    let dropped = house.until(&dropped, TaskState::Retry).await;
    assert_eq!(
        dropped.last_error,
        "panic error cause by: handler actor dropped the task without an answer"
    );
    assert_eq!(stage.starts(), 1, "none of it is a crash");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn each_instance_has_as_many_tasks_as_its_concurrency() {
    for (instances, concurrency, server, most) in [(1, 1, 8, 1), (1, 3, 8, 3), (4, 1, 8, 4), (2, 3, 8, 6), (3, 5, 8, 8)]
    {
        let stage = Stage::new();
        let spec = stage.spec("t").instances(instances).concurrency(concurrency);
        let house = House::with(config().concurrency(server), [spec], |builder| builder).await;
        for answer in house
            .system
            .client()
            .enqueue_many((0..30).map(|_| task("t", "elsewhere 100")))
            .await
        {
            answer.unwrap();
        }
        let starts = stage.until(30, "start").await;
        assert_eq!(stage.most_working(), most, "{instances} x {concurrency}");
        let mut used: Vec<_> = starts.iter().map(|deed| deed.incarnation).collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), instances, "all instances work");
        house.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_wins_the_claim_of_what_waits_in_the_mailbox() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").concurrency(2)]).await;
    let first = house.enqueue(task("t", "gate")).await;
    stage.until(1, "start").await;
    let second = task("t", "ok").with_timeout(Duration::from_secs(5)).with_max_retry(0);
    let second = house.enqueue(second).await;
    let dead = house.until(&second, TaskState::Archived).await;
    assert_eq!(dead.last_error, "context deadline exceeded");
    // The instance is rightly busy: it is not killed for what it could not start.
    tokio::time::sleep(2 * MINUTE).await;
    stage.open_gate();
    house.until_done(&first).await;
    stage.until(1, "late").await;
    assert_eq!((stage.deeds("start").len(), stage.starts()), (1, 1));
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_wins_the_claim_of_what_waits_in_the_mailbox() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t").concurrency(2)]).await;
    let first = house.enqueue(task("t", "gate")).await;
    stage.until(1, "start").await;
    let second = house.enqueue(task("t", "ok").with_max_retry(0)).await;
    breathe().await;
    assert_eq!(house.system.cancel_task(&second.id), 1);
    let dead = house.until(&second, TaskState::Archived).await;
    assert_eq!(dead.last_error, "context canceled");
    stage.open_gate();
    house.until_done(&first).await;
    stage.until(1, "late").await;
    assert_eq!(stage.deeds("start").len(), 1);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_started_task_sees_the_cancel_and_holds_its_credit_and_its_slot_until_it_has_ended() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t")]).await;
    let first = house.enqueue(task("t", "cancel 5000")).await;
    stage.until(1, "start").await;
    assert_eq!(house.system.cancel_task(&first.id), 1);
    let second = house.enqueue(task("t", "ok")).await;
    let failed = house.until(&first, TaskState::Retry).await;
    assert_eq!(failed.last_error, "context canceled");
    assert_eq!(
        stage.deeds("answered").len(),
        1,
        "nobody may try it again while it works"
    );
    house.until_done(&second).await;
    let (cancelled, answered) = (stage.deeds("cancelled").remove(0), stage.deeds("answered").remove(0));
    assert_eq!(answered.at - cancelled.at, Duration::from_secs(5));
    let second = stage
        .deeds("start")
        .into_iter()
        .find(|deed| deed.order == "ok")
        .unwrap();
    assert!(second.at >= answered.at, "given before the first had ended");
    assert_eq!((second.incarnation, second.seen), (1, 2), "it was not killed");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_started_task_sees_its_deadline() {
    let stage = Stage::new();
    let house = House::open([stage.spec("t")]).await;
    let slow = house
        .enqueue(task("t", "cancel 0").with_timeout(Duration::from_secs(7)))
        .await;
    let failed = house.until(&slow, TaskState::Retry).await;
    assert_eq!(failed.last_error, "context deadline exceeded");
    let (start, seen) = (
        stage.deeds("start").remove(0),
        stage.until(1, "cancelled").await.remove(0),
    );
    let after = seen.at - start.at;
    assert!(
        after >= Duration::from_secs(6) && after <= Duration::from_secs(8),
        "{after:?}"
    );
    assert_eq!(stage.starts(), 1);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_started_tasks_end_and_gives_the_others_back() {
    let stage = Stage::new();
    let brief = config().shutdown_timeout(Duration::from_secs(3));
    let house = House::with(brief, [stage.spec("t").concurrency(2)], |builder| builder).await;
    let short = house.enqueue(task("t", "sleep 2000").with_retention(MINUTE)).await;
    stage.until(1, "start").await;
    let hangs = house.enqueue(task("t", "hang")).await;
    let waits = house.enqueue(task("t", "ok")).await;
    breathe().await;
    let store = house.store.clone();
    house.close().await;
    let after = House::on(store, config(), [], |builder| builder).await;
    assert_eq!(after.info(&short).await.unwrap().state, TaskState::Completed);
    for given_back in [&hangs, &waits] {
        let info = after.info(given_back).await.unwrap();
        assert_eq!(
            (info.state, info.retried, info.last_error.as_str()),
            (TaskState::Pending, 0, "")
        );
    }
    assert_eq!(
        stage.deeds("start").len(),
        2,
        "what waited was not started at the last moment"
    );
    after.close().await;
}
