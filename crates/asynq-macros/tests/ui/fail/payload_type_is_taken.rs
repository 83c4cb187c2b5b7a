use asynq_macros::TaskPayload;

mod asynq {
    pub struct TaskOptions;

    impl TaskOptions {
        pub fn new() -> Self {
            Self
        }
    }

    pub trait TaskPayload {
        const TYPE: &'static str;

        fn options() -> TaskOptions;
    }
}

#[derive(TaskPayload)]
#[task(type = "email:send", crate = "crate::asynq")]
struct Email {
    user: u64,
}

impl Email {
    const TYPE: &'static str = "of my own";
}

fn main() {}
