use asynq_macros::{task_handler, task_handler_async};

#[task_handler("email:send", "email:digest")]
fn two(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler("email:send", crate = "asynq")]
fn needs_no_path(_: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async("email:send", queue = "low")]
async fn option() {}

#[task_handler_async("email:send", crate = "not a path")]
async fn no_path() {}

fn main() {}
