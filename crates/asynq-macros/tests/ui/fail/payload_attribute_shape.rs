use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task]
struct Bare;

#[derive(TaskPayload)]
#[task = "email:send"]
struct Value;

#[derive(TaskPayload)]
#[task[type = "email:send"]]
struct Brackets;

fn main() {}
