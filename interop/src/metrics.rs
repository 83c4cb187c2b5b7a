//! Metrics of queues, as Go's collector for Prometheus exports them.

use serde::Deserialize;

use crate::process::{PATIENCE, Process, parse};

#[derive(Deserialize)]
struct Scrape {
    text: String,
}

/// Returns one scrape of Go's collector, in the text format of Prometheus.
///
/// # Panics
/// If the program fails.
pub async fn go_metrics(address: &str) -> String {
    let lines = Process::start("metrics", address, &[]).await.output(PATIENCE).await;
    parse::<Scrape>(lines.first().expect("the program writes one line")).text
}
