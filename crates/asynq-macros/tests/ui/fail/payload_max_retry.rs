use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send", max_retry = -1)]
struct Negative;

#[derive(TaskPayload)]
#[task(type = "email:send", max_retry = 2147483648)]
struct TooLarge;

#[derive(TaskPayload)]
#[task(type = "email:send", max_retry = "5")]
struct Text;

#[derive(TaskPayload)]
#[task(type = "email:send", max_retry = 0.5)]
struct Fraction;

fn main() {}
