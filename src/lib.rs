//! Asynq for Rust: a distributed task queue on Redis, run by supervised actors, wire-compatible
//! with Go hibiken/asynq.
//!
//! A [`Client`] enqueues tasks and a [`Server`] runs them, in one program or in several. Both use one storage: Redis
//! ([`redis::RedisConnectionType`]), where Go and Rust programs can share queues, or the embedded broker
//! ([`memory::MemoryStore`]), which needs no server.
//!
//! ```
//! use asynq::{Client, Server, ServerConfig, Task, memory::MemoryStore};
//! use std::time::Duration;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> asynq::Result<()> {
//!     // The embedded broker. On Redis: asynq::redis::RedisConnectionType::single("redis://127.0.0.1:6379")?
//!     let storage = MemoryStore::new();
//!
//!     let mut server = Server::new(storage.clone(), ServerConfig::new().concurrency(4)).await?;
//!     // A program that only serves calls `run` instead, which returns after TERM or INT.
//!     server
//!         .start(|task: Task| async move {
//!             println!("{} {:?}", task.get_type(), task.get_payload());
//!             Ok(())
//!         })
//!         .await?;
//!
//!     let client = Client::new(storage).await?;
//!     let mail = client.enqueue(Task::new("email:send", b"42")?).await?;
//!     println!("enqueued {} to {}", mail.id, mail.queue);
//!     client.wait(&mail, Duration::from_secs(10)).await?; // until it has run
//!
//!     client.close().await;
//!     server.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! A [`ServeMux`] gives tasks to handlers by their type, a [`Scheduler`] enqueues periodic tasks, and an
//! [`Inspector`] reads and changes queues and tasks.
//!
//! # Actors
//!
//! A client, a server and a scheduler are each a front end of one runtime, [`AsynqSystem`]: a supervision tree that
//! takes tasks from their queues, runs them, and retries and schedules them. An application built of actors can spawn
//! the system under one of its actors ([`AsynqSystemBuilder::spawn_linked`]) and enqueue by message ([`EnqueueMsg`]).
//! Its handlers can be actors too, which keep state from task to task ([`HandlerActorSpec`]):
//!
//! ```
//! use asynq::{AsynqSystem, HandleTask, HandlerActorSpec, Task, memory::MemoryStore};
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
//!         // `None` if the task was cancelled or ran out of time before this call.
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
//! async fn main() -> asynq::Result<()> {
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
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `redis` | yes | Redis; without this feature, the embedded broker is the only storage |
//! | `json` | yes | payloads and results as JSON, `TaskPayload` |
//! | `macros` | yes | `#[derive(TaskPayload)]`, `#[task_handler]`, `#[task_handler_async]` |
//! | `cluster` | yes | Redis Cluster |
//! | `tls`, `sentinel` | | `rediss://`, Redis Sentinel |
//! | `metrics` | | metrics of clients and servers, for the exporter of the application |
//! | `query` | | queries that find tasks by their fields, errors and payloads |
//! | `otel` | | spans of OpenTelemetry, and trace contexts in the headers of tasks; the guide is `docs/observability.md` |
//! | `tower` | | tower layers around handlers, tower services as handlers |
//! | `testing` | | the test kit, for `[dev-dependencies]` |
//! | `ractor-async-trait`, `ractor-cluster` | | support for applications that build ractor with these features |
//!
//! # Modules
//!
//! | module | contents |
//! | --- | --- |
//! | [`client`], [`server`], [`serve_mux`], [`scheduler`], [`inspector`] | the types named above, and the types that they use |
//! | [`task`] | tasks, their options and states |
//! | [`config`] | settings of clients, servers and systems |
//! | [`error`] | [`Error`], and the errors of each boundary |
//! | [`extract`] | arguments of handlers: payloads, state, headers |
//! | [`aggregator`] | group aggregation: many tasks become one |
//! | [`cron`] | cron specs |
//! | [`redis`], [`memory`] | the storages |
//! | [`info`], [`names`] | the values that inspectors return; the names of queues, tasks and groups |
//! | [`findings`] | what needs attention, and the facts that it is made of |
//! | [`statistics`] | the outcomes and durations of runs, by queue, task type and minute |
//! | [`broker`], [`inspect`] | the interface to a storage, for those who implement one |
//! | [`handler`] | handlers, and the hooks around them |
//! | [`clock`], [`entropy`] | sources of time and randomness, for tests |
//! | [`supervisor`] | supervision in OTP's terms, for actors of your own |
//! | `query`, `testing`, `tower` | queries, the test kit and the bridge to tower, each behind the feature of its name |
//! | [`prelude`] | the names that most programs need |
//!
//! [`base`], [`components`] and `broker::redis_broker` re-export some of these items under the paths that programs in
//! the style of Go asynq use. New programs need none of them.
//!
//! # Spans
//!
//! Every log line, including those of handlers, is inside a [`tracing`](https://docs.rs/tracing) span:
//!
//! - `task`, one for each run of a handler, with `id`, `type` and `queue`. It is enabled at every level.
//! - `actor`, one for each life of an actor of the tree, at level debug, with `path`, such as
//!   `system/work/processor`.

