//! The broker actor: opens the storage, checks it, replaces it, and lends it to other actors. The storage is closed
//! when all actors have ended.
//!
//! Messages: only its own (`Opened`, `Check`, `Checked`). Its handler waits for nothing, because separate tasks make
//! the network calls. On a crash its storage is withdrawn, and handles wait for the storage of the next incarnation.
//! Calls in flight on the old storage end by themselves.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{
    BrokerError, Connector, Env, Storage,
    error::{Outage, text::report},
    panics::{drop_quietly, panic_text},
};
use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::{Meters, storage_failed},
    supervision::tree::Tree,
};

/// Time between two checks of a storage that answers, and of one that does not.
const CHECK_EVERY: Duration = Duration::from_secs(2);
const CHECK_AGAIN: Duration = Duration::from_secs(1);
const CHECK_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Longest time that a call waits for a storage that is being opened.
pub(crate) const CONNECTING: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// Time between the first and the second warning about a storage that cannot be reached. It doubles with each
/// warning.
const FIRST_WORD: Duration = Duration::from_secs(10);
const LAST_WORD: Duration = Duration::from_secs(300);

pub(crate) type Lent = Option<Arc<dyn Storage>>;

/// A handle that lends the storage, and follows restarts and reconnects. Cheap to clone.
#[derive(Clone)]
pub struct BrokerHandle {
    lent: watch::Receiver<Lent>,
    /// The reason why the storage cannot be opened now.
    outage: watch::Receiver<Option<Outage>>,
    closed: CancellationToken,
    meters: Meters,
}

impl BrokerHandle {
    /// Returns the storage. If the storage is being opened, waits for at most 5 s.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] with an [`Outage`] when no storage is open in time, [`BrokerError::Closed`] when
    /// the system has ended.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn storage(&self) -> Result<Arc<dyn Storage>, BrokerError> {
        self.lent(CONNECTING).await.unwrap_or_else(|| {
            let outage = self.outage.borrow();
            Err(outage.clone().map_or_else(late, BrokerError::unavailable))
        })
    }

    /// Returns the storage for a call with a waiting caller. Waits for at most `wait`. Fails at once with
    /// [`BrokerError::Refused`] if the storage permanently refuses the connection.
    pub(crate) async fn prompt_storage(&self, wait: Duration) -> Result<Arc<dyn Storage>, BrokerError> {
        if let Some(storage) = &*self.lent.borrow() {
            return Ok(Arc::clone(storage));
        }
        let mut outage = self.outage.clone();
        let refused = outage.wait_for(|outage| outage.as_ref().is_some_and(Outage::is_for_good));
        tokio::select! {
            biased;
            lent = self.lent(wait) => lent.unwrap_or_else(|| Err(self.unreachable())),
            Ok(_) = refused => Err(self.unreachable()),
        }
    }

    /// Returns the storage; `None` if none is open in time.
    async fn lent(&self, wait: Duration) -> Option<Result<Arc<dyn Storage>, BrokerError>> {
        if let Some(storage) = &*self.lent.borrow() {
            return Some(Ok(Arc::clone(storage)));
        }
        let mut lent = self.lent.clone();
        let lent = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Some(Err(BrokerError::Closed)),
            lent = tokio::time::timeout(wait, lent.wait_for(Option::is_some)) => lent.ok()?,
        };
        let storage = lent.ok().and_then(|storage| storage.clone());
        Some(storage.ok_or(BrokerError::Closed))
    }

    /// The metrics of the system.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The handle of a system that has ended.
    pub(crate) fn ended() -> Self {
        let lending = Lending::new();
        lending.0.closed.cancel();
        lending.handle()
    }

    /// Returns the error of a storage that is not there.
    pub(crate) fn unreachable(&self) -> BrokerError {
        self.outage.borrow().clone().map_or_else(late, BrokerError::from)
    }
}

fn late() -> BrokerError {
    BrokerError::unavailable("it did not answer in time")
}

impl fmt::Debug for BrokerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerHandle({:?})", *self.lent.borrow())
    }
}

