//! One exchange with the storage for one queue, as a task that belongs to the in-flight table.
//!
//! No actor's state owns a call in flight (rules.md#calls-outlive-actors): when an actor dies, the call goes on here,
//! enters what it took into the table, adopts what a lost answer left behind, and only then lets its outcomes be
//! offered again. What it holds that other queues could use, its slots, comes free when it is late, and at the first
//! failure of an adoption.

use std::{collections::HashSet, sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, QueueName, SettleError, TaskId,
    broker::{CallRecord, Exchanged, LeasedTask, MAX_BATCH, RECOVER_GRACE, Settlement, Want},
    error::text::report,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use crate::{
    broker::BrokerHandle,
    in_flight::{
        nudge::Nudge,
        starter::Starter,
        table::{Claim, Permits, Report, Table},
    },
    metrics::storage_failed,
    per_queue::health::{Ended, QueueHealth, RETRY, unless_late},
};

/// Delays after which the effect of a lost call that cannot be ended is looked for again
/// (rules.md#calls-outlive-actors).
const ADOPT_AGAIN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(25)];

/// The means of an exchange; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) table: Arc<Table>,
    pub(crate) roads: Arc<QueueHealth>,
    pub(crate) broker: BrokerHandle,
    pub(crate) nudge: Nudge,
    pub(crate) starter: Starter,
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
    queue: QueueName,
    call: u64,
    items: Vec<Settlement>,
    report: Report,
    began: Instant,
    /// Result of the call; a failure until there is an answer.
    ended: Ended,
    told: Option<oneshot::Sender<()>>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let Exchange {
            table, roads, nudge, ..
        } = &self.exchange;
        table.unclaim(self.call, &self.items);
        if let Some(told) = self.told.take_if(|_| self.ended != Ended::Failed) {
            let _ = told.send(());
        }
        roads.call_ended(&self.queue, self.ended, self.began.elapsed());
        table.call_ended(std::mem::take(&mut self.report));
        nudge.nudge();
    }
}

/// A call without answer: what it may have taken is to be found, and its outcomes wait for that.
struct Lost {
    exchange: Exchange,
    call: u64,
    record: CallRecord,
    queue: QueueName,
    items: Vec<Settlement>,
    answers: Vec<Result<(), SettleError>>,
    permits: Permits,
    /// Tasks that were entered already: a later look must not bring back a task that has ended meanwhile.
    entered: HashSet<TaskId>,
    /// `true` once the table was told of its end.
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
    /// Starts what waits to be started, unless the end of service has begun.
    fn start_ready(&self) {
        if let Some(starter) = self.starter.get() {
            let starts = self.table.start_ready();
            if !starts.is_empty() {
                starter.start_runs(starts);
            }
        }
    }

    /// Sends one exchange with a queue: outcomes of its tasks, and the wish for more of them. Returns
    /// at once; the end is told to the table, then to the processor. Nothing is taken when fetching has
    /// been stopped meanwhile.
    pub(crate) fn spawn(
        &self,
        queue: &QueueName,
        claim: Claim,
        want: u32,
        slots: Option<OwnedSemaphorePermit>,
    ) -> Sent {
        self.send(queue, claim, want, Permits { slots, ahead: None })
    }

    /// As [`spawn`](Self::spawn), also for tasks that are taken ahead of a slot.
    pub(crate) fn send(&self, queue: &QueueName, claim: Claim, want: u32, permits: Permits) -> Sent {
        let may_take = self.table.call_began();
        self.roads.call_began(queue);
        let (want, permits) = if may_take {
            (want, permits)
        } else {
            (0, Permits::default())
        };
        let Claim { call, items } = claim;
        let (told, sent) = oneshot::channel();
        let guard = CallGuard {
            exchange: self.clone(),
            queue: queue.clone(),
            call,
            items,
            report: Report::default(),
            began: Instant::now(),
            ended: Ended::Failed,
            told: Some(told),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the call belongs to the in-flight table: its guard reports"
        )]
        tokio::spawn(run(guard, want, permits));
        Sent(sent)
    }
}