pub mod client;
pub mod inspector;
pub mod scheduler;
pub mod server;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

mod life;
#[cfg(feature = "macros")]
mod macros;

pub use self::{
    client::Client,
    inspector::Inspector,
    scheduler::Scheduler,
    serve_mux::ServeMux,
    server::{Server, ServerBuilder},
};
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
    TaskOptions, TaskState, clock, entropy, extract, findings, go, handler, info, inspect, names, statistics,
};
#[cfg(all(feature = "macros", feature = "json"))]
pub use macros::TaskPayload;
#[cfg(feature = "macros")]
pub use macros::{task_handler, task_handler_async};

/// Tasks, their options and their states.
pub mod task {
    #[cfg(feature = "json")]
    pub use asynq_core::TaskPayload;
    pub use asynq_core::{
        Hold, IntoTask, Progress, Run, RunOutcome, Runs, Task, TaskContext, TaskInfo, TaskOptions, TaskState,
        UnknownState,
        options::{
            DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_RETRY, DEFAULT_TIMEOUT, MAX_DURATION, MAX_MESSAGE_BYTES,
            MAX_RETRIES, MIN_DURATION,
        },
        runs::{MAX_RUN_BYTES, MAX_RUN_ERROR, MAX_RUNS, MAX_RUNS_BYTES},
    };
}

/// Handlers by the type of the task, with middleware around them.
pub mod serve_mux {
    pub use asynq_core::mux::{BadPayload, Middleware, Next, ServeMux};
}

/// Group aggregation: many tasks become one.
pub mod aggregator {
    pub use asynq_actors::{AggregateGroup, AggregatorActor, AggregatorActorError};
    pub use asynq_core::aggregator::{GroupAggregator, GroupAggregatorFunc, MAX_AGGREGATIONS};
}

