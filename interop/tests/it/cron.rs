//! Cron specs mean what they mean in Go: cases that nobody has seen before.

use std::hash::{BuildHasher as _, RandomState};

use asynq_interop::cron_cases;
use asynq_testing::cron::disagreement;

const COUNT: usize = 10_000;

#[tokio::test]
async fn specs_mean_what_they_mean_in_go() {
    let seed = RandomState::new().hash_one(());
    let cases = cron_cases(seed, COUNT).await;
    assert!(cases.len() > COUNT, "{} cases", cases.len());
    let differences: Vec<_> = cases.iter().filter_map(|case| disagreement(case)).collect();
    assert!(
        differences.is_empty(),
        "with --seed {seed}:\n{}",
        differences.join("\n")
    );
}

/// A failure can be looked into by its seed, and the committed sample can be written again.
#[tokio::test]
async fn the_same_seed_gives_the_same_cases() {
    let cases = cron_cases(7, 200).await;
    assert_eq!(cases, cron_cases(7, 200).await);
    assert_ne!(cases, cron_cases(8, 200).await);
}
