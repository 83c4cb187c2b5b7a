//! Asynq for Rust: a distributed task queue on Redis, run by supervised actors, wire-compatible
//! with Go hibiken/asynq.
//!
//! An [`AsynqSystem`] is a supervision tree that takes tasks from their queues, runs them,
//! retries, schedules and keeps them. It works on Redis ([`redis::RedisConnectionType`]), where
//! Go and Rust programs may share queues, or on the embedded broker ([`memory::MemoryStore`]),
//! which needs no server.
//!
//! ```
//! use asynq::{AsynqSystem, memory::MemoryStore, task::Task};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> asynq::error::Result<()> {
//!     let system = AsynqSystem::builder(MemoryStore::new())
//!         .handler(|task: Task| async move {
//!             println!("{} {:?}", task.get_type(), task.get_payload());
//!             Ok(())
//!         })
//!         .spawn()
//!         .await?;
//!     let info = system.client().enqueue(Task::new("email:send", b"42")?).await?;
//!     println!("enqueued {} to {}", info.id, info.queue);
//!     system.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! Tasks may also be given to actors of the user's own, which keep state from task to task, see
//! [`HandlerActorSpec`]:
//!
//! ```
//! use asynq::{AsynqSystem, HandleTask, HandlerActorSpec, memory::MemoryStore, task::Task};
//! use ractor::{Actor, ActorProcessingErr, ActorRef};
//!
//! struct Counter;
//!
//! #[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
//! impl Actor for Counter {
//!     type Msg = HandleTask;
//!     type State = u32;
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _: ActorRef<HandleTask>, (): ()) -> Result<u32, ActorProcessingErr> {
//!         Ok(0)
//!     }
//!
//!     async fn handle(
//!         &self,
//!         _: ActorRef<HandleTask>,
//!         task: HandleTask,
//!         count: &mut u32,
//!     ) -> Result<(), ActorProcessingErr> {
//!         // `None`: it is too late, the task was cancelled or ran out of time.
//!         if let Some((task, reply)) = task.start() {
//!             *count += 1;
//!             println!("{} is number {count}", task.get_type());
//!             reply.send(Ok(()));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> asynq::error::Result<()> {
//!     let system = AsynqSystem::builder(MemoryStore::new())
//!         .handler_actor(HandlerActorSpec::new("count:", || (Counter, ())))
//!         .spawn()
//!         .await?;
//!     system.client().enqueue(Task::new("count:sheep", b"")?).await?;
//!     system.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # Spans
//!
//! What is logged, by a handler too, is inside of a [`tracing`](https://docs.rs/tracing) span:
//!
//! - `task`, one for each run of a handler: `id`, `type`, `queue`. It is there at every level.
//! - `actor`, one for each life of an actor of the tree, at level debug: `path`, as `system/work/processor`.

pub mod client;
pub mod inspector;
pub mod scheduler;
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

#[cfg(feature = "macros")]
mod macros;

pub use asynq_actors::{
    ActorHandler, ActorState, AggregateGroup, AggregatorActor, AggregatorActorError, AsynqSystem, AsynqSystemBuilder,
    BrokerHandle, Crash, EnqueueMsg, Exit, HandleTask, HandlerActorSpec, SchedulerConfig, SchedulerHandle, TaskReply,
    TreeEvent, TreeNode,
};
#[cfg(feature = "json")]
pub use asynq_core::{__private, TaskPayload};
pub use asynq_core::{
    Connector, Directive, Env, Error, ErrorHandler, GroupAggregator, GroupAggregatorFunc, Handler, HealthCheck, Hold,
    IntoTask, IsFailure, Progress, PublishedTree, Result, RetryDelay, ServerConfig, Task, TaskContext, TaskInfo,
    TaskOptions, TaskState, clock, entropy, extract, handler, info, inspect, names,
};
#[cfg(all(feature = "macros", feature = "json"))]
pub use macros::TaskPayload;
#[cfg(feature = "macros")]
pub use macros::{task_handler, task_handler_async};

/// Supervision in OTP's terms, as the system has it, for actors of the user's own.
pub mod supervisor {
    pub use asynq_actors::{Slot, Tree, supervisor::*};
}

/// What a server may be given besides its handler.
pub mod components {
    /// Group aggregation: many tasks become one.
    pub mod aggregator {
        pub use asynq_actors::{AggregateGroup, AggregatorActor, AggregatorActorError};
        pub use asynq_core::aggregator::{GroupAggregator, GroupAggregatorFunc, MAX_AGGREGATIONS};
    }
}

/// Tasks and their options.
pub mod task {
    #[cfg(feature = "json")]
    pub use asynq_core::TaskPayload;
    pub use asynq_core::{
        Hold, IntoTask, Progress, Task, TaskContext, TaskInfo, TaskOptions, TaskState, UnknownState,
        options::{
            DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT, MAX_DURATION, MAX_MESSAGE_BYTES,
            MAX_RETRIES, MIN_DURATION,
        },
    };
}

/// Handlers by the type of the task, with middleware around them.
pub mod serve_mux {
    pub use asynq_core::mux::{BadPayload, Middleware, Next, ServeMux};
}

/// Where the layout in the storage has its words.
pub mod base {
    /// Keys and states.
    pub mod keys {
        pub use asynq_core::{TaskState, UnknownState};
    }
}

/// What most programs need.
pub mod prelude {
    #[cfg(feature = "redis")]
    pub use crate::redis::RedisConnectionType;
    pub use crate::{
        AsynqSystem,
        client::{Client, TaskContextExt as _},
        config::ServerConfig,
        error::{Error, Result},
        extract::State,
        memory::MemoryStore,
        serve_mux::ServeMux,
        server::{Handler, Server, ServerBuilder},
        task::{IntoTask, Task, TaskContext, TaskInfo, TaskOptions},
    };
    #[cfg(feature = "json")]
    pub use crate::{TaskPayload, extract::Json};
    #[cfg(feature = "macros")]
    pub use crate::{register_async_handlers, register_handlers, task_handler, task_handler_async};
}

/// The public error and the enums of each boundary.
pub mod error {
    pub use asynq_core::error::{
        BoxError, BrokerError, ConfigError, ConfigFault, Directed, Directive, EnqueueError, Error, ErrorKind,
        NameError, NameFault, Outage, PoisonKind, Result, SettleError, TaskError,
    };
}

/// Cron specs, which say when a periodic task is due.
///
/// ```
/// use asynq::cron::{CronSpec, Tz};
/// use chrono::TimeZone as _;
///
/// let spec = CronSpec::parse("CRON_TZ=Europe/Berlin 0 9 * * mon")?;
/// let from = Tz::UTC.with_ymd_and_hms(2024, 3, 25, 12, 0, 0).unwrap();
/// // Summer time begins in between.
/// assert_eq!(spec.next_after(&from).unwrap().to_rfc3339(), "2024-04-01T07:00:00+00:00");
/// # Ok::<(), asynq::cron::CronError>(())
/// ```
pub mod cron {
    pub use asynq_core::cron::{CronError, CronField, CronSpec, DurationFault, FieldFault, Tz};
}

/// Settings of servers and systems.
pub mod config {
    pub use asynq_core::config::{
        ClientConfig, ClientSettings, MAX_CONCURRENCY, MAX_PRIORITY, ServerConfig, Settings, UnknownTask,
    };
}

/// The seam to a task's storage, for those who make one of their own or look into it.
pub mod broker {
    pub use asynq_core::{
        TaskMessage,
        broker::*,
        periodic::{EntryKey, TickMark, TickOutcome},
        tree::ServerIdentity,
    };

    /// The Redis storage.
    #[cfg(feature = "redis")]
    pub mod redis_broker {
        pub use asynq_redis::RedisBroker;
    }
}

/// Connections to Redis.
#[cfg(feature = "redis")]
pub mod redis {
    pub use asynq_redis::RedisConnectionType;
}

/// The embedded broker: no server, same transitions; for development, tests and single binaries.
pub mod memory {
    pub use asynq_memory::{MemoryBroker, MemoryStore};
}

/// The examples of the README, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;

/// The examples of the Chinese README, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.zh-CN.md")]
pub struct ReadmeZhCnDoctests;

/// The examples of the guide to production, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/production.md")]
pub struct ProductionDoctests;

/// The examples of the guide to periodic tasks, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/periodic-tasks.md")]
pub struct PeriodicTasksDoctests;
