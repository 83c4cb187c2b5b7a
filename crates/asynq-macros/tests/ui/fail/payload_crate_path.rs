use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", crate = "my asynq")]
struct Email;

fn main() {}
