//! The hot path under faults.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{
    Broker, BrokerError, EnqueueError, GroupKey, Progress, QueueName, ServerIdentity, ServerInfo, SettleError, Storage,
    TaskId, TaskInfo, TreeNode, WorkerInfo,
    broker::{
        AggregationSet, CallRecord, Cancellations, EnqueueRequest, Exchanged, Expired, ExpiredPlace, Forwarded,
        GroupLimits, Healed, LeaseRef, LeaseUntil, LeasedTask, Recovery, Settlement, Tick, TickStart, Ticked, Want,
        Watch, WatchKind,
    },
    info::{SchedulerEnqueueEvent, SchedulerEntry},
    periodic::{EntryKey, TickMark},
    statistics::StatisticsPart,
};
use bytes::Bytes;
use futures::future::BoxFuture;

use super::{
    Faults, Op, Verdict, lost,
    parts::{each, failed},
};

/// A storage that fails on demand; see [`Faults`]. What is not told to fail passes through.
pub struct FaultyBroker<B: ?Sized> {
    pub(super) inner: Arc<B>,
    pub(super) faults: Faults,
}

impl<B: ?Sized> FaultyBroker<B> {
    /// Wraps a storage.
    pub fn new(inner: Arc<B>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    /// The storage itself, without faults.
    #[must_use]
    pub fn inner(&self) -> &Arc<B> {
        &self.inner
    }

    /// The control.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl<B: ?Sized> fmt::Debug for FaultyBroker<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBroker")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl<B: ?Sized> FaultyBroker<B> {
    /// Runs a call with a result for each item.
    async fn guard_batch<T, E: From<BrokerError>>(
        &self,
        op: Op,
        count: usize,
        call: impl Future<Output = Vec<Result<T, E>>>,
    ) -> Vec<Result<T, E>> {
        match self.faults.enter(op).await {
            Verdict::Execute => call.await,
            Verdict::Fail(error) => each(count, &error),
            Verdict::LoseReply => {
                drop(call.await);
                each(count, &lost())
            }
            Verdict::HoldReply => {
                let answers = call.await;
                self.faults.hang(op).await;
                answers
            }
            Verdict::Late => each(count, &lost()),
        }
    }
}

impl<B: Storage + ?Sized + 'static> FaultyBroker<B> {
    /// Enqueues what is for queues that refuse nothing.
    async fn enqueue_some(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
        let refusals: Vec<_> = batch
            .iter()
            .map(|item| self.faults.refusal(&item.message.queue))
            .collect();
        let passed = batch.iter().zip(&refusals).filter(|(_, refused)| refused.is_none());
        let passed: Vec<_> = passed.map(|(item, _)| Arc::clone(item)).collect();
        let call = |inner: Arc<B>, items: Vec<_>| -> BoxFuture<'static, _> {
            Box::pin(async move { inner.enqueue(&items).await })
        };
        let answers = self.batch(Op::Enqueue, passed, |item| &item.message.queue, call);
        let mut answers = answers.await.into_iter();
        refusals
            .into_iter()
            .filter_map(|refused| refused.map_or_else(|| answers.next(), |error| Some(Err(error.into()))))
            .collect()
    }
}

