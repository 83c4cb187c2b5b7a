//! Finds the nodes of a cluster, from the node that answers first.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use asynq_core::error::BrokerError;
use futures::{StreamExt, stream::FuturesUnordered};
use redis::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    node::At,
    slots::{self, Told},
    state::{ClusterState, describe, invalid},
    target::Place,
};
use crate::{
    clock_sync,
    failure::{ErrorReply, classify, without_effect},
    link::{
        backoff::REPORT_EVERY,
        wire::{Wire, field_of_info},
    },
};

/// Time for which one node is asked alone before the next one is asked too.
const HEAD_START: Duration = Duration::from_millis(200);
/// Interval at which the slots are asked for.
const EVERY: Duration = Duration::from_secs(15);
/// Interval while a node does not answer, or slots have no node.
const EVERY_UNWELL: Duration = Duration::from_millis(500);
/// Least time between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks one after the other, each with a head start, until one succeeds.
///
/// # Errors
/// If none does: preferably what one of them said, not that one is away.
pub(super) async fn first<T>(
    asked: impl IntoIterator<Item = impl Future<Output = Result<T, BrokerError>>>,
) -> Result<T, BrokerError> {
    let mut last = BrokerError::unavailable("no node of the cluster is known");
    let mut waiting = asked.into_iter();
    let mut running = FuturesUnordered::new();
    let mut more = true;
    loop {
        match waiting.next() {
            Some(next) => running.push(next),
            None => more = false,
        }
        tokio::select! {
            biased;
            ended = running.next() => match ended {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => {
                    if matches!(last, BrokerError::Unavailable { .. }) {
                        last = error;
                    }
                }
                None => return Err(last),
            },
            () = sleep(HEAD_START), if more => {}
        }
    }
}

/// Asks for the slots, the nodes that answer first and then those that were named.
///
/// A node that was away tells what it knew before. Where there is a choice, none is believed that knows of a
/// smaller epoch than `least`.
pub(super) async fn ask(core: &ClusterState, least: u64) -> Result<Told, BrokerError> {
    let stale: Mutex<Option<Told>> = Mutex::default();
    let candidates = core.in_some_order(&*core.slots()?);
    let asked = candidates.into_iter().map(|(at, place)| {
        let stale = &stale;
        async move {
            let told = ask_one(core, &at, place).await?;
            if told.epoch >= least || told.epoch == 0 {
                return Ok(told);
            }
            let mut stale = stale.lock().unwrap_or_else(PoisonError::into_inner);
            if stale.as_ref().is_none_or(|known| known.epoch < told.epoch) {
                *stale = Some(told);
            }
            Err(BrokerError::unavailable(format!(
                "{}:{} knows only of earlier times",
                at.host, at.port
            )))
        }
    });
    let limit = core.common.connect_timeout;
    let told = match timeout(limit, first(asked)).await {
        Ok(Ok(told)) => return Ok(told),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(BrokerError::unavailable(format!(
            "no node has answered within {limit:?}"
        ))),
    };
    // All know only of that: the cluster was made anew.
    match stale.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(stale) => Ok(stale),
        None => told,
    }
}

async fn ask_one(core: &ClusterState, at: &At, place: Option<Place>) -> Result<Told, BrokerError> {
    let mut info = redis::cmd("CLUSTER");
    info.arg("INFO");
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let both = [info, slots];
    let ask = async |wire: &Wire| {
        let answers = wire.ask_all(&both, "CLUSTER SLOTS").await;
        answers.map_err(|error| classify(error, true))
    };
    let answers = match place {
        Some(Place { node, wire, .. }) => node.while_it_answers(ask(&wire)).await,
        None => {
            let settings = at.settings(&core.common);
            ask(&Wire::open(&settings, "", None, core.env.entropy.bits()).await?).await
        }
    };
    let answers = answers.map_err(without_effect)?;
    let Ok([info, slots]) = <[_; 2]>::try_from(answers) else {
        return Err(BrokerError::Protocol {
            operation: "CLUSTER SLOTS",
            source: None,
        });
    };
    // A user may lack the permission for it.
    let epoch = info.ok().and_then(|info| field_of_info(&info, "cluster_current_epoch"));
    let ranges = match slots {
        Ok(Value::Array(none)) if none.is_empty() => {
            return Err(BrokerError::unavailable(format!(
                "{}:{} knows of no slots",
                at.host, at.port
            )));
        }
        Ok(told) => slots::read(&told, at).ok_or(BrokerError::Protocol {
            operation: "CLUSTER SLOTS",
            source: None,
        })?,
        Err(reply) => return Err(refused(core, at, reply)),
    };
    Ok(Told {
        epoch: epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        ranges,
    })
}

