//! The teardown after any end of the root. No actor is left to do it, so a task that belongs to no actor does it.
//!
//! An actor of the application that ends kills the system below it, and the killed actors cannot finish their work.
//! The in-flight table and the storage outlive the actors. The teardown cancels running tasks and gives them back,
//! writes outcomes, closes the storage, and then reports the end.

use std::{sync::Arc, time::Duration};

use ractor::{ActorCell, concurrency::JoinHandle};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::exit::Exit;
use crate::{
    broker::Lending,
    client::ClientHandle,
    in_flight::{exchange::Exchange, table::CancelReason, wind_down::WindDown},
    statistics::Statistics,
    supervision::{
        shutdown_budget::{CLOSE, GRACE, SETTLE, ShutdownBudget},
        supervisor::ExitCell,
    },
    system::watchdog::Watchdog,
};

/// Time beyond its budget after which the root is killed.
const OVERTIME: Duration = Duration::from_secs(1);
/// Time for which runs may continue at a shutdown when no actor extends their leases any more.
const UNATTENDED: Duration = Duration::from_secs(10);

/// The state that outlives the actors of a system.
pub(super) struct Teardown {
    pub(super) root: ActorCell,
    pub(super) ending: ShutdownBudget,
    pub(super) exchange: Exchange,
    pub(super) client: ClientHandle,
    pub(super) lending: Lending,
    pub(super) statistics: Option<Arc<Statistics>>,
    pub(super) exit: ExitCell,
    /// Watches for as long as something may run.
    pub(super) watchdog: Option<Watchdog>,
    /// `true` if it took tasks.
    pub(super) takes: bool,
}

impl Teardown {
    /// Waits for the end of the root, does the remaining work, and reports the end.
    pub(super) async fn act(self, root: JoinHandle<()>, ended: watch::Sender<Option<Exit>>) {
        tokio::pin!(root);
        tokio::select! {
            _ = &mut root => {}
            () = self.ending.overdue(OVERTIME) => {
                tracing::error!("the system did not end in time, killing it");
                self.root.kill();
                let _ = timeout(OVERTIME, root).await;
            }
        }
        let exit = match self.exit.get() {
            Some(Ok(())) => Exit::Stopped,
            Some(Err(error)) => Exit::Failed(error.clone()),
            None => Exit::Killed,
        };
        self.lending.leave();
        let table = Arc::clone(&self.exchange.table);
        table.set_fetching(false);
        // Its callers hear of the end at once.
        self.client.close();
        if !self.ending.is_wound_down() {
            self.wind_down(exit == Exit::Killed).await;
        }
        // The remaining runs cannot be aborted, and no actor extends their leases any more (rules.md#leases-first).
        table.cancel_running(CancelReason::LeaseLost);
        table.abort_running();
        let now = Instant::now();
        let until = self.ending.until().map_or(now, |until| until.max(now));
        if let Some(statistics) = &self.statistics {
            // What the statistician could not write, or was counted after its end.
            let by = until.max(now + CLOSE).min(now + 2 * CLOSE);
            statistics.write_all(&self.exchange.broker, by).await;
        }
        let now = Instant::now();
        self.lending.close(until.max(now + CLOSE).min(now + 5 * CLOSE)).await;
        drop(self.watchdog);
        if self.takes {
            tracing::info!(?exit, "server ended");
        }
        ended.send_replace(Some(exit));
    }

    /// Does what the processor could not.
    async fn wind_down(&self, killed: bool) {
        let table = &self.exchange.table;
        if table.counts().is_idle() && !table.is_waiting() {
            return;
        }
        let now = Instant::now();
        tracing::warn!(
            running = table.running_count(),
            "the system ended with tasks in flight, giving them back"
        );
        if killed {
            // What a handler meets from now on is not its task's failure.
            table.cancel_running(CancelReason::Shutdown);
        }
        let unattended = now + UNATTENDED;
        let runs_until = || match self.ending.runs_until() {
            Some(until) if !killed => until.min(unattended),
            _ => now,
        };
        let own = runs_until().max(now) + GRACE + SETTLE;
        let until = self.ending.until().map_or(own, |until| own.min(until.max(now)));
        let wind_down = WindDown {
            exchange: &self.exchange,
            ending: &self.ending,
        };
        wind_down.run(runs_until, until).await;
    }
}
