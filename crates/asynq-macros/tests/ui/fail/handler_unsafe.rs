use asynq_macros::task_handler;

#[task_handler("email:send")]
unsafe fn send(_: ()) -> Result<(), ()> {
    Ok(())
}

fn main() {}
