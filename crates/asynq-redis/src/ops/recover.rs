//! Recovery of tasks whose owners died.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    broker::{
        Expired, ExpiredPlace, ExpiredTask, LeaseUntil, MAX_BATCH, MAX_BATCH_BYTES, MAX_UNSTARTED, Outcome, Poison,
        Recovery,
    },
    error::{BrokerError, SettleError},
    keys,
    names::QueueName,
};
use chrono::TimeDelta;
use futures::future::join_all;
use redis::Value;

use super::{
    batch::{by_queue, cut, in_order},
    exchange::decode,
    quarantine::{self, Fence},
    settle::{self, Answer},
};
use crate::{
    args::{Args, bound, keys_of},
    broker::core::Core,
    reply::{Reply, again, check_codes, protocol},
    scripts,
};

const OPERATION: &str = "recover";
/// Number of entries of `active` that one call passes to put damaged ids aside: a millisecond or two of Redis.
const MOST_PASSED: i64 = 50_000;

pub(crate) async fn expired(
    core: &Core,
    queue: &QueueName,
    grace: Duration,
    limit: u32,
    place: &ExpiredPlace,
) -> Result<Expired, BrokerError> {
    if !core.may_take_over().await {
        return Ok(Expired::default());
    }
    let now = core.now();
    let grace = TimeDelta::from_std(grace).unwrap_or(TimeDelta::MAX);
    let cutoff = now.checked_sub_signed(grace).map_or(i64::MIN, |at| at.timestamp());
    let (score, id) = place.lease().unwrap_or(("", b""));
    let mut args = Args::with_capacity(9)
        .text(&keys::queue_prefix(queue))
        .int(cutoff)
        .int(i64::from(limit.clamp(1, MAX_BATCH)))
        .int(bound(MAX_BATCH_BYTES))
        .int(now.timestamp())
        .int(i64::from(MAX_UNSTARTED))
        .text(score);
    args.push(id);
    let args = args.int(MOST_PASSED);
    let value = core
        .link
        .eval(&scripts::EXPIRED, keys_of(queue, &["lease", "active"]), args)
        .await?;
    let mut reply = Reply::of_script("expired", value)?;
    let mut tasks = reply.list()?;
    let mut found = Expired::default();
    let poison = |id, kind| Poison {
        queue: queue.clone(),
        id,
        kind,
    };
    while !tasks.is_empty() {
        let (raw_id, until) = (tasks.bytes()?, LeaseUntil(tasks.int()?));
        let (unstarted, taken_until, msg) = (tasks.int()? == 1, tasks.maybe_int()?, tasks.bytes()?);
        match decode(queue, &raw_id, msg) {
            Ok((_, message)) => {
                let taken = taken_until.and_then(|until| ExpiredTask::taken_by(LeaseUntil(until), &message));
                found.tasks.push(ExpiredTask {
                    queue: queue.clone(),
                    message: Arc::new(message),
                    until,
                    unstarted,
                    taken,
                });
            }
            Err((id, kind)) => {
                quarantine::put_aside(core, queue, &raw_id, kind, Fence::Lease(until)).await;
                found.poisoned.push(poison(id, kind));
            }
        }
    }
    found
        .poisoned
        .extend(reply.list()?.damaged()?.into_iter().map(|(id, kind)| poison(id, kind)));
    found.more = reply.int()? == 1;
    let (score, id) = (reply.text()?, reply.bytes()?);
    if !score.is_empty() {
        found.next = ExpiredPlace::behind(score, id);
    }
    Ok(found)
}

pub(crate) async fn recover(core: &Core, batch: Vec<Recovery>) -> Vec<Result<(), SettleError>> {
    let parts = by_queue(batch.iter().map(|recovery| &recovery.task.queue));
    let done = join_all(
        parts
            .into_iter()
            .map(|part| recover_queue(core, part.queue, part.items, &batch)),
    )
    .await;
    in_order(OPERATION, batch.len(), done.into_iter().flatten())
}

async fn recover_queue(
    core: &Core,
    queue: QueueName,
    items: Vec<usize>,
    batch: &[Recovery],
) -> Vec<(usize, Result<(), SettleError>)> {
    let (refused, mut items): (Vec<usize>, Vec<usize>) = items
        .into_iter()
        .partition(|index| matches!(batch[*index].outcome, Outcome::Done { .. }));
    let refusal = || BrokerError::Refused {
        source: "a task cannot be recovered as done".into(),
    };
    let mut results: Vec<(usize, Result<(), SettleError>)> = refused
        .into_iter()
        .map(|index| (index, Err(refusal().into())))
        .collect();
    while !items.is_empty() {
        let size = |index: &usize| settle::size_of(&batch[*index].task.message, &batch[*index].outcome, true);
        let calls = cut(std::mem::take(&mut items), MAX_BATCH as usize, MAX_BATCH_BYTES, size);
        for asked in calls {
            let (keys, args) = render(core, &queue, &asked, batch);
            let answer = core.link.eval_apart(&scripts::RECOVER, keys, args).await;
            match answer.and_then(|value| read(value, asked.len())) {
                Ok((answers, note)) => {
                    settle::report_counters(&queue, &note);
                    for (index, answer) in asked.into_iter().zip(answers) {
                        match answer {
                            Answer::Settled(result) => results.push((index, result)),
                            Answer::Later => items.push(index),
                        }
                    }
                }
                Err(error) => {
                    let failures = asked
                        .into_iter()
                        .map(|index| (index, Err(SettleError::Broker(again(&error)))));
                    results.extend(failures);
                }
            }
        }
    }
    results
}

fn render(core: &Core, queue: &QueueName, items: &[usize], batch: &[Recovery]) -> (Args, Args) {
    let now = core.now();
    let mut args = settle::head(queue, now, 5 + 7 * items.len());
    settle::push_more(&mut args, now, items.len());
    for index in items {
        let Recovery { task, outcome } = &batch[*index];
        args.push(&task.message.id);
        args.push(format!("{} {}", task.until.0, task.message.last_failed_at));
        settle::push(&mut args, queue, &task.message, outcome, Some(&task.lost_run()), now);
    }
    (keys_of(queue, &["pending"]), args)
}

fn read(value: Value, items: usize) -> Result<(Vec<Answer>, String), BrokerError> {
    let mut reply = Reply::of_script(OPERATION, value)?;
    let codes = check_codes(OPERATION, reply.bytes()?, items)?;
    let answers: Option<Vec<_>> = codes.iter().map(|code| Answer::read(*code)).collect();
    let answers = answers.ok_or_else(|| protocol(OPERATION, "an unknown code".to_owned()))?;
    Ok((answers, reply.text()?))
}
