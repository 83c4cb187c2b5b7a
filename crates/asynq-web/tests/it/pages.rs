//! The pages.

mod audit;
mod contexts;
mod findings;
mod frame;
mod planted;
mod queue;
mod redis;
mod schedulers;
mod servers;
mod task;
mod tree;
mod types;

/// A task without a payload.
fn task(task_type: &str) -> asynq::Task {
    asynq::Task::new(task_type, b"").unwrap()
}
