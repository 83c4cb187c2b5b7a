use asynq_macros::{task_handler, task_handler_async};

#[task_handler("email:send")]
fn parameter<T>(_: T) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async("email:send")]
async fn any(_: impl Sized) {}

fn main() {}
