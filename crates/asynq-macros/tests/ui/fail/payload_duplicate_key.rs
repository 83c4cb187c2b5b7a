use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", queue = "low", queue = "high")]
struct InOne;

#[derive(TaskPayload)]
#[task(type = "email:send")]
#[task(type = "email:digest")]
struct InTwo;

fn main() {}
