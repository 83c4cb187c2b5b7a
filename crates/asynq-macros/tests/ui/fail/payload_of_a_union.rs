use asynq_macros::TaskPayload;

#[derive(TaskPayload)]
#[task(type = "email:send")]
union Email {
    user: u64,
}

fn main() {}
