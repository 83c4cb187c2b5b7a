//! The content of the storage, with types. Each structure names the Redis keys that it stands for.

mod counters;
mod data;
mod locks;
mod plant;
mod published;
mod queue;
mod render;
mod signals;
mod statistics;
mod task;
mod ticks;
mod zset;

pub(crate) use counters::{Counters, is_counter};
pub(crate) use data::{Data, Subscriber};
pub(crate) use locks::Locks;
pub(crate) use published::Published;
pub(crate) use queue::{Delay, End, Quarantined, Queue, is_uuid};
pub(crate) use signals::{Signals, Waker};
pub(crate) use statistics::Statistics;
pub(crate) use task::{StateField, TaskHash, number};
pub(crate) use ticks::{PREFIX as TICK_PREFIX, Ticks};
pub(crate) use zset::ZSet;
