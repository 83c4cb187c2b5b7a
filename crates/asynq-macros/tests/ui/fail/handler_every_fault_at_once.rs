use asynq_macros::task_handler;

#[task_handler("")]
async unsafe fn send<T>(_: T, _: ()) {}

fn main() {}
