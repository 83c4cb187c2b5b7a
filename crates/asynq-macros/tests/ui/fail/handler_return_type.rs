use asynq_core::Task;
use asynq_macros::task_handler_async;

#[task_handler_async("email:send", crate = "asynq_core")]
async fn send(_: Task) -> bool {
    true
}

fn main() {
    drop(send);
}
