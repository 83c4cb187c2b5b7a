use asynq_macros::{task_handler, task_handler_async};

struct Emails;

impl Emails {
    #[task_handler("email:send")]
    fn send(&self) -> Result<(), ()> {
        Ok(())
    }

    #[task_handler_async("email:digest")]
    async fn digest(self, _: ()) {}
}

fn main() {}
