//! Calls over several queues, split where a queue has faults of its own.

use std::{collections::BTreeSet, sync::Arc};

use asynq_core::{
    BrokerError, QueueName, SettleError, Storage,
    broker::{CallRecord, Exchanged, Settlement, Want},
};
use futures::future::{BoxFuture, join_all};

use super::{Fault, FaultyBroker, Op, again, lost};

/// A batch with an answer for each item.
type Answers<T, E> = Vec<Result<T, E>>;

/// The answer to an exchange of which nothing is known, or that failed.
pub(super) fn failed(settle: &[Settlement], want: &[Want], error: &BrokerError) -> Exchanged {
    Exchanged {
        settled: settle.iter().map(|_| Err(SettleError::Broker(again(error)))).collect(),
        failed: concerned(settle, want)
            .into_iter()
            .map(|queue| (queue, again(error)))
            .collect(),
        ..Exchanged::default()
    }
}

fn concerned(settle: &[Settlement], want: &[Want]) -> BTreeSet<QueueName> {
    let settled = settle.iter().map(|settlement| &settlement.lease.queue);
    settled.chain(want.iter().map(|want| &want.queue)).cloned().collect()
}

/// The same failure for each item.
pub(super) fn each<T, E: From<BrokerError>>(count: usize, error: &BrokerError) -> Answers<T, E> {
    (0..count).map(|_| Err(again(error).into())).collect()
}

/// The result of a part of a call.
enum Part<R> {
    Answered(R),
    Failed(BrokerError),
}

impl<B: Storage + ?Sized + 'static> FaultyBroker<B> {
    /// Runs the part of a queue under its fault. `call` is executed at most once.
    async fn part<R: Send + 'static>(
        &self,
        op: Op,
        queue: &str,
        fault: Fault,
        connection: Option<u64>,
        call: BoxFuture<'static, R>,
    ) -> Part<R> {
        let late = |call: BoxFuture<'static, R>| {
            self.faults.later(connection, Box::pin(async move { drop(call.await) }));
            Part::Failed(lost())
        };
        match fault {
            Fault::Fail(error) => Part::Failed(error()),
            Fault::LoseRequest => Part::Failed(lost()),
            Fault::LoseReply => {
                drop(call.await);
                Part::Failed(lost())
            }
            Fault::HoldReply => {
                let answer = call.await;
                if self.faults.hang_part(op, queue).await {
                    Part::Answered(answer)
                } else {
                    Part::Failed(lost())
                }
            }
            Fault::Late => late(call),
            Fault::Hang => {
                if self.faults.hang_part(op, queue).await {
                    Part::Answered(call.await)
                } else {
                    late(call)
                }
            }
        }
    }

    /// Runs a batch: in one call what is for queues without faults of their own, and beside it the
    /// part of each other queue. The answers come together, in order.
    pub(super) async fn batch<I, T, E>(
        &self,
        op: Op,
        items: Vec<I>,
        queue_of: impl Fn(&I) -> &str,
        call: impl Fn(Arc<B>, Vec<I>) -> BoxFuture<'static, Answers<T, E>>,
    ) -> Answers<T, E>
    where
        I: Send,
        T: Send + 'static,
        E: From<BrokerError> + Send + 'static,
    {
        let queues: BTreeSet<String> = items.iter().map(|item| queue_of(item).to_owned()).collect();
        let faults: Vec<(String, Fault)> = queues
            .into_iter()
            .filter_map(|queue| Some((self.faults.fault_of(op, &queue)?, queue)))
            .map(|(fault, queue)| (queue, fault))
            .collect();
        if faults.is_empty() {
            return call(Arc::clone(&self.inner), items).await;
        }
        let mut answers: Vec<Option<Result<T, E>>> = items.iter().map(|_| None).collect();
        // The last group is that of the others.
        let mut groups: Vec<(Vec<usize>, Vec<I>)> = (0..=faults.len()).map(|_| Default::default()).collect();
        for (index, item) in items.into_iter().enumerate() {
            let group = faults.iter().position(|(queue, _)| queue == queue_of(&item));
            let (places, items) = &mut groups[group.unwrap_or(faults.len())];
            places.push(index);
            items.push(item);
        }
        let run = groups.into_iter().enumerate().map(|(group, (places, items))| {
            let (count, fault) = (items.len(), faults.get(group));
            let call = call(Arc::clone(&self.inner), items);
            async move {
                let answers = match fault {
                    None if count == 0 => Vec::new(),
                    None => call.await,
                    Some((queue, fault)) => match self.part(op, queue, *fault, None, call).await {
                        Part::Answered(answers) => answers,
                        Part::Failed(error) => each(count, &error),
                    },
                };
                (places, answers)
            }
        });
        for (places, part) in join_all(run).await {
            for (place, answer) in places.into_iter().zip(part) {
                answers[place] = Some(answer);
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(lost().into())))
            .collect()
    }

    /// Runs an exchange as [`batch`](Self::batch) does.
    pub(super) async fn exchange_parts(&self, call: &CallRecord, settle: &[Settlement], want: &[Want]) -> Exchanged {
        let faults: Vec<(QueueName, Fault)> = concerned(settle, want)
            .into_iter()
            .filter_map(|queue| Some((self.faults.fault_of(Op::Exchange, queue.as_str())?, queue)))
            .map(|(fault, queue)| (queue, fault))
            .collect();
        if faults.is_empty() {
            return self.inner.exchange(call, settle, want).await;
        }
        let order: Vec<QueueName> = want.iter().map(|want| want.queue.clone()).collect();
        let mut settled: Vec<Option<Result<(), SettleError>>> = settle.iter().map(|_| None).collect();
        type Group = (Vec<usize>, Vec<Settlement>, Vec<Want>);
        let mut groups: Vec<Group> = (0..=faults.len()).map(|_| Group::default()).collect();
        let group_of = |queue: &QueueName| {
            let own = faults.iter().position(|(other, _)| other == queue);
            own.unwrap_or(faults.len())
        };
        for (index, settlement) in settle.iter().enumerate() {
            let (places, settle, _) = &mut groups[group_of(&settlement.lease.queue)];
            places.push(index);
            settle.push(settlement.clone());
        }
        for want in want {
            groups[group_of(&want.queue)].2.push(want.clone());
        }
        let run = groups.into_iter().enumerate().map(|(group, (places, settle, want))| {
            let fault = faults.get(group);
            let (inner, record) = (Arc::clone(&self.inner), call.clone());
            let (items, wants) = (settle.clone(), want.clone());
            let connection = Some(call.connection);
            let call: BoxFuture<'static, Exchanged> =
                Box::pin(async move { inner.exchange(&record, &items, &wants).await });
            async move {
                let answer = match fault {
                    None => call.await,
                    Some((queue, fault)) => {
                        match self.part(Op::Exchange, queue.as_str(), *fault, connection, call).await {
                            Part::Answered(answer) => answer,
                            Part::Failed(error) => failed(&settle, &want, &error),
                        }
                    }
                };
                (places, answer)
            }
        });
        let mut all = Exchanged::default();
        for (places, part) in join_all(run).await {
            for (place, answer) in places.into_iter().zip(part.settled) {
                settled[place] = Some(answer);
            }
            all.leased.extend(part.leased);
            all.poisoned.extend(part.poisoned);
            all.exhausted.extend(part.exhausted);
            all.failed.extend(part.failed);
        }
        // Queue by queue as they were wanted.
        all.leased
            .sort_by_key(|task| order.iter().position(|queue| *queue == task.lease.queue));
        all.settled = settled
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(SettleError::Broker(lost()))))
            .collect();
        all
    }
}
