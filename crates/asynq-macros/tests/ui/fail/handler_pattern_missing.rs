use asynq_macros::{task_handler, task_handler_async};

#[task_handler]
fn bare(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async()]
async fn empty() {}

fn main() {}
