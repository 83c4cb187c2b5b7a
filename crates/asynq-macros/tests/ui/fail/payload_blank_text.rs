use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "")]
struct Type;

#[derive(TaskPayload)]
#[task(type = "email:send", queue = " ", group = "\n")]
struct Others;

fn main() {}
