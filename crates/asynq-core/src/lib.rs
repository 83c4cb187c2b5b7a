//! Domain types and ports of Asynq for Rust.
//!
//! This crate knows tasks, options, names, keys, the wire format and the two traits through which
//! storage is reached: [`Broker`] and [`Inspect`]. It knows neither actors nor Redis.

pub mod aggregator;
mod blocking;
pub mod broker;
pub mod cancel;
pub mod clock;
pub mod compose;
pub mod config;
pub mod context;
pub mod cron;
pub mod entropy;
pub mod error;
pub mod excerpt;
pub mod extract;
pub mod failure;
pub mod handler;
pub mod info;
pub mod inspect;
pub mod keys;
pub mod message;
pub mod mux;
pub mod names;
pub mod options;
#[doc(hidden)]
pub mod panics;
pub mod patterns;
pub mod payload;
pub mod periodic;
pub mod progress;
pub mod published;
pub mod raw;
pub mod shared_state;
pub mod task;
pub mod task_state;
pub mod tree;

pub use aggregator::{GroupAggregator, GroupAggregatorFunc};
pub use broker::{Broker, Connector, Env, Storage};
pub use cancel::{Cancelled, Then, UnknownThen};
pub use clock::Clock;
pub use config::{ClientConfig, ServerConfig, UnknownTask};
pub use context::{Hold, TaskContext};
pub use cron::{CronError, CronSpec};
pub use entropy::Entropy;
pub use error::{BoxError, BrokerError, ConfigError, Directive, EnqueueError, Error, Result, SettleError, TaskError};
pub use handler::{ErrorHandler, Handler, HealthCheck, IsFailure, RetryDelay};
pub use info::{GroupInfo, QueueInfo, ServerInfo, TaskInfo, WorkerInfo};
pub use inspect::Inspect;
pub use message::TaskMessage;
pub use mux::ServeMux;
pub use names::{GroupKey, QueueName, ServerId, SystemId, TaskId, TaskType};
pub use options::TaskOptions;
pub use patterns::Patterns;
pub use payload::IntoTask;
#[cfg(feature = "json")]
pub use payload::TaskPayload;
pub use periodic::{EntryKey, MissedTicks, OnConflict, PeriodicTaskConfig, PeriodicTaskConfigProvider};
pub use progress::Progress;
pub use shared_state::States;
pub use task::Task;
pub use task_state::{TaskState, UnknownState};
pub use tree::{ActorState, PublishedTree, ServerIdentity, TreeNode};

/// Items that the macros' output refers to; no part of the public interface.
#[doc(hidden)]
#[cfg(feature = "json")]
pub mod __private {
    pub use serde::{Serialize, de::DeserializeOwned};
}
