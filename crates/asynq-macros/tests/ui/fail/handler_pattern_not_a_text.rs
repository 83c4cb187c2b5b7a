use asynq_macros::{task_handler, task_handler_async};

const PATTERN: &str = "email:send";

#[task_handler(PATTERN)]
fn constant(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler(type = "email:send")]
fn key(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async(42)]
async fn number() {}

#[task_handler_async(b"email:send")]
async fn bytes() {}

fn main() {}
