use asynq_macros::task_handler_async;

#[task_handler_async("email:send")]
fn send(_: ()) -> Result<(), ()> {
    Ok(())
}

fn main() {}
