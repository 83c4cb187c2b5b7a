//! The link to one Redis: one connection for the calls of all, replaced when it is lost, and two beside it.
//!
//! Nothing is sent twice behind the caller's back. A call is written once, on the connection that
//! lives at that moment, and ends with its answer or with that connection
//! ([`BrokerError::Ambiguous`]). The one exception is NOSCRIPT, a definite refusal.

pub(crate) mod beside;
pub(crate) mod calls;
pub(crate) mod current;
pub(crate) mod life;
pub(crate) mod owned;
pub(crate) mod policy;
pub(crate) mod pulse;
pub(crate) mod script;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinels;
pub(crate) mod settings;
pub(crate) mod sides;
pub(crate) mod socket;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wire;

use std::{fmt, sync::Arc, time::Duration};

use asynq_core::{
    broker::{Env, Watch},
    error::BrokerError,
};
use futures::future::{join, join_all};
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

#[cfg(feature = "sentinel")]
use self::settings::Address;
use self::{
    current::{Current, Mortal as _, State},
    owned::Owned,
    sides::{Sides, Way},
    wire::{ClientId, Wire},
};
pub(crate) use self::{script::Script, settings::Settings};
pub(crate) use crate::watcher::Probe;
use crate::{
    clock_sync,
    failure::{ErrorReply, classify, says_read_only, without_effect},
    pubsub::Subscriptions,
    watcher::Watcher,
};

/// The first wait between two attempts to connect; it doubles.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const BACKOFF_MOST: Duration = Duration::from_secs(2);
/// A connection that stood so long was a good one: waits begin anew.
pub(crate) const STOOD_WELL: Duration = Duration::from_secs(10);
/// Interval at which a lasting outage is reported.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Time after which sentinels are asked again while a connection is silent.
#[cfg(feature = "sentinel")]
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(300);
/// Number of times that a script is loaded for one call. A larger number means that somebody flushes all the time.
pub(crate) const LOADS: u32 = 3;

/// A handle to one Redis. Cheap to clone; clones share the connection, and all follow when it is
/// replaced. The last one dropped closes it.
#[derive(Clone)]
pub(crate) struct Link {
    core: Arc<Core>,
    keeper: Arc<Owned>,
}

/// State that the handles and the keeper share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) env: Env,
    state: Current<Wire>,
    /// The server refuses to write: connect again, its name may lead elsewhere now.
    elsewhere: Notify,
    /// Sentinels have called another server the master.
    #[cfg(feature = "sentinel")]
    switched: Notify,
    sides: Sides,
    watcher: Watcher,
    subscriptions: Subscriptions,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} {})", self.core.settings, self.core.state.describe())
    }
}

impl fmt::Display for Link {
    /// Writes the address, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.settings.fmt(f)
    }
}

impl Link {
    /// Connects: RESP3 where it is spoken, else RESP2; user, database and name as in the settings.
    /// Warns if the server may evict keys, and corrects a system clock by the server's.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] if there is no server, `Refused` if it does not let us in,
    /// `InvalidConnection` if the settings cannot be right, `Busy` if it is starting.
    pub(crate) async fn open(settings: Settings, env: Env) -> Result<Self, BrokerError> {
        let wire = Arc::new(Wire::open(&settings, "", None, env.entropy.bits()).await?);
        policy::check(&wire, &settings.to_string()).await;
        clock_sync::sync(&env.clock, &*wire).await;
        let core = Arc::new(Core {
            settings,
            env,
            state: Current::new(Arc::clone(&wire)),
            elsewhere: Notify::new(),
            #[cfg(feature = "sentinel")]
            switched: Notify::new(),
            sides: Sides::default(),
            watcher: Watcher::default(),
            subscriptions: Subscriptions::default(),
        });
        let keeper = Owned::spawn(attend(Arc::clone(&core), wire));
        Ok(Self {
            core,
            keeper: Arc::new(keeper),
        })
    }

    /// A link whose connection is made in the background; calls wait for it as they do when it is lost.
    #[cfg(feature = "cluster")]
    pub(crate) fn begin(settings: Settings, env: Env) -> Self {
        let core = Arc::new(Core {
            settings,
            env,
            state: Current::none(),
            elsewhere: Notify::new(),
            #[cfg(feature = "sentinel")]
            switched: Notify::new(),
            sides: Sides::default(),
            watcher: Watcher::default(),
            subscriptions: Subscriptions::default(),
        });
        let keeper = Arc::clone(&core);
        let keeper = Owned::spawn(async move {
            let wire = reconnect(&keeper, None, &mut 0).await;
            keeper.state.set(State::Up(Arc::clone(&wire)));
            keep(&keeper, wire).await;
        });
        Self {
            core,
            keeper: Arc::new(keeper),
        }
    }

