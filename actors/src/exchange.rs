//! One exchange with the storage, as a task that belongs to the in-flight table.
//!
//! No actor's state owns a call in flight (SAFETY rule 1): whoever dies, the call goes on here,
//! enters what it took into the table, adopts what a lost answer left behind, and only then lets
//! its outcomes be offered again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, QueueName, SettleError, TaskId,
    broker::{CallRecord, Exchanged, MAX_BATCH, RECOVER_GRACE, Settlement, Want},
};
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    broker::BrokerHandle,
    distrust::report,
    processor::Nudge,
    supervisor::Backoff,
    table::{Claim, Report, Table},
};

/// The waits between attempts at a storage that fails.
pub(crate) const RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    most: Duration::from_secs(1),
};
/// When to look again for the effect of a lost call that cannot be ended (SAFETY rule 1).
const ADOPT_AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(25)];

/// What an exchange needs; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) table: Arc<Table>,
    pub(crate) broker: BrokerHandle,
    pub(crate) nudge: Nudge,
}

/// An exchange on its way. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Sent(oneshot::Receiver<()>);

impl Sent {
    /// Waits for its end; whether the storage answered all of it.
    pub(crate) async fn answered(self) -> bool {
        self.0.await.is_ok()
    }
}

/// Ends the call, however it ends; claims that were not answered can be offered again.
struct CallGuard {
    exchange: Exchange,
    call: u64,
    items: Vec<Settlement>,
    report: Report,
    told: Option<oneshot::Sender<()>>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.exchange.table.unclaim(self.call, &self.items);
        if let Some(told) = self.told.take_if(|_| !self.report.failed) {
            let _ = told.send(());
        }
        self.exchange.table.call_ended(std::mem::take(&mut self.report));
        self.exchange.nudge.nudge();
    }
}

/// One queue's part of a call without answer: what it may have taken is to be found, and its
/// outcomes wait for that.
struct Lost {
    exchange: Exchange,
    call: u64,
    record: CallRecord,
    queue: QueueName,
    items: Vec<Settlement>,
    answers: Vec<Result<(), SettleError>>,
    permits: Option<OwnedSemaphorePermit>,
    /// What was entered already: a later look must not bring back what has ended meanwhile.
    entered: HashSet<TaskId>,
    /// Whether the end of it was told to the table.
    over: bool,
}

/// A lost call may take tasks yet; however the look-out for them ends, the table hears of it.
struct Lookout(Arc<Table>);

impl Lookout {
    fn new(table: &Arc<Table>) -> Self {
        table.lookout_began();
        Self(Arc::clone(table))
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.0.lookout_ended();
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        self.end();
    }
}

impl Exchange {
    /// Sends one exchange. Returns at once; the end is told to the table, then to the processor.
    /// Nothing is taken when fetching has been stopped meanwhile.
    pub(crate) fn spawn(&self, claim: Claim, wants: Vec<Want>, permits: Option<OwnedSemaphorePermit>) -> Sent {
        let may_take = self.table.call_began();
        let (wants, permits) = if may_take { (wants, permits) } else { (Vec::new(), None) };
        let Claim { call, items } = claim;
        let (told, sent) = oneshot::channel();
        let guard = CallGuard {
            exchange: self.clone(),
            call,
            items,
            // Until there is an answer.
            report: Report {
                failed: true,
                ..Report::default()
            },
            told: Some(told),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the call belongs to the in-flight table: its guard reports"
        )]
        tokio::spawn(run(guard, wants, permits));
        Sent(sent)
    }
}

async fn run(mut guard: CallGuard, wants: Vec<Want>, mut permits: Option<OwnedSemaphorePermit>) {
    if guard.items.is_empty() && wants.is_empty() {
        guard.report.failed = false;
        return;
    }
    let exchange = guard.exchange.clone();
    let storage = match exchange.broker.storage().await {
        Ok(storage) => storage,
        Err(error) => {
            tracing::debug!(error = %report(&error), "no storage for an exchange");
            return;
        }
    };
    let record = storage.begin();
    let Exchanged {
        settled,
        leased,
        poisoned,
        exhausted,
        failed,
    } = storage.exchange(&record, guard.items.clone(), wants.clone()).await;
    for poison in &poisoned {
        tracing::error!(queue = %poison.queue, task = %poison.id, kind = %poison.kind, "damaged task put aside");
    }
    for (queue, error) in &failed {
        tracing::warn!(%queue, error = %report(error), "exchange failed");
    }
    guard.report.leased = leased.len();
    guard.report.exhausted = exhausted;
    guard.report.refused = failed.iter().map(|(queue, _)| queue.clone()).collect();
    let concerned = guard.items.iter().map(|item| &item.lease.queue);
    let mut concerned = concerned.chain(wants.iter().map(|want| &want.queue));
    guard.report.failed = concerned.all(|queue| guard.report.refused.contains(queue));
    let unsettled = settled.iter().any(|s| matches!(s, Err(SettleError::Broker(_))));
    if unsettled || !failed.is_empty() {
        guard.told = None;
    }

    // One for each queue: a storage may have needed several calls for it.
    let mut unsure: Vec<&QueueName> = Vec::new();
    for (queue, error) in &failed {
        if error.is_ambiguous() && !unsure.contains(&queue) {
            unsure.push(queue);
        }
    }
    let mut lost: Vec<Lost> = unsure
        .into_iter()
        .filter_map(|queue| {
            let want = wants.iter().find(|want| want.queue == *queue)?;
            let most = usize::try_from(want.max).unwrap_or(usize::MAX);
            exchange.table.adoption_began();
            Some(Lost {
                exchange: exchange.clone(),
                call: guard.call,
                record: record.clone(),
                queue: queue.clone(),
                items: Vec::new(),
                answers: Vec::new(),
                permits: split(&mut permits, most),
                entered: HashSet::new(),
                over: false,
            })
        })
        .collect();
    if !leased.is_empty() {
        for task in &leased {
            if let Some(lost) = lost.iter_mut().find(|lost| lost.queue == task.lease.queue) {
                lost.entered.insert(task.lease.id.clone());
            }
        }
        let mine = split(&mut permits, leased.len());
        exchange.table.insert(leased, mine);
    }
    drop(permits);
    if lost.is_empty() {
        exchange.table.settled(guard.call, &guard.items, settled);
        return;
    }
    // Outcomes of the other queues are settled; those of the lost ones wait for the adoption.
    let (mut items, mut answers) = (Vec::new(), Vec::new());
    for (item, answer) in std::mem::take(&mut guard.items).into_iter().zip(settled) {
        match lost.iter_mut().find(|lost| lost.queue == item.lease.queue) {
            Some(lost) => {
                lost.items.push(item);
                lost.answers.push(answer);
            }
            None => {
                items.push(item);
                answers.push(answer);
            }
        }
    }
    exchange.table.settled(guard.call, &items, answers);
    // The call has ended; others may go out while what it left behind is looked for.
    drop(guard);
    join_all(lost.into_iter().map(Lost::find)).await;
}

