//! We enqueue, Go inspects and runs.

use crate::{kinds::every_kind, sides::Side};

#[tokio::test]
async fn every_kind_of_our_tasks_is_read_and_run_by_go() {
    every_kind(Side::Rust).await;
}
