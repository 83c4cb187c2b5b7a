//! The supervised actor runtime of Asynq for Rust.
//!
//! Begin at [`AsynqSystem`]. This crate uses storage only through the traits of `asynq-core`, and depends on no Redis
//! code.

/// Implements ractor's `Message` for types. With ractor's cluster mode each type needs its own impl; without it every
/// type is a message.
macro_rules! message {
    ($($message:ty),+) => {
        $(
            #[cfg(feature = "ractor-cluster")]
            impl ractor::Message for $message {}
        )+
    };
}
pub(crate) use message;

mod broker;
mod client;
mod host;
mod in_flight;
mod maintenance;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;
mod per_queue;
mod statistics;
mod supervision;
mod system;
mod work;

pub use broker::BrokerHandle;
pub use client::{Client, EnqueueMsg, TaskContextExt, Waited};
pub use maintenance::{
    aggregator::{AggregateGroup, AggregatorActor, AggregatorActorError},
    scheduler::{EntryId, SchedulerConfig, SchedulerHandle},
};
pub use supervision::{
    crash::Crash,
    supervised_ref::SupervisedRef,
    supervisor,
    tree::{ActorState, Tree, TreeEvent, TreeNode},
};
pub use system::{AsynqSystem, AsynqSystemBuilder, Exit};
pub use work::handlers::{
    ActorHandler, HandleTask, HandlerActorSpec, MAX_INSTANCE_CONCURRENCY, MAX_INSTANCES, TaskReply,
};
