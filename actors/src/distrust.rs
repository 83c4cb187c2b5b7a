//! Guards around what a user's code does, from core.

pub(crate) use asynq_core::distrust::{drop_quietly, panic_report, panic_text, remember_panics, report, shown};