#[async_trait]
impl<B: Storage + ?Sized + 'static> Broker for FaultyBroker<B> {
    async fn enqueue(&self, batch: &[Arc<EnqueueRequest>]) -> Vec<Result<TaskInfo, EnqueueError>> {
        let count = batch.len();
        match self.faults.enter(Op::Enqueue).await {
            Verdict::Execute => self.enqueue_some(batch).await,
            Verdict::Fail(error) => each(count, &error),
            Verdict::LoseReply => {
                drop(self.inner.enqueue(batch).await);
                each(count, &lost())
            }
            Verdict::HoldReply => {
                let answers = self.inner.enqueue(batch).await;
                self.faults.hang(Op::Enqueue).await;
                answers
            }
            Verdict::Late => {
                let (inner, batch) = (Arc::clone(&self.inner), batch.to_vec());
                self.faults
                    .later(None, Box::pin(async move { drop(inner.enqueue(&batch).await) }));
                each(count, &lost())
            }
        }
    }

    async fn enqueue_tick(&self, request: EnqueueRequest, tick: &Tick) -> Result<Ticked, EnqueueError> {
        match self.faults.enter(Op::EnqueueTick).await {
            Verdict::Execute => {
                let batch = vec![request];
                let call = |inner: Arc<B>, mut items: Vec<EnqueueRequest>| -> BoxFuture<'static, _> {
                    let tick = tick.clone();
                    Box::pin(async move {
                        match items.pop() {
                            Some(request) => vec![inner.enqueue_tick(request, &tick).await],
                            None => Vec::new(),
                        }
                    })
                };
                let mut answers = self
                    .batch(Op::EnqueueTick, batch, |item| &item.message.queue, call)
                    .await;
                answers.pop().unwrap_or_else(|| Err(lost().into()))
            }
            Verdict::Fail(error) => Err(error.into()),
            Verdict::LoseReply => {
                drop(self.inner.enqueue_tick(request, tick).await);
                Err(lost().into())
            }
            Verdict::HoldReply => {
                let answer = self.inner.enqueue_tick(request, tick).await;
                self.faults.hang(Op::EnqueueTick).await;
                answer
            }
            Verdict::Late => {
                let (inner, tick) = (Arc::clone(&self.inner), tick.clone());
                let run = async move { drop(inner.enqueue_tick(request, &tick).await) };
                self.faults.later(None, Box::pin(run));
                Err(lost().into())
            }
        }
    }

    async fn last_ticks(&self, entries: &[(QueueName, EntryKey)]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        let call = |inner: Arc<B>, items: Vec<(QueueName, EntryKey)>| -> BoxFuture<'static, _> {
            Box::pin(async move { inner.last_ticks(&items).await })
        };
        let parts = self.batch(Op::LastTicks, entries.to_vec(), |(queue, _)| queue.as_str(), call);
        let answers = self.guard_batch(Op::LastTicks, entries.len(), parts);
        let refused = |queue: &QueueName| self.faults.refusal(queue.as_str());
        let answers = answers.await.into_iter().zip(entries);
        answers
            .map(|(answer, (queue, _))| refused(queue).map_or(answer, Err))
            .collect()
    }

    async fn start_ticks(&self, starts: &[TickStart]) -> Vec<Result<Option<TickMark>, BrokerError>> {
        let answers = self.guard_batch(Op::StartTicks, starts.len(), self.inner.start_ticks(starts));
        let refused = |queue: &QueueName| self.faults.refusal(queue.as_str());
        let answers = answers.await.into_iter().zip(starts);
        answers
            .map(|(answer, start)| refused(&start.queue).map_or(answer, Err))
            .collect()
    }

    fn begin(&self) -> CallRecord {
        self.inner.begin()
    }

    async fn exchange(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
        match self.faults.enter(Op::Exchange).await {
            Verdict::Execute => self.exchange_parts(call, settle, want).await,
            Verdict::Fail(error) => failed(settle, want, &error),
            Verdict::LoseReply => {
                let answer = failed(settle, want, &lost());
                drop(self.inner.exchange(call, settle, want).await);
                answer
            }
            Verdict::HoldReply => {
                let answer = self.inner.exchange(call, settle, want).await;
                self.faults.hang(Op::Exchange).await;
                answer
            }
            Verdict::Late => {
                let answer = failed(settle, want, &lost());
                let (inner, call) = (Arc::clone(&self.inner), call.clone());
                let connection = Some(call.connection);
                let (settle, want) = (settle.to_vec(), want.to_vec());
                let run = async move { drop(inner.exchange(&call, &settle, &want).await) };
                self.faults.later(connection, Box::pin(run));
                answer
            }
        }
    }

    /// As a real storage does, it first makes sure that the lost call can no longer run: a
    /// [late](super::Fault::Late) exchange of that connection is forgotten.
    async fn adopt(&self, queue: &QueueName, lost: &CallRecord) -> Result<Vec<LeasedTask>, BrokerError> {
        let run = async {
            self.faults.barrier(lost.connection);
            self.inner.adopt(queue, lost).await
        };
        self.faults.guard_queue(Op::Adopt, queue, run).await
    }

    fn adoption_is_final(&self) -> bool {
        !self.faults.script().no_barrier && self.inner.adoption_is_final()
    }

    async fn extend_leases(&self, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>> {
        let count = batch.len();
        let call = |inner: Arc<B>, items| -> BoxFuture<'static, _> {
            Box::pin(async move { inner.extend_leases(items).await })
        };
        let parts = self.batch(Op::ExtendLeases, batch, |lease| lease.queue.as_str(), call);
        self.guard_batch(Op::ExtendLeases, count, parts).await
    }

    async fn watch(&self, queues: &[QueueName], kind: WatchKind) -> Result<Watch, BrokerError> {
        let call = async {
            // One call: the first queue with a fault decides.
            let sick = queues
                .iter()
                .find(|queue| self.faults.has_orders(Op::Watch, queue.as_str()));
            let call = self.inner.watch(queues, kind);
            match sick {
                Some(sick) => self.faults.part_of(Op::Watch, sick, call).await,
                None => call.await,
            }
        };
        self.faults.guard(Op::Watch, call).await
    }

    async fn forward(&self, queue: &QueueName, limit: u32) -> Result<Forwarded, BrokerError> {
        self.faults
            .guard_queue(Op::Forward, queue, self.inner.forward(queue, limit))
            .await
    }

    async fn expired_after(
        &self,
        queue: &QueueName,
        grace: Duration,
        limit: u32,
        place: &ExpiredPlace,
    ) -> Result<Expired, BrokerError> {
        self.faults
            .guard_queue(Op::Expired, queue, self.inner.expired_after(queue, grace, limit, place))
            .await
    }

    async fn recover(&self, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>> {
        let count = batch.len();
        let call =
            |inner: Arc<B>, items| -> BoxFuture<'static, _> { Box::pin(async move { inner.recover(items).await }) };
        let parts = self.batch(Op::Recover, batch, |recovery| recovery.task.queue.as_str(), call);
        self.guard_batch(Op::Recover, count, parts).await
    }

    async fn claim_heal(&self, queue: &QueueName, lasts: Duration) -> Result<bool, BrokerError> {
        self.faults
            .guard(Op::ClaimHeal, self.inner.claim_heal(queue, lasts))
            .await
    }

    async fn heal(&self, queue: &QueueName, limit: u32) -> Result<Healed, BrokerError> {
        self.faults
            .guard_queue(Op::Heal, queue, self.inner.heal(queue, limit))
            .await
    }

    async fn delete_expired(&self, queue: &QueueName, limit: u32) -> Result<u32, BrokerError> {
        self.faults
            .guard_queue(Op::DeleteExpired, queue, self.inner.delete_expired(queue, limit))
            .await
    }

    async fn list_groups(&self, queue: &QueueName) -> Result<Vec<GroupKey>, BrokerError> {
        self.faults
            .guard_queue(Op::ListGroups, queue, self.inner.list_groups(queue))
            .await
    }

    async fn collect_group(
        &self,
        queue: &QueueName,
        group: &GroupKey,
        limits: GroupLimits,
    ) -> Result<Option<AggregationSet>, BrokerError> {
        self.faults
            .guard_queue(Op::CollectGroup, queue, self.inner.collect_group(queue, group, limits))
            .await
    }

    async fn extend_aggregation(&self, set: &AggregationSet) -> Result<LeaseUntil, BrokerError> {
        self.faults
            .guard_queue(Op::ExtendAggregation, &set.queue, self.inner.extend_aggregation(set))
            .await
    }

    async fn release_aggregation(&self, set: &AggregationSet, wait: Duration) -> Result<LeaseUntil, BrokerError> {
        self.faults
            .guard_queue(
                Op::ReleaseAggregation,
                &set.queue,
                self.inner.release_aggregation(set, wait),
            )
            .await
    }

    async fn finish_aggregation(&self, set: &AggregationSet, result: EnqueueRequest) -> Result<TaskInfo, EnqueueError> {
        self.faults
            .guard_queue(
                Op::FinishAggregation,
                &set.queue,
                self.inner.finish_aggregation(set, result),
            )
            .await
    }

    async fn reclaim_aggregation_sets(&self, queue: &QueueName) -> Result<u32, BrokerError> {
        self.faults
            .guard_queue(
                Op::ReclaimAggregationSets,
                queue,
                self.inner.reclaim_aggregation_sets(queue),
            )
            .await
    }

    async fn write_server_state(
        &self,
        server: &ServerInfo,
        workers: &[WorkerInfo],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        self.faults
            .guard(
                Op::WriteServerState,
                self.inner.write_server_state(server, workers, ttl),
            )
            .await
    }

    async fn clear_server_state(&self, server: &ServerInfo) -> Result<(), BrokerError> {
        self.faults
            .guard(Op::ClearServerState, self.inner.clear_server_state(server))
            .await
    }

    async fn write_tree(&self, server: &ServerIdentity, tree: &TreeNode, ttl: Duration) -> Result<(), BrokerError> {
        self.faults
            .guard(Op::WriteTree, self.inner.write_tree(server, tree, ttl))
            .await
    }

    async fn clear_tree(&self, server: &ServerIdentity) -> Result<(), BrokerError> {
        self.faults.guard(Op::ClearTree, self.inner.clear_tree(server)).await
    }

    async fn write_statistics(
        &self,
        queue: &QueueName,
        server: &ServerIdentity,
        parts: &[StatisticsPart],
    ) -> Result<u64, BrokerError> {
        let call = self.inner.write_statistics(queue, server, parts);
        self.faults.guard_queue(Op::WriteStatistics, queue, call).await
    }

    async fn write_scheduler_entries(
        &self,
        scheduler_id: &str,
        entries: &[SchedulerEntry],
        ttl: Duration,
    ) -> Result<(), BrokerError> {
        let call = self.inner.write_scheduler_entries(scheduler_id, entries, ttl);
        self.faults.guard(Op::WriteSchedulerEntries, call).await
    }

    async fn clear_scheduler_entries(&self, scheduler_id: &str) -> Result<(), BrokerError> {
        self.faults
            .guard(
                Op::ClearSchedulerEntries,
                self.inner.clear_scheduler_entries(scheduler_id),
            )
            .await
    }

    async fn record_enqueue_event(&self, entry_id: &str, event: &SchedulerEnqueueEvent) -> Result<(), BrokerError> {
        self.faults
            .guard(Op::RecordEnqueueEvent, self.inner.record_enqueue_event(entry_id, event))
            .await
    }

    async fn clear_scheduler_history(&self, entry_id: &str) -> Result<(), BrokerError> {
        self.faults
            .guard(Op::ClearSchedulerHistory, self.inner.clear_scheduler_history(entry_id))
            .await
    }

    async fn write_result(&self, lease: &LeaseRef, result: Bytes) -> Result<usize, SettleError> {
        self.faults
            .guard_queue(Op::WriteResult, &lease.queue, self.inner.write_result(lease, result))
            .await
    }

    async fn write_progress(&self, lease: &LeaseRef, progress: Progress) -> Result<(), SettleError> {
        self.faults
            .guard_queue(
                Op::WriteProgress,
                &lease.queue,
                self.inner.write_progress(lease, progress),
            )
            .await
    }

    async fn publish_cancellation(&self, id: &TaskId) -> Result<(), BrokerError> {
        self.faults
            .guard(Op::PublishCancellation, self.inner.publish_cancellation(id))
            .await
    }

    async fn subscribe_cancellations(&self) -> Result<Cancellations, BrokerError> {
        self.faults
            .guard(Op::SubscribeCancellations, self.inner.subscribe_cancellations())
            .await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.faults.guard(Op::Ping, self.inner.ping()).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
