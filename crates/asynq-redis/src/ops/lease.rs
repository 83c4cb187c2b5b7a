//! Extension of leases.

use asynq_core::{
    broker::{CallToken, LeaseRef, LeaseUntil},
    error::{BrokerError, PoisonKind, SettleError},
    keys,
    names::QueueName,
};
use futures::future::join_all;

use super::batch::{by_queue, in_order};
use crate::{
    args::{Args, keys_of},
    broker::core::Core,
    reply::{Reply, again, check_codes, protocol},
    scripts,
};

const OPERATION: &str = "extend_leases";
/// Number of leases that one call extends.
const MOST: usize = 500;

pub(crate) async fn extend(core: &Core, batch: Vec<LeaseRef>) -> Vec<Result<LeaseUntil, SettleError>> {
    core.refresh_clock().await;
    let parts = by_queue(batch.iter().map(|lease| &lease.queue));
    let calls = parts
        .iter()
        .flat_map(|part| part.items.chunks(MOST).map(|items| (&part.queue, items)));
    let sent = calls.map(|(queue, items)| extend_some(core, queue, items, &batch));
    in_order(OPERATION, batch.len(), join_all(sent).await.into_iter().flatten())
}

async fn extend_some(
    core: &Core,
    queue: &QueueName,
    items: &[usize],
    batch: &[LeaseRef],
) -> Vec<(usize, Result<LeaseUntil, SettleError>)> {
    let until = LeaseUntil::from_now(core.now());
    let mut fences: Vec<(&CallToken, i64)> = Vec::new();
    let mut rendered = Args::with_capacity(2 * items.len());
    for index in items {
        let lease = &batch[*index];
        let fence = (&lease.token, lease.until.0);
        let number = fences.iter().rposition(|known| *known == fence).unwrap_or_else(|| {
            fences.push(fence);
            fences.len() - 1
        });
        rendered.push(lease.id.as_str());
        rendered.push_count(number + 1);
    }
    let mut args = Args::with_capacity(4 + 2 * (fences.len() + items.len()))
        .text(&keys::queue_prefix(queue))
        .int(until.0);
    args.push_count(fences.len());
    for (token, highest) in fences {
        args.push(token.as_str());
        args.push_int(highest);
    }
    args.push_count(items.len());
    args.append(&rendered);

    let answer = core
        .link
        .eval_timely(&scripts::EXTEND_LEASES, keys_of(queue, &["lease"]), args)
        .await;
    let read = answer.and_then(|value| {
        let mut reply = Reply::of_script(OPERATION, value)?;
        let codes = check_codes(OPERATION, reply.bytes()?, items.len())?;
        let mut results = Vec::with_capacity(items.len());
        for (index, code) in items.iter().zip(codes) {
            let result = match code {
                b'1' => Ok(until),
                // Never shortened: it was above already.
                b'2' => Ok(LeaseUntil(reply.int()?)),
                // Nothing was written, so nothing more is claimed. The claim names the fence, which
                // is above any lease.
                b'3' => Err(SettleError::NoLease),
                code => Err(refusal(OPERATION, code)),
            };
            results.push((*index, result));
        }
        while !reply.is_empty() {
            let number = usize::try_from(reply.int()?).unwrap_or(0);
            let asked = items.get(number.wrapping_sub(1));
            let index = *asked.ok_or_else(|| protocol(OPERATION, format!("there is no item {number}")))?;
            core.cancel_requests.repeat(&batch[index]);
        }
        Ok(results)
    });
    match read {
        Ok(results) => results,
        Err(error) => items
            .iter()
            .map(|index| (*index, Err(SettleError::Broker(again(&error)))))
            .collect(),
    }
}

/// Returns what a fence that refused says.
pub(crate) fn refusal(operation: &'static str, code: u8) -> SettleError {
    match code {
        b'0' => SettleError::NotOurs,
        b'h' => SettleError::Poison(PoisonKind::NotAHash),
        b's' => SettleError::Poison(PoisonKind::BadState),
        _ => SettleError::Broker(unknown(operation, code)),
    }
}

fn unknown(operation: &'static str, code: u8) -> BrokerError {
    protocol(operation, format!("an unknown code {code}"))
}
