use asynq_macros::{task_handler, task_handler_async};

#[task_handler("email:send")]
fn nothing() -> Result<(), ()> {
    Ok(())
}

#[task_handler("email:send")]
fn two(_: (), _: ()) -> Result<(), ()> {
    Ok(())
}

#[task_handler_async("email:send")]
async fn nine(_: (), _: (), _: (), _: (), _: (), _: (), _: (), _: (), _: ()) {}

fn main() {}
