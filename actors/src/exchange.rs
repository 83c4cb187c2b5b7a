//! One exchange with the storage, as a task that belongs to the in-flight table.
//!
//! No actor's state owns a call in flight (SAFETY rule 1): whoever dies, the call goes on here,
//! enters what it took into the table, adopts what a lost answer left behind, and only then lets
//! its outcomes be offered again.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, QueueName, SettleError,
    broker::{CallRecord, Exchanged, Settlement, Want},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    broker::{BrokerHandle, report},
    processor::Nudge,
    table::{Claim, Report, Table},
};

const FIRST_RETRY: Duration = Duration::from_millis(50);
/// When to look again for the effect of a lost call that cannot be ended (SAFETY rule 1).
const ADOPT_AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(25)];
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What an exchange needs; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) table: Arc<Table>,
    pub(crate) broker: BrokerHandle,
    pub(crate) nudge: Nudge,
}

/// Puts the claims back when the call ends without having told about them.
struct CallGuard {
    exchange: Exchange,
    call: u64,
    items: Vec<Settlement>,
    report: Report,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        // What was answered is no longer claimed by this call, so this concerns the rest only.
        self.exchange.table.unclaim(self.call, &self.items);
        self.exchange.table.call_ended(std::mem::take(&mut self.report));
        self.exchange.nudge.nudge();
    }
}

impl Exchange {
    /// Sends one exchange. Returns at once; the end is told to the table, then to the processor.
    pub(crate) fn spawn(&self, claim: Claim, wants: Vec<Want>, permits: Option<OwnedSemaphorePermit>) {
        self.table.call_began();
        let Claim { call, items } = claim;
        let guard = CallGuard {
            exchange: self.clone(),
            call,
            items,
            report: Report::default(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the call belongs to the in-flight table: its guard reports"
        )]
        tokio::spawn(run(guard, wants, permits));
    }
}

async fn run(mut guard: CallGuard, wants: Vec<Want>, mut permits: Option<OwnedSemaphorePermit>) {
    let exchange = guard.exchange.clone();
    let storage = match exchange.broker.storage().await {
        Ok(storage) => storage,
        Err(error) => {
            guard.report.failed = true;
            tracing::debug!(error = %report(&error), "no storage for an exchange");
            return;
        }
    };
    let call = storage.begin();
    let Exchanged {
        settled,
        leased,
        poisoned,
        exhausted,
        failed,
    } = storage.exchange(&call, guard.items.clone(), wants.clone()).await;
    for poison in &poisoned {
        tracing::error!(queue = %poison.queue, task = %poison.id, kind = %poison.kind, "damaged task put aside");
    }
    guard.report.leased = leased.len();
    guard.report.exhausted = exhausted;
    guard.report.failed = !failed.is_empty() || settled.iter().any(|s| matches!(s, Err(SettleError::Broker(_))));
    if !leased.is_empty() {
        let mine = permits
            .as_mut()
            .and_then(|p| p.split(leased.len().min(p.num_permits())));
        exchange.table.insert(leased, mine);
    }
    let lost: Vec<QueueName> = failed
        .iter()
        .filter(|(queue, error)| error.is_ambiguous() && wants.iter().any(|want| want.queue == *queue))
        .map(|(queue, _)| queue.clone())
        .collect();
    for (queue, error) in &failed {
        tracing::warn!(%queue, error = %report(error), "exchange failed");
    }
    if lost.is_empty() {
        drop(permits);
        exchange.table.settled(guard.call, &guard.items, settled);
        return;
    }
    // Outcomes of the other queues are settled; those of the lost ones wait for the adoption.
    let (mut known_items, mut known, mut waiting_items, mut waiting) = (vec![], vec![], vec![], vec![]);
    for (item, answer) in guard.items.iter().cloned().zip(settled) {
        if lost.contains(&item.lease.queue) {
            waiting_items.push(item);
            waiting.push(answer);
        } else {
            known_items.push(item);
            known.push(answer);
        }
    }
    exchange.table.settled(guard.call, &known_items, known);
    let mut unsure = Vec::new();
    for queue in lost {
        if !adopt(&exchange, &queue, &call, &mut permits).await {
            unsure.push(queue);
        }
    }
    exchange.table.settled(guard.call, &waiting_items, waiting);
    if unsure.is_empty() {
        return;
    }
    // The lost call may still run. Its claims are answered and its slots free: only a late take
    // has to be found.
    drop(permits);
    drop(guard);
    for wait in ADOPT_AGAIN {
        tokio::time::sleep(wait).await;
        for queue in &unsure {
            adopt(&exchange, queue, &call, &mut None).await;
        }
        exchange.nudge.nudge();
    }
}

/// Finds what the lost call took, for as long as it takes; `false` if the call may still run.
async fn adopt(
    exchange: &Exchange,
    queue: &QueueName,
    lost: &CallRecord,
    permits: &mut Option<OwnedSemaphorePermit>,
) -> bool {
    let mut wait = FIRST_RETRY;
    loop {
        let adopted = match exchange.broker.storage().await {
            Ok(storage) => storage
                .adopt(queue, lost)
                .await
                .map(|tasks| (tasks, storage.adoption_is_final())),
            Err(error) => Err(error),
        };
        match adopted {
            Ok((tasks, is_final)) => {
                tracing::info!(%queue, tasks = tasks.len(), "adopted what a lost call had taken");
                let mine = permits.as_mut().and_then(|p| p.split(tasks.len().min(p.num_permits())));
                exchange.table.insert(tasks, mine);
                return is_final;
            }
            // The system has ended; other servers recover what was taken.
            Err(BrokerError::Closed) => return true,
            Err(error) => {
                tracing::debug!(%queue, error = %report(&error), "adoption failed, trying on");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_RETRY);
            }
        }
    }
}
