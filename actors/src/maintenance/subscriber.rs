//! The subscriber: receives cancel requests, also from Go's tools, and cancels the runs that they name.
//!
//! Messages: from its own listening task (`Cancel`, `Ended`) and its timer (`Listen`). Its handler waits for nothing.
//! Requests that are published while there is no subscription are lost, as in Go: during a restart of this actor, and
//! between the loss of its connection and its next subscription. The caller can see whether the task still runs, and
//! repeat the request.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use asynq_core::{
    BrokerError, Entropy,
    broker::CancelRequest,
    error::text::report,
    panics::{drop_quietly, panic_text},
};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::{
    broker::BrokerHandle,
    in_flight::table::Table,
    supervision::{
        supervisor::{Backoff, ChildSpec, Shutdown},
        timer::Timer,
        tree::Tree,
    },
};

/// The waits between attempts to subscribe (Go: 5 s).
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(100),
    most: Duration::from_secs(5),
};
const STOP_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Subscriber;

#[derive(Clone, Debug)]
pub(crate) struct SubscriberArgs {
    pub(crate) broker: BrokerHandle,
    pub(crate) table: Arc<Table>,
    pub(crate) entropy: Entropy,
    pub(crate) tree: Tree,
    pub(crate) path: String,
}

#[derive(Debug)]
pub(crate) enum SubscriberMsg {
    /// Time to subscribe.
    Listen,
    /// The subscription is active.
    Listening,
    /// A request to cancel a task.
    Cancel(CancelRequest),
    /// The subscription is lost, or there was none.
    Ended(Result<(), BrokerError>),
}
crate::message!(SubscriberMsg);

#[derive(Debug)]
pub(crate) struct SubscriberState {
    args: SubscriberArgs,
    listening: JoinSet<()>,
    retry: Option<Timer>,
    failures: u32,
}

/// The child spec of the subscriber.
pub(crate) fn spec(args: SubscriberArgs) -> ChildSpec {
    ChildSpec::new("subscriber", move || (Subscriber, args.clone())).shutdown(Shutdown::Stop(STOP_WITHIN))
}

async fn listen(broker: &BrokerHandle, myself: &ActorRef<SubscriberMsg>) -> Result<(), BrokerError> {
    let mut requests = broker.storage().await?.subscribe_cancellations().await?;
    let _ = myself.cast(SubscriberMsg::Listening);
    while let Some(request) = requests.request().await {
        let _ = myself.cast(SubscriberMsg::Cancel(request));
    }
    Ok(())
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Subscriber {
    type Msg = SubscriberMsg;
    type State = SubscriberState;
    type Arguments = SubscriberArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<SubscriberMsg>,
        args: SubscriberArgs,
    ) -> Result<SubscriberState, ActorProcessingErr> {
        Ok(SubscriberState {
            args,
            listening: JoinSet::new(),
            retry: None,
            failures: 0,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<SubscriberMsg>,
        _state: &mut SubscriberState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(SubscriberMsg::Listen)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<SubscriberMsg>,
        message: SubscriberMsg,
        state: &mut SubscriberState,
    ) -> Result<(), ActorProcessingErr> {
        let (tree, path) = (&state.args.tree, &state.args.path);
        match message {
            SubscriberMsg::Listen => {
                while state.listening.try_join_next().is_some() {}
                let broker = state.args.broker.clone();
                state.listening.spawn(async move {
                    let end = match AssertUnwindSafe(listen(&broker, &myself)).catch_unwind().await {
                        Ok(end) => end,
                        Err(panic) => {
                            let text = panic_text(&*panic);
                            drop_quietly(panic);
                            Err(BrokerError::unavailable(format!("panicked: {text}")))
                        }
                    };
                    // Refused only when the actor is ending.
                    let _ = myself.cast(SubscriberMsg::Ended(end));
                });
            }
            SubscriberMsg::Listening => {
                if state.failures > 0 {
                    tracing::info!(
                        failures = state.failures,
                        "listening for cancel requests again; those published meanwhile are lost"
                    );
                }
                state.failures = 0;
                tree.note(path, Some("listening"));
            }
            SubscriberMsg::Cancel(CancelRequest { id, run }) => {
                let table = &state.args.table;
                let runs = run.map_or_else(|| table.cancel_id(&id), |run| usize::from(table.cancel_run(&run)));
                tracing::debug!(task = %id, runs, "cancel request");
            }
            SubscriberMsg::Ended(end) => {
                let why = end
                    .err()
                    .map_or_else(|| "subscription lost".to_owned(), |error| report(&error));
                if state.failures == 0 {
                    tracing::warn!(error = why, "not subscribed to cancel requests, retrying");
                }
                tree.note(path, Some(&why));
                let wait = RETRY.delay(state.failures);
                state.failures = state.failures.saturating_add(1);
                let wait = wait / 2 + state.args.entropy.up_to(wait / 2);
                state.retry = Some(Timer::after(&myself, wait, || SubscriberMsg::Listen));
            }
        }
        Ok(())
    }
}