/// As many permits as there are, at most `most`.
fn split(permits: &mut Option<OwnedSemaphorePermit>, most: usize) -> Option<OwnedSemaphorePermit> {
    permits.as_mut().and_then(|p| p.split(most.min(p.num_permits())))
}

impl Lost {
    async fn find(mut self) {
        let is_final = self.adopt().await;
        let _lookout = (!is_final).then(|| Lookout::new(&self.exchange.table));
        self.end();
        if is_final {
            return;
        }
        // The lost call may still run. Its claims are answered and its slots free: only a late
        // take has to be found.
        for wait in ADOPT_AGAIN {
            tokio::time::sleep(wait).await;
            self.adopt().await;
            let table = &self.exchange.table;
            if table.is_closing() {
                table.give_back_ready();
                let claim = table.claim_ended(MAX_BATCH as usize);
                if !claim.items.is_empty() {
                    self.exchange.spawn(claim, Vec::new(), None);
                }
            }
            self.exchange.nudge.nudge();
        }
    }

    /// Its outcomes may be offered again, its slots are free.
    fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.permits = None;
        let table = &self.exchange.table;
        table.settled(self.call, &self.items, std::mem::take(&mut self.answers));
        table.adoption_ended();
        self.exchange.nudge.nudge();
    }

    /// Finds what the lost call took; `false` if the call may still run. Tried until the lease of
    /// the call is over and others recover what it took.
    async fn adopt(&mut self) -> bool {
        let Self {
            exchange,
            record,
            queue,
            ..
        } = self;
        let give_up = record.lease_until.instant() + RECOVER_GRACE;
        let mut failures = 0;
        loop {
            let adopted = match exchange.broker.storage().await {
                Ok(storage) => storage
                    .adopt(queue, record)
                    .await
                    .map(|tasks| (tasks, storage.adoption_is_final())),
                Err(error) => Err(error),
            };
            match adopted {
                Ok((tasks, is_final)) => {
                    tracing::info!(%queue, tasks = tasks.len(), "adopted what a lost call had taken");
                    let (fresh, known) = tasks
                        .into_iter()
                        .partition::<Vec<_>, _>(|task| self.entered.insert(task.lease.id.clone()));
                    let mine = split(&mut self.permits, fresh.len());
                    exchange.table.insert(fresh, mine);
                    exchange.table.extended_by_adoption(&known);
                    return is_final;
                }
                // The system has ended; other servers recover what was taken.
                Err(BrokerError::Closed) => return true,
                Err(error) if exchange.table.now() >= give_up => {
                    tracing::error!(%queue, error = %report(&error), "gave up adopting what a lost call had taken");
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%queue, error = %report(&error), "adoption failed, trying on");
                    tokio::time::sleep(RETRY.delay(failures)).await;
                    failures += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use asynq_core::{Clock, Connector as _, Entropy, Env, Task, TaskOptions, compose::compose};
    use asynq_memory::MemoryStore;
    use futures::FutureExt as _;

    use super::*;
    use crate::{broker::Lending, table::Counts};

    const SLOTS: usize = 4;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_about_to_begin_takes_nothing_once_fetching_is_stopped() {
        let env = Env {
            clock: Clock::tokio(),
            entropy: Entropy::seeded(3),
        };
        let storage = MemoryStore::new().connect(env.clone()).await.unwrap();
        let task = compose(&Task::new("t", b"").unwrap(), &TaskOptions::new(), &env).unwrap();
        storage.enqueue(vec![task]).await.remove(0).unwrap();
        let lending = Lending::new();
        lending.lend(Some(storage));
        let exchange = Exchange {
            table: Arc::new(Table::new(SLOTS, env.clock)),
            broker: lending.handle(),
            nudge: Nudge::new(),
        };
        let table = &exchange.table;
        let take = |permits| {
            let queue = QueueName::default();
            exchange.spawn(Claim::default(), vec![Want { queue, max: 1 }], permits)
        };
        // The processor has looked, and then comes a drain.
        let permits = table.try_slots(1);
        table.set_fetching(false);
        assert!(table.idle().now_or_never().is_some(), "the drain is over");
        assert!(take(permits).answered().await);
        assert_eq!((table.counts(), table.free_slots()), (Counts::default(), SLOTS));
        table.set_fetching(true);
        assert!(take(table.try_slots(1)).answered().await);
        assert_eq!(table.counts().leased, 1);
    }
}