    /// The live connection, if there is one.
    #[cfg(feature = "cluster")]
    pub(crate) fn live(&self) -> Result<Option<Arc<Wire>>, BrokerError> {
        self.core.state.live()
    }

    /// The live connection; waits for one at most so long.
    #[cfg(feature = "cluster")]
    pub(crate) async fn wait(&self, limit: Duration) -> Result<Arc<Wire>, BrokerError> {
        self.core.state.wait(limit).await
    }

    /// The live connection, as soon as there is one; `None` once the link is closed.
    #[cfg(feature = "cluster")]
    pub(crate) async fn until_up(&self) -> Option<Arc<Wire>> {
        self.core.state.until_up().await
    }

    /// Returns which connection is live, 0 if there is none. To be given to [`eval_on`](Self::eval_on) and
    /// [`kill`](Self::kill), of this link or a later one to the same server; it has no other meaning.
    pub(crate) fn connection(&self) -> u64 {
        self.core.state.live().ok().flatten().map_or(0, |wire| wire.number())
    }

    /// Runs a script.
    pub(crate) async fn eval(
        &self,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let wire = self.core.wire().await?;
        self.core.eval(&wire, script, &keys, &args).await
    }

    /// [`eval`](Self::eval) of a script that is safe in any order beside other calls, on the connection that its
    /// arguments are for.
    pub(crate) async fn eval_by(
        &self,
        way: Way,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        let wire = self.beside(self.core.wire().await?, way, &args).await;
        self.core.eval(&wire, script, &keys, &args).await
    }

    /// The connection for a call with these arguments, which is safe in any order beside other calls.
    pub(crate) async fn beside(&self, main: Arc<Wire>, way: Way, args: &[Vec<u8>]) -> Arc<Wire> {
        self.core.beside(main, way, args).await
    }

    /// The connections that are open beside the main one.
    pub(crate) fn sides(&self, main: &Wire) -> Vec<Arc<Wire>> {
        self.core.sides.open_ones(main)
    }

    /// [`command`](Self::command) that must not wait behind data. It and its answer are small.
    pub(crate) async fn command_timely(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self.beside(self.core.wire().await?, Way::Timely, &[]).await;
        let answer = wire.ask(cmd, name_of(cmd).into()).await?;
        self.core.heard(answer)
    }

    /// Sends a command that takes effect behind all that was sent before, on whichever connection: so it goes on
    /// each. It must be one that may be repeated.
    pub(crate) async fn command_last(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self.core.wire().await?;
        let sides = self.sides(&wire);
        let on_sides = join_all(sides.iter().map(|side| side.ask(cmd, name_of(cmd).into())));
        let (answer, _) = join(wire.ask(cmd, name_of(cmd).into()), on_sides).await;
        self.core.heard(answer?)
    }

    /// Runs a script if `connection` is the live one; else nothing is sent and the answer is
    /// [`BrokerError::Unavailable`].
    pub(crate) async fn eval_on(
        &self,
        connection: u64,
        script: &Script,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, BrokerError> {
        match self.core.state.live()? {
            Some(wire) if wire.number() == connection => self.core.eval(&wire, script, &keys, &args).await,
            _ => Err(BrokerError::unavailable("the connection of this call was replaced")),
        }
    }

    /// Sends a command.
    pub(crate) async fn command(&self, cmd: &Cmd) -> Result<Value, BrokerError> {
        let wire = self.core.wire().await?;
        let answer = wire.ask(cmd, name_of(cmd).into()).await?;
        self.core.heard(answer)
    }

    /// Sends a command; all keys are here.
    pub(crate) async fn command_at(&self, _key: &[u8], cmd: &Cmd) -> Result<Value, BrokerError> {
        self.command(cmd).await
    }

    /// Sends commands in one write; as many answers as commands.
    pub(crate) async fn pipeline(&self, cmds: &[Cmd]) -> Vec<Result<Value, BrokerError>> {
        let wire = match self.core.wire().await {
            Ok(wire) => wire,
            Err(BrokerError::Closed) => return cmds.iter().map(|_| Err(BrokerError::Closed)).collect(),
            Err(error) => {
                let cause = Arc::new(error);
                return cmds
                    .iter()
                    .map(|_| Err(BrokerError::unavailable(Arc::clone(&cause))))
                    .collect();
            }
        };
        match wire.ask_all(cmds, "pipeline").await {
            Ok(answers) => answers.into_iter().map(|answer| self.core.heard(answer)).collect(),
            Err(error) => cmds.iter().map(|_| Err(classify(error.clone(), true))).collect(),
        }
    }

    /// Makes sure that nothing more runs that was sent on `connection`: on the live connection by
    /// waiting for an answer behind it, on an earlier one by ending it at the server.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where we may not: what was sent may still run for a while.
    pub(crate) async fn kill(&self, connection: u64) -> Result<(), BrokerError> {
        if connection == 0 {
            return Ok(());
        }
        let wire = self.core.wire().await?;
        if wire.number() == connection {
            // Answers come in order. An error reply is one too.
            return wire
                .ask(&redis::cmd("PING"), "PING".into())
                .await
                .map(drop)
                .map_err(without_effect);
        }
        let id = match wire::client_id(connection, wire.number()) {
            ClientId::Known(id) => id,
            ClientId::OtherServer => return Ok(()),
            ClientId::Unknown => return Err(BrokerError::Unsupported { what: "CLIENT KILL" }),
        };
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        match wire.ask(&kill, "CLIENT KILL".into()).await.map_err(without_effect)? {
            Ok(_) => Ok(()),
            Err(reply) if matches!(reply.code.as_str(), "NOPERM" | "ERR") => {
                Err(BrokerError::Unsupported { what: "CLIENT KILL" })
            }
            Err(reply) => Err(self.core.refused(reply)),
        }
    }

    /// Subscribes to a channel, on a connection of its own; returns once the server has confirmed.
    /// The messages end when the connection is lost.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<mpsc::Receiver<Vec<u8>>, BrokerError> {
        let peer = self.core.wire().await?.peer().clone();
        let Core {
            settings,
            subscriptions,
            ..
        } = &*self.core;
        subscriptions
            .subscribe(settings, Some(&peer), &|| self.core.is_closed(), channel)
            .await
    }

