use asynq_macros::{task_handler, task_handler_async};

#[task_handler("email:send")]
struct Email;

trait Emails {
    #[task_handler_async("email:send")]
    async fn send();
}

fn main() {}
