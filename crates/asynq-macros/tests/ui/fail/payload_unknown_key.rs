use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", priority = 3)]
struct Unknown;

#[derive(TaskPayload)]
#[task(name = "email:send", retries = 3, unique = "1h")]
struct Misnamed;

#[derive(TaskPayload)]
#[task(type = "email:send", deadline = "1h", process_in = "5m", task_id = "7")]
struct OfOneTask;

fn main() {}