/// The cell in which the broker actor lends the storage to handles. It outlives the actor: after all actors have
/// ended, tasks in flight are settled through the last storage, and then the storage is closed.
#[derive(Clone, Debug)]
pub(crate) struct Lending(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lent: watch::Sender<Lent>,
    /// The reason why the storage cannot be opened now.
    outage: watch::Sender<Option<Outage>>,
    closed: CancellationToken,
    meters: Meters,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The storage that was lent last, unless it was found closed.
    storage: Lent,
    /// No actor decides any more.
    left: bool,
}

impl Lending {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            lent: watch::Sender::new(None),
            outage: watch::Sender::new(None),
            closed: CancellationToken::new(),
            meters: Meters::new(),
            kept: Mutex::default(),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends a storage. `None` if the cell is already closed.
    pub(crate) fn lend(&self, storage: Lent) {
        let mut kept = self.kept();
        if !kept.left {
            kept.storage.clone_from(&storage);
            self.0.lent.send_replace(storage);
        }
    }

    /// Records that an attempt to open the storage failed, or, with `None`, that it is open.
    fn failed(&self, failure: Option<(&BrokerArgs, BrokerError)>) {
        self.0.outage.send_modify(|outage| {
            *outage = failure.map(|(args, error)| match outage.take() {
                Some(outage) => outage.again(error),
                None => Outage::new(&args.target, args.env.clock.now(), error),
            });
        });
    }

    /// Records that the actor has ended. No storage is lent until the next incarnation lends one.
    fn withdraw(&self) {
        if !self.kept().left {
            self.0.lent.send_replace(None);
        }
    }

    /// Records that all actors have ended. The last storage stays lent until [`close`](Self::close).
    pub(crate) fn leave(&self) {
        let mut kept = self.kept();
        kept.left = true;
        self.0.lent.send_replace(kept.storage.clone());
    }

