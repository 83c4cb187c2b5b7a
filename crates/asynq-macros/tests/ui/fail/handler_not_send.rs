use std::rc::Rc;

use asynq_core::Task;
use asynq_macros::task_handler_async;

#[task_handler_async("email:send", crate = "asynq_core")]
async fn send(_: Task) {
    let kept = Rc::new(7);
    std::future::ready(()).await;
    drop(kept);
}

fn main() {
    drop(send);
}
