use asynq_macros::{task_handler, task_handler_async};

#[task_handler("")]
fn empty(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async(" \t")]
async fn white() {}

fn main() {}