async fn run(mut guard: CallGuard, want: u32, mut permits: Permits) {
    if guard.items.is_empty() && want == 0 {
        guard.ended = Ended::Unsent;
        return;
    }
    let (exchange, queue) = (guard.exchange.clone(), guard.queue.clone());
    let wants = (want > 0).then(|| Want {
        queue: queue.clone(),
        max: want,
    });
    let call = async {
        let storage = exchange.broker.storage().await?;
        let record = storage.begin();
        let answer = storage.exchange(&record, &guard.items, wants.as_slice()).await;
        Ok::<_, BrokerError>((record, answer))
    };
    let late = || {
        // What it took meanwhile waits for slots when it is told of.
        permits = Permits::default();
        exchange.roads.call_is_late(&queue);
        exchange.nudge.nudge();
    };
    let (record, answer) = match unless_late(call, late).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::debug!(%queue, error = %report(&error), "no storage for an exchange");
            return;
        }
    };
    let Exchanged {
        settled,
        leased,
        poisoned,
        exhausted,
        failed,
    } = answer;
    for poison in &poisoned {
        tracing::error!(queue = %poison.queue, task = %poison.id, kind = %poison.kind, "damaged task put aside");
    }
    for (queue, error) in &failed {
        let error = report(error);
        if exchange.roads.is_news(queue) {
            tracing::warn!(%queue, %error, "exchange failed, retrying");
        } else {
            tracing::debug!(%queue, %error, "exchange failed again");
        }
    }
    for (_, error) in &failed {
        storage_failed(error);
    }
    if failed.is_empty() {
        let meters = exchange.broker.meters();
        meters.exchanged(queue.as_str(), settled.len(), leased.len());
    }
    guard.report.leased = leased.len();
    guard.report.exhausted = exhausted;
    guard.ended = if failed.is_empty() {
        Ended::Answered
    } else {
        Ended::Failed
    };
    if settled.iter().any(|s| matches!(s, Err(SettleError::Broker(_)))) {
        guard.told = None;
    }

    let is_lost = want > 0 && failed.iter().any(|(_, error)| error.is_ambiguous());
    let lost = is_lost.then(|| {
        exchange.table.adoption_began();
        exchange.roads.adoption_began(&queue);
        Lost {
            exchange: exchange.clone(),
            call: guard.call,
            record,
            queue: queue.clone(),
            items: Vec::new(),
            answers: Vec::new(),
            permits: Permits::default(),
            entered: leased.iter().map(|task| task.lease.id.clone()).collect(),
            over: false,
        }
    });
    enter(&exchange.table, leased, &mut permits);
    exchange.start_ready();
    let items = std::mem::take(&mut guard.items);
    let Some(mut lost) = lost else {
        exchange.table.settled(guard.call, &items, settled);
        return;
    };
    lost.permits = permits;
    // What has an answer is settled; the rest waits for the adoption.
    let (mut known, mut answers) = (Vec::new(), Vec::new());
    for (item, answer) in items.into_iter().zip(settled) {
        if matches!(answer, Err(SettleError::Broker(_))) {
            lost.items.push(item);
            lost.answers.push(answer);
        } else {
            known.push(item);
            answers.push(answer);
        }
    }
    exchange.table.settled(guard.call, &known, answers);
    // The call has ended; others may go out while what it left behind is looked for.
    drop(guard);
    lost.find().await;
}

