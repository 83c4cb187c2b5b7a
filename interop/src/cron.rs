//! The results of Go's cron library for generated specs.

use crate::process::{PATIENCE, Process};

/// Lines for `asynq_testing::cron::disagreement`: the fixed cases, then `count` generated ones, which are the
/// same for the same seed.
///
/// # Panics
/// If the program fails.
pub async fn cron_cases(seed: u64, count: usize) -> Vec<String> {
    let args = [format!("--seed={seed}"), format!("--count={count}")];
    Process::start_alone("cron", &args).await.output(PATIENCE).await
}
