struct Email;

fn main() {
    let _ = asynq_core::IntoTask::into_task(Email);
}
