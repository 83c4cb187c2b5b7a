use asynq_core::Task;
use asynq_macros::task_handler_async;

struct Email;

#[task_handler_async("email:send", crate = "asynq_core")]
async fn send(_: Task, _: Email) {}

fn main() {
    drop(send);
}
