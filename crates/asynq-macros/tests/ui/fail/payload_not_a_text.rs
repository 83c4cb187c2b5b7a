use asynq_macros::TaskPayload;

const TYPE: &str = "email:send";

#[derive(TaskPayload)]
#[task(type = TYPE, queue = 1, group = 'g', crate = asynq_core)]
struct Email;

fn main() {}
