//! Rate limits.

use std::time::Duration;

use asynq_core::TaskState;

use super::kit::{House, Stage, config, task};

#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_over_all_instances() {
    let stage = Stage::new();
    let spec = stage
        .spec("t")
        .instances(3)
        .concurrency(2)
        .rate_limit(2, Duration::from_secs(4));
    let house = House::open([spec]).await;
    for answer in house
        .system
        .client()
        .enqueue_many((0..6).map(|_| task("t", "ok")))
        .await
    {
        answer.unwrap();
    }
    let starts = stage.until(6, "start").await;
    let began = starts[0].at;
    let secs: Vec<_> = starts
        .iter()
        .map(|deed| (deed.at - began).as_secs_f64().round() as u64)
        .collect();
    assert_eq!(secs, [0, 0, 2, 4, 6, 8]);
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_for_a_token_blocks_no_slot_and_uses_up_no_retry() {
    let stage = Stage::new();
    let spec = stage.spec("slow").rate_limit(1, Duration::from_secs(60));
    let house = House::with(config().concurrency(1), [spec, stage.spec("other")], |builder| builder).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(house.enqueue(task("slow", "ok").with_max_retry(0)).await);
    }
    let last = house.until(&slow[3], TaskState::Retry).await;
    assert_eq!((last.retried, last.last_error.as_str()), (0, "rate limit of \"slow\""));
    let other = house.enqueue(task("other", "ok")).await;
    house.until_done(&other).await;
    assert_eq!(stage.deeds("start").len(), 2);
    for done in &slow {
        house.until_done(done).await;
    }
    let starts: Vec<_> = stage
        .deeds("start")
        .into_iter()
        .filter(|deed| deed.retried == 0)
        .collect();
    assert_eq!(starts.len(), 5);
    let took = starts[4].at - starts[0].at;
    assert!(
        took >= Duration::from_secs(179) && took < Duration::from_secs(200),
        "{took:?}"
    );
    house.close().await;
}

/// Tasks that wait in their slots keep them, and those that were taken ahead go back again and again.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_holds_for_what_is_taken_ahead() {
    let stage = Stage::new();
    let spec = stage.spec("t").rate_limit(2, Duration::from_secs(8));
    let house = House::with(config().concurrency(2).prefetch(4), [spec], |builder| builder).await;
    let mut tasks = Vec::new();
    for number in 0..8 {
        tasks.push(house.enqueue(task("t", &number.to_string()).with_max_retry(0)).await);
    }
    let starts = stage.until(8, "start").await;
    for done in &tasks {
        house.until_done(done).await;
    }
    let began = starts[0].at;
    let millis: Vec<_> = starts.iter().map(|deed| (deed.at - began).as_millis()).collect();
    // One more each 4 s behind the first two.
    for (place, at) in millis.iter().enumerate().skip(2) {
        let due = 4000 * (place as u128 - 1);
        assert!((due..due + 1000).contains(at), "{millis:?}");
    }
    let mut ran: Vec<_> = starts.iter().map(|deed| deed.order.as_str()).collect();
    assert_eq!(ran[..2], ["0", "1"]);
    ran.sort_unstable();
    assert_eq!(ran, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(starts.iter().all(|deed| deed.retried == 0), "{starts:?}");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_actor_gets_no_more_at_once_of_what_is_taken_ahead() {
    let stage = Stage::new();
    let spec = stage.spec("t").concurrency(2);
    let house = House::with(config().concurrency(4).prefetch(4), [spec], |builder| builder).await;
    let mut tasks = Vec::new();
    for _ in 0..12 {
        tasks.push(house.enqueue(task("t", "elsewhere 3000").with_max_retry(0)).await);
    }
    for done in &tasks {
        house.until_done(done).await;
    }
    assert_eq!((stage.most_working(), stage.deeds("start").len()), (2, 12));
    house.close().await;
}
