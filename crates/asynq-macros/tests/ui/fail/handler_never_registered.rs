#![deny(dead_code)]

use asynq_core::Task;
use asynq_macros::{task_handler, task_handler_async};

#[task_handler("email:send")]
fn send(_: Task) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async("email:digest", crate = "asynq_core")]
async fn digest(_: Task) {}

fn main() {}
