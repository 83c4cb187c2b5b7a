//! The supervised actor runtime of Asynq for Rust.
//!
//! Enter at [`AsynqSystem`]. This crate knows storage only through the traits of `asynq-core`;
//! it never knows Redis.

/// Makes types messages of actors. With ractor's cluster mode each needs its own impl; without it
/// every type is a message.
macro_rules! message {
    ($($message:ty),+) => {
        $(
            #[cfg(feature = "ractor-cluster")]
            impl ractor::Message for $message {}
        )+
    };
}
pub(crate) use message;

mod aggregator;
mod broker;
mod chore;
mod client;
mod distrust;
mod ending;
mod exchange;
mod forwarder;
mod fuse;
mod handler_actor;
mod healthchecker;
mod heartbeater;
mod janitor;
mod processor;
mod queues;
mod recoverer;
mod roads;
mod rounds;
mod router;
mod run;
mod scheduler;
mod slot;
mod subscriber;
pub mod supervisor;
mod syncer;
mod system;
mod table;
mod timer;
mod tree;
mod watchdog;
mod watching;
mod wind_down;

pub use aggregator::{AggregateGroup, AggregatorActor, AggregatorActorError};
pub use broker::BrokerHandle;
pub use client::{Client, EnqueueMsg, TaskContextExt, Waited};
pub use fuse::Crash;
pub use handler_actor::{
    ActorHandler, HandleTask, HandlerActorSpec, MAX_INSTANCE_CONCURRENCY, MAX_INSTANCES, TaskReply,
};
pub use scheduler::{EntryId, SchedulerConfig, SchedulerHandle};
pub use slot::Slot;
pub use system::{AsynqSystem, AsynqSystemBuilder, Exit};
pub use tree::{ActorState, Tree, TreeEvent, TreeNode};
