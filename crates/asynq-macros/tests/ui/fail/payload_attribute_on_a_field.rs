use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send")]
struct Email {
    #[task(queue = "critical")]
    user: u64,
}

#[derive(TaskPayload)]
#[task(type = "email:digest")]
enum Digest {
    #[task(queue = "low")]
    Weekly(#[task(group = "g")] u8),
}

fn main() {}
