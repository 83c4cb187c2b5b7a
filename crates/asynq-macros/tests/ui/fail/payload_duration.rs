use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", timeout = "500ms", unique_ttl = "0s", retention = "36501d")]
struct OutOfRange;

#[derive(TaskPayload)]
#[task(type = "email:send", timeout = "30", unique_ttl = "1h30m", retention = "soon")]
struct Malformed;

#[derive(TaskPayload)]
#[task(type = "email:send", timeout = 30, unique_ttl = 1h)]
struct NoText;

fn main() {}
