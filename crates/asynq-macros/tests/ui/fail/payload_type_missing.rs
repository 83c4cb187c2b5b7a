use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
struct NoAttribute;

#[derive(TaskPayload)]
#[task(queue = "critical")]
struct NoType;

#[derive(TaskPayload)]
#[task()]
struct Empty;

fn main() {}
