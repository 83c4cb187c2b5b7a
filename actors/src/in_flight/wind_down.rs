//! The end of service for tasks in flight: they may end by themselves, are then cancelled, aborted, and given back;
//! outcomes are written.
//!
//! The processor does this when it is stopped. Where there is none any longer, because the root of
//! the system was killed, a task does it that belongs to no actor.

use std::time::Duration;

use asynq_core::broker::MAX_BATCH;
use tokio::time::{Instant, timeout_at};

use crate::{
    in_flight::{
        exchange::Exchange,
        table::{CancelReason, Table},
    },
    supervision::shutdown_budget::{GRACE, SETTLE, ShutdownBudget},
};

/// Longest time that aborted handlers may take to end.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

/// Winds down what is in flight.
#[derive(Debug)]
pub(crate) struct WindDown<'w> {
    pub(crate) exchange: &'w Exchange,
    pub(crate) ending: &'w ShutdownBudget,
}

impl WindDown<'_> {
    /// Returns what runs may go on until `runs_until` says, which is asked again when there is news of the
    /// end; cancelled, it may go on for [`GRACE`]; then outcomes are written for [`SETTLE`] at most. It is
    /// over at `until`, whatever is left, and sooner where the system is to end at once.
    pub(crate) async fn run(self, runs_until: impl Fn() -> Instant, until: Instant) {
        let table = &self.exchange.table;
        table.set_closing(true);
        let ending = self.ending;
        if !self.runs_end(|| ending.patience(runs_until().min(until))).await {
            tracing::info!(
                running = table.running_count(),
                "shutdown timeout exceeded, cancelling runs"
            );
            table.cancel_running(CancelReason::Shutdown);
            let grace = (Instant::now() + GRACE).min(until);
            if !self.runs_end(|| ending.patience(grace)).await {
                table.abort_running();
            }
        }
        ending.runs_ended();
        let end = (Instant::now() + SETTLE).min(until);
        let settled_by = || ending.settled_by(end);
        // All of them, so that the last taken is given back first.
        let gone_by = (Instant::now() + ABORT_WITHIN).min(settled_by());
        let _ = timeout_at(gone_by, table.quiet()).await;
        self.settle(settled_by, |table| table.counts().ended == 0 && !table.is_waiting())
            .await;
        let left = table.counts();
        if !left.is_idle() {
            tracing::error!(
                running = left.running,
                unsettled = left.ended,
                "tasks are left active; other servers recover them when their leases have ended"
            );
        }
    }

    /// Settles what ends until nothing runs; `false` when the time is over first.
    async fn runs_end(&self, deadline: impl Fn() -> Instant) -> bool {
        self.settle(deadline, |table| table.running_count() == 0).await
    }

    /// Settles what ends until that is `enough`; `false` when the time is over first.
    async fn settle(&self, deadline: impl Fn() -> Instant, enough: impl Fn(&Table) -> bool) -> bool {
        let Exchange { table, roads, .. } = self.exchange;
        loop {
            let (changed, news) = (table.changed(), self.ending.changed());
            tokio::pin!(changed, news);
            changed.as_mut().enable();
            news.as_mut().enable();
            // Nothing is taken any longer, so they tell nothing.
            drop(table.reports());
            table.give_back_ready();
            // Outcomes whose write failed are offered again: there is little time left. Each queue for
            // itself, so that one without an answer keeps no other from being written.
            let mut opens: Option<Instant> = None;
            for queue in table.stuck_queues(true) {
                let way = roads.way(&queue);
                opens = opens.into_iter().chain(way.closed).min();
                if way.calls == 0 && way.closed.is_none() {
                    let claim = table.claim_stuck_of(&queue, MAX_BATCH as usize, true);
                    self.exchange.spawn(&queue, claim, 0, None);
                }
            }
            if enough(table) {
                return true;
            }
            let deadline = deadline();
            if Instant::now() >= deadline {
                return false;
            }
            let wake = opens.map_or(deadline, |opens| opens.min(deadline));
            let _ = timeout_at(wake, async {
                tokio::select! {
                    () = changed => {}
                    () = news => {}
                }
            })
            .await;
        }
    }
}