/// Settings of clients, servers and systems.
pub mod config {
    pub use asynq_core::config::{
        ClientConfig, ClientSettings, MAX_CONCURRENCY, MAX_PREFETCH, MAX_PRIORITY, ServerConfig, Settings, UnknownTask,
    };
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

/// Queries: texts that find tasks by their state, type, error, age and payload. The page of [`Query`](query::Query)
/// describes the language.
///
/// ```
/// use asynq::{Client, Inspector, Task, TaskState, memory::MemoryStore, query::{Query, Verdict}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// let storage = MemoryStore::new();
/// let client = Client::new(storage.clone()).await?;
/// client.enqueue(Task::new("email:send", br#"{"user_id":1002}"#)?).await?;
/// client.enqueue(Task::new("email:send", br#"{"user_id":7}"#)?).await?;
///
/// let query: Query = "type^=email: payload.user_id>1000".parse()?;
/// let tasks = Inspector::connect(storage).await?.list_tasks("default", TaskState::Pending, 1, 100).await?;
/// let now = chrono::Utc::now();
/// let found = tasks.iter().filter(|task| query.evaluate(task, now) == Verdict::Match);
/// assert_eq!(found.count(), 1);
///
/// let refusal = "type^=email: payload.user_id".parse::<Query>().unwrap_err();
/// assert_eq!(refusal.position, 28);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "query")]
pub mod query {
    pub use asynq_query::{MAX_CONDITIONS, MAX_DATA, MAX_DEPTH, MAX_TEXT, Query, QueryError, Scope, Verdict};
}

/// Metrics of clients and servers, through the facade of the crate [`metrics`](https://docs.rs/metrics).
///
/// ```
/// use asynq::metrics::{ALL, RUNS};
///
/// // An exporter is installed here, such as that of the crate metrics-exporter-prometheus.
/// asynq::metrics::describe();
/// let runs = ALL.iter().find(|metric| metric.name == RUNS).unwrap();
/// assert_eq!(runs.labels, ["queue", "type", "outcome"]);
/// ```
#[cfg(feature = "metrics")]
pub mod metrics {
    pub use asynq_actors::metrics::*;
}

/// Redis as a storage.
#[cfg(feature = "redis")]
pub mod redis {
    pub use asynq_redis::{RedisBroker, RedisConnectionType};
}

/// The embedded broker, for development, tests and single programs. It makes the same transitions as Redis without a
/// server.
pub mod memory {
    pub use asynq_memory::{MemoryBroker, MemoryStore};
}

/// The interface to a storage, for programs that implement a storage or read it directly.
pub mod broker {
    pub use asynq_core::{
        TaskMessage,
        broker::*,
        periodic::{EntryKey, TickMark, TickOutcome},
        runs::{letter_of, with_run},
        tree::ServerIdentity,
    };

    /// A Go-shaped path to [`RedisBroker`](crate::redis::RedisBroker).
    #[cfg(feature = "redis")]
    pub mod redis_broker {
        pub use crate::redis::RedisBroker;
    }
}

/// Supervision in OTP's terms, for actors of your own. The system uses the same supervisors.
pub mod supervisor {
    pub use asynq_actors::{SupervisedRef, Tree, supervisor::*};
}

/// A Go-shaped path to [`aggregator`].
pub mod components {
    pub use crate::aggregator;
}

/// A Go-shaped path to [`TaskState`].
pub mod base {
    /// A Go-shaped path to [`TaskState`](crate::TaskState).
    pub mod keys {
        pub use crate::task::{TaskState, UnknownState};
    }
}

/// The names that most programs need.
pub mod prelude {
    #[cfg(feature = "redis")]
    pub use crate::redis::RedisConnectionType;
    pub use crate::{
        AsynqSystem, Client, Error, Handler, IntoTask, Result, ServeMux, Server, ServerBuilder, ServerConfig, Task,
        TaskContext, TaskInfo, TaskOptions, client::TaskContextExt as _, extract::State, memory::MemoryStore,
    };
    #[cfg(feature = "json")]
    pub use crate::{TaskPayload, extract::Json};
    #[cfg(feature = "macros")]
    pub use crate::{register_async_handlers, register_handlers, task_handler, task_handler_async};
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

/// The examples of the guide to operating queues, run as doc tests.
#[cfg(all(doctest, feature = "query"))]
#[doc = include_str!("../docs/operating.md")]
pub struct OperatingDoctests;

/// The examples of the guide to periodic tasks, run as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/periodic-tasks.md")]
pub struct PeriodicTasksDoctests;

/// The examples of the guide to traces and metrics, run as doc tests.
#[cfg(all(doctest, feature = "otel"))]
#[doc = include_str!("../docs/observability.md")]
pub struct ObservabilityDoctests;
