use asynq_macros::task_handler;

#[task_handler("email:send")]
async fn send(_: ()) -> Result<(), ()> {
    Ok(())
}

fn main() {}
