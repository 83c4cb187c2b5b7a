use asynq_macros::task_handler;

#[task_handler("email:send")]
fn send(_: ()) {}

fn main() {}
