//! Counters: once per call and kind, and like Go's in every corner (layout.md#counters).

use asynq_core::keys;
use asynq_testing::request::request;

use crate::support::{Bench, DONE, archive, key, q, retry, settlement};

async fn run(bench: &Bench, names: &[&str]) -> Vec<asynq_core::broker::LeasedTask> {
    bench.enqueue_ids(names).await;
    bench.take(200).await
}

async fn totals(bench: &mut Bench) -> (String, String) {
    let (processed, failed) = (key("processed"), key("failed"));
    (
        bench.raw(&["GET", &processed]).await.text(),
        bench.raw(&["GET", &failed]).await.text(),
    )
}

#[tokio::test]
async fn each_kind_is_counted_once_per_call_and_days_end_ninety_days_after_they_began() {
    let mut bench = Bench::start().await;
    let day = keys::day(bench.clock.now());
    let (processed, failed) = (key(&format!("processed:{day}")), key(&format!("failed:{day}")));
    let tasks = run(&bench, &["a", "b", "c", "d"]).await;
    let not_a_failure = asynq_core::broker::Outcome::Retry {
        at: bench.after(9),
        error: "x".into(),
        is_failure: false,
    };
    let outcomes = [DONE, archive(), retry(bench.after(9)), not_a_failure];
    let settle = tasks
        .iter()
        .zip(outcomes)
        .map(|(task, outcome)| settlement(task, outcome))
        .collect();
    assert!(bench.exchange(settle, 0).await.settled.iter().all(Result::is_ok));
    assert_eq!(totals(&mut bench).await, ("3".to_owned(), "2".to_owned()));
    assert_eq!(bench.raw_int(&["GET", &processed]).await, 3);
    assert_eq!(bench.raw_int(&["GET", &failed]).await, 2);
    let ninety_days = 90 * 24 * 3600;
    for key in [&processed, &failed] {
        let lives = bench.client.ttl(key).await.unwrap();
        assert!((ninety_days - 10..=ninety_days).contains(&lives), "{key}: {lives}");
    }
    // Later ones of the same day do not make it live longer.
    bench.advance(600);
    let tasks = run(&bench, &["e", "f"]).await;
    let settle = tasks.iter().map(|task| settlement(task, archive())).collect();
    bench.exchange(settle, 0).await;
    if keys::day(bench.clock.now()) == day {
        assert_eq!(bench.raw_int(&["GET", &processed]).await, 5);
        for key in [&processed, &failed] {
            let lives = bench.client.ttl(key).await.unwrap();
            assert!(lives <= ninety_days, "{key}: {lives}");
        }
    }
    for total in ["processed", "failed"] {
        assert_eq!(bench.raw_int(&["TTL", &key(total)]).await, -1);
    }
}

#[tokio::test]
async fn a_total_at_the_limit_starts_again_as_in_go() {
    // (processed, failed) before, the outcomes of one call (true: failure), and after.
    let max = i64::MAX;
    let cases: &[(i64, i64, &[bool], i64, i64)] = &[
        (max, 5, &[false], 1, 5),
        (max, 5, &[true], 1, 1),
        // As doubles, all within 512 of the limit are equal to it. Of one call the tasks that are done come first.
        (max - 511, 5, &[true, true, true], 3, 3),
        (max - 511, 5, &[true, true, false], 3, 7),
        (max - 512, 5, &[true], max - 511, 6),
        (max - 513, 5, &[false, true, true, true], 2, 2),
        (max - 1_000_000, 5, &[false, true], max - 999_998, 6),
    ];
    for (processed, failed, ends, then_processed, then_failed) in cases {
        let mut bench = Bench::start().await;
        bench.raw(&["SET", &key("processed"), &processed.to_string()]).await;
        bench.raw(&["SET", &key("failed"), &failed.to_string()]).await;
        let names: Vec<_> = (0..ends.len()).map(|n| format!("id{n}")).collect();
        let tasks = run(&bench, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let settle = tasks
            .iter()
            .zip(*ends)
            .map(|(task, failure)| settlement(task, if *failure { archive() } else { DONE }))
            .collect();
        assert!(bench.exchange(settle, 0).await.settled.iter().all(Result::is_ok));
        let after = totals(&mut bench).await;
        assert_eq!(
            after,
            (then_processed.to_string(), then_failed.to_string()),
            "{processed} {ends:?}"
        );
    }
}

#[tokio::test]
async fn a_damaged_counter_harms_only_itself() {
    let mut bench = Bench::start().await;
    bench.raw(&["RPUSH", &key("processed"), "x"]).await;
    bench.raw(&["SET", &key("failed"), "many"]).await;
    let tasks = run(&bench, &["a", "b"]).await;
    let settle = vec![settlement(&tasks[0], DONE), settlement(&tasks[1], archive())];
    assert!(bench.exchange(settle, 0).await.settled.iter().all(Result::is_ok));
    let day = keys::day(bench.clock.now());
    assert_eq!(bench.raw_int(&["GET", &key(&format!("processed:{day}"))]).await, 2);
    assert_eq!(bench.raw_int(&["GET", &key(&format!("failed:{day}"))]).await, 1);
    assert_eq!(bench.raw(&["GET", &key("failed")]).await.text(), "many");
    assert_eq!(bench.raw_int(&["ZCARD", &key("archived")]).await, 1);
    assert_eq!(bench.raw_int(&["LLEN", &key("active")]).await, 0);
}

#[tokio::test]
async fn requeued_tasks_are_not_counted() {
    let mut bench = Bench::start().await;
    bench.enqueue(vec![request("q", "a")]).await;
    let task = bench.take(1).await.remove(0);
    bench.settle(&task, asynq_core::broker::Outcome::Requeue).await.unwrap();
    assert_eq!(bench.raw_int(&["EXISTS", &key("processed"), &key("failed")]).await, 0);
    assert_eq!(bench.audit(&q()).await, []);
}