/// Enters tasks, each with one of the permits as far as there are any.
fn enter(table: &Table, tasks: Vec<LeasedTask>, permits: &mut Permits) {
    if tasks.is_empty() {
        return;
    }
    let mine = permits.split(tasks.len());
    table.enter(tasks, mine);
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
                let claim = table.claim_ended_of(&self.queue, MAX_BATCH as usize);
                if !claim.items.is_empty() {
                    self.exchange.spawn(&self.queue, claim, 0, None);
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
        self.permits = Permits::default();
        let Exchange {
            table, roads, nudge, ..
        } = &self.exchange;
        table.settled(self.call, &self.items, std::mem::take(&mut self.answers));
        roads.adoption_ended(&self.queue);
        table.adoption_ended();
        nudge.nudge();
    }

    /// Its slots are free; what is found later waits for others.
    fn let_go(permits: &mut Permits, nudge: &Nudge) {
        if std::mem::take(permits).count() > 0 {
            nudge.nudge();
        }
    }

    /// Finds what the lost call took; `false` if the call may still run. Tried until the lease of
    /// the call is over and others recover what it took.
    async fn adopt(&mut self) -> bool {
        let Self {
            exchange,
            record,
            queue,
            permits,
            ..
        } = self;
        let give_up = record.lease_until.instant() + RECOVER_GRACE;
        let mut failures = 0;
        loop {
            let attempt = async {
                let storage = exchange.broker.storage().await?;
                let tasks = storage.adopt(queue, record).await?;
                Ok((tasks, storage.adoption_is_final()))
            };
            match unless_late(attempt, || Self::let_go(permits, &exchange.nudge)).await {
                Ok((tasks, is_final)) => {
                    tracing::info!(%queue, tasks = tasks.len(), "adopted the tasks of a lost call");
                    let (fresh, known) = tasks
                        .into_iter()
                        .partition::<Vec<_>, _>(|task| self.entered.insert(task.lease.id.clone()));
                    enter(&exchange.table, fresh, permits);
                    exchange.table.extended_by_adoption(&known);
                    return is_final;
                }
                // The system has ended; other servers recover what was taken.
                Err(BrokerError::Closed) => return true,
                Err(error) if exchange.table.now() >= give_up => {
                    storage_failed(&error);
                    tracing::error!(%queue, error = %report(&error), "gave up adopting the tasks of a lost call");
                    return true;
                }
                Err(error) => {
                    storage_failed(&error);
                    tracing::debug!(%queue, error = %report(&error), "adoption failed, retrying");
                    Self::let_go(permits, &exchange.nudge);
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
    use crate::{
        broker::Lending,
        in_flight::{
            starter::StartRuns,
            table::{Counts, Start},
        },
    };

    const SLOTS: usize = 4;

    async fn exchange_with_a_task() -> Exchange {
        let env = Env {
            clock: Clock::tokio(),
            entropy: Entropy::seeded(3),
        };
        let storage = MemoryStore::new().connect(env.clone()).await.unwrap();
        let task = compose(&Task::new("t", b"").unwrap(), &TaskOptions::new(), &env).unwrap();
        storage.enqueue(&[Arc::new(task)]).await.remove(0).unwrap();
        let lending = Lending::new();
        lending.lend(Some(storage));
        Exchange {
            table: Arc::new(Table::new(SLOTS, env.clock)),
            roads: Arc::new(QueueHealth::new(env.entropy)),
            broker: lending.handle(),
            nudge: Nudge::new(),
            starter: Starter::default(),
        }
    }

    #[derive(Default)]
    struct Started(std::sync::Mutex<Vec<Start>>);

    impl StartRuns for Started {
        fn start_runs(self: Arc<Self>, starts: Vec<Start>) {
            self.0.lock().unwrap().extend(starts);
        }
    }

    /// There is no processor here.
    #[tokio::test(start_paused = true)]
    async fn what_an_answer_brings_is_started_by_the_call_itself() {
        let exchange = exchange_with_a_task().await;
        let started = Arc::new(Started::default());
        exchange.starter.is(&started);
        let table = &exchange.table;
        let take = || exchange.spawn(&QueueName::default(), Claim::default(), 1, table.try_slots(1));
        assert!(take().answered().await);
        assert_eq!(started.0.lock().unwrap().len(), 1);
        let counts = Counts {
            running: 1,
            ..Counts::default()
        };
        assert_eq!((table.counts(), table.free_slots()), (counts, SLOTS - 1));
    }

    /// The call had been sent before the end of service began.
    #[tokio::test(start_paused = true)]
    async fn what_an_answer_brings_after_the_end_of_service_began_is_not_started() {
        let exchange = exchange_with_a_task().await;
        let started = Arc::new(Started::default());
        exchange.starter.is(&started);
        let table = &exchange.table;
        let sent = exchange.spawn(&QueueName::default(), Claim::default(), 1, table.try_slots(1));
        table.set_closing(true);
        assert!(sent.answered().await);
        assert!(started.0.lock().unwrap().is_empty());
        let counts = |leased, ended| Counts {
            leased,
            ended,
            ..Counts::default()
        };
        assert_eq!(table.counts(), counts(1, 0));
        table.give_back_ready();
        assert_eq!(table.counts(), counts(0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_about_to_begin_takes_nothing_once_fetching_is_stopped() {
        let exchange = exchange_with_a_task().await;
        let table = &exchange.table;
        let take = |permits| exchange.spawn(&QueueName::default(), Claim::default(), 1, permits);
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
