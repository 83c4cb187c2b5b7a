//! The operations, one file for each topic. Each renders the arguments of its script and reads the
//! answer; the script itself is documented in its `.lua` file.

pub(crate) mod adopt;
pub(crate) mod archive_task;
pub(crate) mod audit;
pub(crate) mod batch;
pub(crate) mod bulk;
pub(crate) mod cancel;
pub(crate) mod cluster_nodes;
pub(crate) mod delete_queue;
pub(crate) mod delete_task;
pub(crate) mod enqueue;
pub(crate) mod exchange;
pub(crate) mod facts;
pub(crate) mod forward;
pub(crate) mod group_search;
pub(crate) mod groups;
pub(crate) mod heal;
pub(crate) mod inspect;
pub(crate) mod janitor;
pub(crate) mod lease;
pub(crate) mod list_search;
pub(crate) mod quarantine;
pub(crate) mod recover;
pub(crate) mod repair;
pub(crate) mod result;
pub(crate) mod run_task;
pub(crate) mod scan;
pub(crate) mod scheduler_state;
pub(crate) mod server_state;
pub(crate) mod settle;
pub(crate) mod statistics;
pub(crate) mod ticks;
pub(crate) mod trail;
pub(crate) mod tree;
pub(crate) mod update;
pub(crate) mod watch;