    /// Looks, by a script that only reads, and, if there is nothing, leaves a watch on its keys.
    ///
    /// # Errors
    /// [`BrokerError::Unsupported`] where the server does not tell of changes.
    pub(crate) async fn watch(&self, probe: Probe) -> Result<Watch, BrokerError> {
        self.core.watcher.watch(&self.core, probe).await
    }

    /// Returns what TIME answers; `None` if it does not.
    pub(crate) async fn time(&self) -> Option<Value> {
        self.command(&redis::cmd("TIME")).await.ok()
    }

    /// Returns what the link was opened with.
    pub(crate) fn env(&self) -> &Env {
        &self.core.env
    }

    /// Ends all connections. Calls without answer become ambiguous, later ones are
    /// [`BrokerError::Closed`], watches are lost, subscriptions end.
    pub(crate) async fn close(&self) {
        self.keeper.abort();
        if let Some(wire) = self.core.state.close() {
            wire.cut();
            wire.over().await;
        }
        self.core.sides.cut();
        self.core.watcher.close();
        self.core.subscriptions.end_all();
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// The live connection; waits for one within the wait timeout.
    pub(crate) async fn wire(&self) -> Result<Arc<Wire>, BrokerError> {
        self.state.wait(self.settings.wait_timeout).await
    }

    async fn eval(
        &self,
        wire: &Wire,
        script: &Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
    ) -> Result<Value, BrokerError> {
        let invoke = script.invoke(keys, args);
        let mut answer = wire.ask(&invoke, script.name.into()).await?;
        for _ in 0..LOADS {
            match &answer {
                Err(reply) if reply.is_no_script() => {}
                _ => break,
            }
            // In one write, so that hardly anything fits between.
            let both = [script.load(), invoke.clone()];
            let answers = wire
                .ask_all(&both, script.name)
                .await
                .map_err(|error| classify(error, true))?;
            let mut answers = answers.into_iter();
            let loaded = answers.next();
            answer = answers.next().unwrap_or(Ok(Value::Nil));
            if let (Some(Err(why)), Err(reply)) = (loaded, &answer)
                && reply.is_no_script()
            {
                return Err(self.refused(why));
            }
        }
        self.heard(answer)
    }

    /// The answer to a call, as the caller gets it. That a server does not write shows in an error reply
    /// inside of an array, too.
    fn heard(&self, answer: Result<Value, ErrorReply>) -> Result<Value, BrokerError> {
        match answer {
            Ok(value) => {
                if says_read_only(&value) {
                    self.elsewhere.notify_one();
                }
                Ok(value)
            }
            Err(reply) => Err(self.refused(reply)),
        }
    }

    /// An error reply to a call, as the caller gets it.
    pub(crate) fn refused(&self, reply: ErrorReply) -> BrokerError {
        let error = BrokerError::from(reply);
        if matches!(error, BrokerError::ReadOnly) {
            self.elsewhere.notify_one();
        }
        error
    }
}

/// The name of a command.
pub(crate) fn name_of(cmd: &Cmd) -> String {
    match cmd.args_iter().next() {
        Some(redis::Arg::Simple(word)) => String::from_utf8_lossy(word).into_owned(),
        _ => "command".to_owned(),
    }
}

/// Does the background work of a connection for as long as the link lives.
async fn attend(core: Arc<Core>, wire: Arc<Wire>) {
    #[cfg(feature = "sentinel")]
    if let Address::Master(sentinels) = &core.settings.address {
        let listen = Arc::clone(sentinels).listen(&core.settings, &core.env, &core.switched);
        futures::future::join(keep(&core, wire), listen).await;
        return;
    }
    keep(&core, wire).await;
}

/// A reason to replace a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Lost,
    ReadOnly,
    /// Sentinels call another server the master.
    Switched,
}

