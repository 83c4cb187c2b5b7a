//! The conformance suite for any [`Storage`](asynq_core::Storage): one case for each rule, named
//! after it.
//!
//! The rules are those of Go asynq (`docs/wire-format/transitions.md`), with the repairs of `differences.md` beside it,
//! and those of `docs/rules.md`. A storage passes when all cases do. A crate runs them from its `tests/`:
//!
//! ```ignore
//! asynq_testing::conformance!(MyHarness);
//! ```

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed case")]

mod backend;
mod cases;
mod cluster;
mod fixture;
mod kit;
mod values;

mod any_name;
mod archive;
mod archive_task;
mod audit;
mod bulk;
mod cancel_task;
mod cancellation;
mod delete_queue;
mod delete_task;
mod enqueue;
mod exact;
mod exchange;
mod fence;
mod findings;
mod forward;
mod groups;
mod heal;
mod janitor;
mod leases;
mod progress;
mod queues;
mod recover;
mod repair;
mod results;
mod run_task;
mod runs;
mod scan;
mod schedule;
mod scheduler_state;
mod server_state;
mod settle;
mod statistics;
mod tasks;
mod ticks;
mod trail;
mod trees;
mod unique;
mod update;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::time::timeout;

pub use backend::{RedisBackend, RedisHarness};
pub use cluster::{ClusterHarness, ClusterPool};
pub use fixture::{Backend, Fixture, Q, Raw, audit};

/// Longest time that a case may take. Only a storage that hangs takes so long.
const CASE_LIMIT: Duration = Duration::from_secs(120);

/// Opens a fresh storage for each case.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A storage that holds nothing yet.
    async fn open(&self) -> Fixture;
}

/// One rule.
#[derive(Clone, Copy)]
pub struct Case {
    /// `topic::rule`.
    pub name: &'static str,
    run: for<'f> fn(&'f Fixture) -> BoxFuture<'f, ()>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! table {
    ([] $($topic:ident { $($case:ident)* })*) => {
        /// All cases.
        pub const CASES: &[Case] = &[$($(
            Case { name: concat!(stringify!($topic), "::", stringify!($case)), run: |fixture| Box::pin($topic::$case(fixture)) },
        )*)*];
    };
}
cases::conformance_cases! { table [] }

/// Runs one case by its name and then checks the invariants.
///
/// # Panics
/// If the rule does not hold, or there is no such case.
pub async fn run(harness: &dyn Harness, name: &str) {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no case {name}"));
    let fixture = harness.open().await;
    if timeout(CASE_LIMIT, (case.run)(&fixture)).await.is_err() {
        panic!("{name} takes longer than {CASE_LIMIT:?}");
    }
    fixture.finish().await;
}

/// Makes a test of each case: `asynq_testing::conformance!(harness)`, where `harness` is an
/// expression of a [`Harness`]; it is evaluated anew for each case. The
/// crate needs `tokio` with its test macro.
#[macro_export]
macro_rules! conformance {
    ($harness:expr) => {
        $crate::__conformance_cases! { $crate::__conformance_tests [$harness] }
    };
}

/// Used by [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$harness:expr] $($topic:ident { $($case:ident)* })*) => {$(
        mod $topic {
            #[allow(unused_imports, reason = "the harness may be an expression without names of its own")]
            use super::*;

            $(
                #[tokio::test]
                async fn $case() {
                    $crate::conformance::run(&$harness, concat!(stringify!($topic), "::", stringify!($case))).await;
                }
            )*
        }
    )*};
}