    /// Closes the storage, and waits for this until `deadline` at most.
    pub(crate) async fn close(&self, deadline: Instant) {
        let storage = {
            let mut kept = self.kept();
            kept.left = true;
            kept.storage.take()
        };
        self.0.closed.cancel();
        self.0.lent.send_replace(None);
        let Some(storage) = storage else { return };
        let closing = AssertUnwindSafe(storage.close()).catch_unwind();
        match tokio::time::timeout_at(deadline, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                tracing::error!(panic = panic_text(&*panic), "storage panicked while closing");
                drop_quietly(panic);
            }
            Err(_) => tracing::warn!("storage was not closed in time"),
        }
    }

    /// Lends a storage that no actor checks.
    #[cfg(test)]
    pub(crate) fn of(storage: Arc<dyn Storage>) -> Self {
        let lending = Self::new();
        lending.lend(Some(storage));
        lending
    }

    pub(crate) fn handle(&self) -> BrokerHandle {
        BrokerHandle {
            lent: self.0.lent.subscribe(),
            outage: self.0.outage.subscribe(),
            closed: self.0.closed.clone(),
            meters: self.0.meters.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Broker;

#[derive(Clone, Debug)]
pub(crate) struct BrokerArgs {
    pub(crate) connector: Arc<dyn Connector>,
    /// Address of the storage, for the log.
    pub(crate) target: String,
    pub(crate) env: Env,
    pub(crate) lending: Lending,
    pub(crate) tree: Tree,
    pub(crate) path: String,
}

pub(crate) enum BrokerMsg {
    /// An attempt to open the storage has ended.
    Opened(Result<Arc<dyn Storage>, BrokerError>),
    /// Time to try again to open the storage.
    Open,
    /// Time to check whether the storage answers.
    Check,
    /// The result of a check.
    Checked(Result<(), BrokerError>),
}
crate::message!(BrokerMsg);

#[derive(Debug)]
pub(crate) struct BrokerState {
    args: BrokerArgs,
    storage: Lent,
    retry: Duration,
    healthy: bool,
    /// Time at which failed attempts to connect are logged next, and the pause after that.
    tell: Option<(Instant, Duration)>,
    io: JoinSet<()>,
}

impl Drop for BrokerState {
    /// Withdraws the storage at any end of the actor, because no actor checks it any more. At the end of the system
    /// the storage stays, because others still need it.
    fn drop(&mut self) {
        if !self.args.tree.is_ending() {
            self.args.lending.withdraw();
        }
    }
}

impl BrokerState {
    fn open(&mut self, myself: &ActorRef<BrokerMsg>) {
        self.args.tree.note(&self.args.path, Some("connecting"));
        let (connector, env, myself) = (Arc::clone(&self.args.connector), self.args.env.clone(), myself.clone());
        self.io.spawn(async move {
            let opened = guarded(CONNECT_WITHIN, async move { connector.connect(env).await }).await;
            let _ = myself.cast(BrokerMsg::Opened(opened));
        });
    }
}

/// Returns the result of a call to a storage, which is unavailable if the call hangs or panics.
async fn guarded<T>(within: Duration, act: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    match tokio::time::timeout(within, AssertUnwindSafe(act).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            let text = panic_text(&*panic);
            drop_quietly(panic);
            Err(BrokerError::unavailable(format!("panicked: {text}")))
        }
        Err(_) => Err(BrokerError::unavailable(format!("no answer within {within:?}"))),
    }
}

#[cfg_attr(feature = "ractor-async-trait", ractor::async_trait)]
impl Actor for Broker {
    type Msg = BrokerMsg;
    type State = BrokerState;
    type Arguments = BrokerArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<BrokerMsg>,
        args: BrokerArgs,
    ) -> Result<BrokerState, ActorProcessingErr> {
        Ok(BrokerState {
            args,
            storage: None,
            retry: FIRST_RETRY,
            healthy: true,
            tell: None,
            io: JoinSet::new(),
        })
    }

    async fn post_start(&self, myself: ActorRef<BrokerMsg>, state: &mut BrokerState) -> Result<(), ActorProcessingErr> {
        state.open(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<BrokerMsg>,
        message: BrokerMsg,
        state: &mut BrokerState,
    ) -> Result<(), ActorProcessingErr> {
        while state.io.try_join_next().is_some() {}
        match message {
            BrokerMsg::Opened(Ok(storage)) => {
                tracing::info!(storage = state.args.target, "connected");
                state.args.tree.note(&state.args.path, Some("connected"));
                state.args.lending.failed(None);
                state.args.lending.lend(Some(Arc::clone(&storage)));
                state.storage = Some(storage);
                state.retry = FIRST_RETRY;
                state.healthy = true;
                state.tell = None;
                myself.send_after(CHECK_EVERY, || BrokerMsg::Check);
            }
            BrokerMsg::Opened(Err(error)) => {
                storage_failed(&error);
                let now = Instant::now();
                let (due, pause) = state.tell.unwrap_or((now, FIRST_WORD));
                if due <= now {
                    let storage = &state.args.target;
                    tracing::warn!(storage, error = %report(&error), "cannot connect, retrying");
                    state.tell = Some((now + pause, (pause * 2).min(LAST_WORD)));
                }
                state.healthy = false;
                state
                    .args
                    .tree
                    .note(&state.args.path, Some(&format!("connecting: {}", report(&error))));
                let jitter = state.args.env.entropy.up_to(state.retry / 2);
                myself.send_after(state.retry + jitter, || BrokerMsg::Open);
                state.args.lending.failed(Some((&state.args, error)));
                state.retry = (state.retry * 2).min(LAST_RETRY);
            }
            BrokerMsg::Open => state.open(&myself),
            BrokerMsg::Check => {
                if let Some(storage) = state.storage.clone() {
                    state.io.spawn(async move {
                        let answer = guarded(CHECK_WITHIN, async move { storage.ping().await }).await;
                        let _ = myself.cast(BrokerMsg::Checked(answer));
                    });
                }
            }
            BrokerMsg::Checked(Err(BrokerError::Closed)) => {
                state.args.lending.lend(None);
                state.storage = None;
                state.open(&myself);
            }
            BrokerMsg::Checked(answer) => {
                if let Err(error) = &answer {
                    storage_failed(error);
                }
                if state.healthy != answer.is_ok() {
                    state.healthy = answer.is_ok();
                    match &answer {
                        Ok(()) => tracing::info!("storage answers again"),
                        Err(error) => tracing::warn!(error = %report(error), "storage does not answer, retrying"),
                    }
                    let note = if state.healthy { "connected" } else { "not answering" };
                    state.args.tree.note(&state.args.path, Some(note));
                }
                let pause = if state.healthy { CHECK_EVERY } else { CHECK_AGAIN };
                myself.send_after(pause, || BrokerMsg::Check);
            }
        }
        Ok(())
    }
}