/// Replaces the connection whenever it is lost or leads to the wrong server.
async fn keep(core: &Core, mut wire: Arc<Wire>) {
    let mut attempt = 0;
    let mut since = Instant::now();
    loop {
        let why = tokio::select! {
            () = wire.over() => Why::Lost,
            () = core.elsewhere.notified() => Why::ReadOnly,
            () = another_master(core, &wire) => Why::Switched,
            () = clock_sync::keep_in_sync(&core.env.clock, &*wire) => continue,
        };
        if since.elapsed() >= STOOD_WELL {
            attempt = 0;
        }
        match why {
            Why::Lost => {
                tracing::warn!(server = %core.settings, "the connection to Redis is lost");
                core.state.set(State::Down(None));
            }
            Why::ReadOnly if attempt == 0 => {
                tracing::warn!(server = %core.settings, "this Redis is read-only; connecting again");
            }
            Why::Switched => {
                tracing::warn!(server = %core.settings, "there is another master; connecting to it");
                attempt = 0;
            }
            Why::ReadOnly => {}
        }
        let before = Arc::clone(&wire);
        wire = reconnect(core, Some(&before), &mut attempt).await;
        since = Instant::now();
        // The new one may lead to another server: watch and listen there.
        core.watcher.begin_anew();
        let elsewhere = wire.peer() != before.peer();
        if elsewhere {
            core.subscriptions.end_all();
        }
        // The one before, if it lives, ends with its last call.
        core.state.set(State::Up(Arc::clone(&wire)));
        if elsewhere {
            core.sides.cut();
        }
        if why == Why::Switched {
            // Nothing that the old master still does counts. What waits for it is ambiguous now, and not
            // only when it turns out to be silent.
            before.cut();
        }
    }
}

/// Waits until the sentinels call another server the master than the one that a connection leads to. They
/// are asked when they tell of a failover, and as long as the connection is silent. Without sentinels it
/// waits for ever.
async fn another_master(core: &Core, wire: &Wire) {
    #[cfg(feature = "sentinel")]
    if let Address::Master(sentinels) = &core.settings.address {
        loop {
            tokio::select! {
                () = core.switched.notified() => {}
                () = wire.in_doubt() => {}
            }
            if let Ok((host, port)) = sentinels.find_master(&core.settings).await
                && !wire.peer().is(&host, port).await
            {
                return;
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }
    #[cfg(not(feature = "sentinel"))]
    let _ = (core, wire);
    std::future::pending().await
}

/// Waits a while, or until sentinels tell of a failover.
async fn pause(core: &Core, wait: Duration) {
    #[cfg(feature = "sentinel")]
    tokio::select! {
        () = sleep(wait) => {}
        () = core.switched.notified() => {}
    }
    #[cfg(not(feature = "sentinel"))]
    {
        let _ = core;
        sleep(wait).await;
    }
}

/// Tries until there is a connection.
async fn reconnect(core: &Core, before: Option<&Wire>, attempt: &mut u32) -> Arc<Wire> {
    let begun = Instant::now();
    let mut reported: Option<Instant> = None;
    loop {
        pause(core, backoff(&core.env, *attempt)).await;
        *attempt = attempt.saturating_add(1);
        match Wire::open(&core.settings, "", None, core.env.entropy.bits()).await {
            Ok(wire) => {
                clock_sync::sync(&core.env.clock, &wire).await;
                tracing::debug!(server = %core.settings, after = ?begun.elapsed(), "connected to Redis again");
                return Arc::new(wire);
            }
            Err(error) => {
                if reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
                    reported = Some(Instant::now());
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(server = %core.settings, %error, cause, "no connection to Redis; retrying");
                }
                if before.is_none_or(Wire::is_over) {
                    core.state.set(State::Down(Some(Arc::new(error))));
                }
            }
        }
    }
}

/// Half of it fixed, half by chance, so that many clients do not come at once.
pub(crate) fn backoff(env: &Env, attempt: u32) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << attempt.min(10)).min(BACKOFF_MOST);
    // The first attempt after a loss comes almost at once.
    let fixed = if attempt == 0 { Duration::ZERO } else { most / 2 };
    fixed + env.entropy.up_to(most / 2)
}
