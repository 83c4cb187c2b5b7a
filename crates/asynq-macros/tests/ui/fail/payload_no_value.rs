use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", unique_ttl)]
struct NoValue;

#[derive(TaskPayload)]
#[task(type("email:send"))]
struct Nested;

#[derive(TaskPayload)]
#[task("email:send")]
struct NoKey;

#[derive(TaskPayload)]
#[task(type = "email:send", later)]
struct NoKeyOfOurs;

#[derive(TaskPayload)]
#[task(type =)]
struct Nothing;

fn main() {}
