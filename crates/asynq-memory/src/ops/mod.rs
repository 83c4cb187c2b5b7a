//! The transitions, one file for each family. Each is a function over the typed state and a time;
//! none reads a clock, waits, or fails half-way.

pub(crate) mod archive_task;
pub(crate) mod audit;
pub(crate) mod bulk;
pub(crate) mod cancel;
pub(crate) mod delete_queue;
pub(crate) mod delete_task;
pub(crate) mod enqueue;
pub(crate) mod exchange;
pub(crate) mod facts;
pub(crate) mod forward;
pub(crate) mod groups;
pub(crate) mod heal;
pub(crate) mod inspect;
pub(crate) mod janitor;
pub(crate) mod lease;
pub(crate) mod publish;
pub(crate) mod recover;
pub(crate) mod repair;
pub(crate) mod run_task;
pub(crate) mod scan;
pub(crate) mod settle;
pub(crate) mod statistics;
pub(crate) mod ticks;
pub(crate) mod update;
pub(crate) mod watch;
