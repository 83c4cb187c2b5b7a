//! Go asynq as a peer in tests: builds the program in `interop/go` and drives it over pipes. Beside it a
//! server of ours that is driven in the same way, `asynq-interop-worker`, with the handler that both have, and
//! a scheduler of ours, `asynq-interop-scheduler`.
//!
//! Each type here is one running program, or one run of it; the shapes are those of
//! `interop/go/README.md`. A program that cannot be built, fails or stays silent is a panic that shows what
//! it said on its standard error. Children are killed when their value is dropped.
//!
//! ```no_run
//! # async fn example() {
//! use asynq_interop::{GoClient, GoTask, ServerProcess};
//!
//! let mut server = ServerProcess::go("127.0.0.1:6379").start().await;
//! let mut client = GoClient::start("127.0.0.1:6379").await;
//! let info = client.enqueue(&GoTask::new("t").payload(br#"{"do":"ok"}"#)).await;
//! assert_eq!(server.ended(&info.id).await.outcome, "ok");
//! server.shutdown().await;
//! # }
//! ```

mod asynqmon;
mod base64_bytes;
mod bench;
mod client;
mod cron;
mod dump;
mod events;
mod inspector;
mod metrics;
mod obedient;
mod options;
mod process;
mod program;
mod scheduler;
mod scheduler_process;
mod server;
mod task;

pub use asynqmon::Asynqmon;
pub use bench::{GoDrain, GoFill, bench_drain, bench_enqueue};
pub use client::GoClient;
pub use cron::cron_cases;
pub use dump::{DumpedKey, DumpedValue, ScoredMember, dump};
pub use events::{Events, GoAggregation, GoEvent, GoRun};
pub use inspector::{
    GoDailyStats, GoEnqueueEvent, GoGroup, GoInspector, GoQueueInfo, GoSchedulerEntry, GoServerInfo, GoWorker,
};
pub use metrics::go_metrics;
pub use obedient::{is_failure, obey};
pub use options::{GoOptionValues, GoOptions};
pub use process::{GoError, GoErrorKind, PATIENCE};
pub use program::program;
pub use scheduler::GoScheduler;
pub use scheduler_process::{SchedulerProcess, ToldTick};
pub use server::{ServerProcess, ServerProcessBuilder};
pub use task::{GoTask, GoTaskInfo, VECTORS};