fn refused(core: &ClusterState, at: &At, reply: ErrorReply) -> BrokerError {
    match BrokerError::from(reply) {
        BrokerError::Refused { source } => {
            let settings = at.settings(&core.common);
            invalid(&format!("nodes: {settings} is not a node of a cluster: {source}"))
        }
        other => other,
    }
}

/// Keeps the map of slots true, for as long as the link lives.
pub(super) async fn keep(core: Arc<ClusterState>, epoch: u64) {
    tokio::join!(
        keep_slots(&core, epoch),
        clock_sync::keep_in_sync(&core.env.clock, &*core),
    );
}

async fn keep_slots(core: &ClusterState, mut epoch: u64) {
    let mut reported: Option<Instant> = None;
    loop {
        let Ok(slots) = core.slots() else { return };
        let wait = if slots.are_well() { EVERY } else { EVERY_UNWELL };
        drop(slots);
        tokio::select! {
            () = core.doubt.notified() => {}
            () = sleep(wait) => {}
        }
        match ask(core, epoch).await {
            Ok(told) => core.learn(&told, &mut epoch).await,
            Err(BrokerError::Closed) => return,
            Err(error) => {
                if reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
                    reported = Some(Instant::now());
                    let server = describe(&core.common, &core.seeds);
                    tracing::warn!(%server, %error, "no node of the cluster reports its slots; retrying");
                }
            }
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers after so many milliseconds; `None`: never.
    async fn after(wait: Option<u64>, answer: Result<u32, BrokerError>) -> Result<u32, BrokerError> {
        match wait {
            Some(wait) => sleep(Duration::from_millis(wait)).await,
            None => std::future::pending().await,
        }
        answer
    }

    fn away() -> Result<u32, BrokerError> {
        Err(BrokerError::unavailable("away"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_one_costs_its_head_start() {
        let begun = Instant::now();
        let answer = first([
            after(None, Ok(1)),
            after(None, Ok(2)),
            after(Some(5), Ok(3)),
            after(Some(0), Ok(4)),
        ])
        .await;
        assert_eq!(answer.unwrap(), 3);
        assert_eq!(begun.elapsed(), 2 * HEAD_START + Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_costs_nothing_and_a_late_answer_counts() {
        let begun = Instant::now();
        let answer = first([after(Some(0), away()), after(Some(450), Ok(1)), after(None, Ok(2))]).await;
        assert_eq!(answer.unwrap(), 1);
        assert_eq!(begun.elapsed(), Duration::from_millis(450));
    }

    #[tokio::test(start_paused = true)]
    async fn of_all_that_fail_the_one_is_told_that_says_most() {
        let refused = || Err(BrokerError::Refused { source: "no".into() });
        let told = first([
            after(Some(0), away()),
            after(Some(300), refused()),
            after(Some(0), away()),
        ])
        .await;
        assert!(matches!(told, Err(BrokerError::Refused { .. })), "{told:?}");
        let none = first(Vec::<std::future::Ready<Result<u32, BrokerError>>>::new()).await;
        assert!(matches!(none, Err(BrokerError::Unavailable { .. })), "{none:?}");
    }
}
