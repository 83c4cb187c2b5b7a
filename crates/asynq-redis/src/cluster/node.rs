//! One node of a cluster: a link of its own, and whether it answers.
//!
//! A call that waits for a node ends at the latest when the node has been silent for the node timeout: it is
//! ambiguous then, though its connection may still stand. From that moment until the node answers a PING,
//! nothing more is sent to it, so calls that come later are refused and not ambiguous.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use asynq_core::{broker::Env, clock::Clock, error::BrokerError};
use redis::{Cmd, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use crate::{
    args::Args,
    failure::{ErrorReply, classify, without_effect},
    link::{
        Link,
        calls::CallName,
        owned::Owned,
        settings::{Address, Settings},
        side_connections::Way,
        wire::Wire,
    },
};

/// Number of a node's former connections that are remembered, since calls may still be on their way there.
const MOST_FORMER: usize = 64;

/// The shortest node timeout that counts.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// The address of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct At {
    pub(super) host: String,
    pub(super) port: u16,
}

impl At {
    /// `None` for what is not reached by TCP.
    pub(super) fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Tcp { host, port } => Some(Self {
                host: host.clone(),
                port: *port,
            }),
            _ => None,
        }
    }

    /// The settings of the node here, of what all nodes have in common.
    pub(super) fn settings(&self, common: &Settings) -> Settings {
        Settings {
            address: Address::Tcp {
                host: self.host.clone(),
                port: self.port,
            },
            ..common.clone()
        }
    }
}

/// The health of a node: it answers or it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// There is no connection, since then.
    Away(Instant),
    /// Calls wait and nothing comes, since then.
    Silent(Instant),
}

/// The connections to a node on which calls were sent that may still run. They are remembered when the node is
/// none of the cluster's masters for a while.
#[derive(Debug, Default)]
pub(super) struct Sent(Mutex<Vec<u64>>);

impl Sent {
    fn numbers(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call is about to be sent.
    pub(super) fn on(&self, number: u64) {
        let mut numbers = self.numbers();
        if numbers.last() != Some(&number) {
            numbers.retain(|known| *known != number);
            numbers.push(number);
            if numbers.len() > MOST_FORMER {
                numbers.remove(0);
            }
        }
    }

    /// Forgets a connection, on which nothing runs any more.
    fn forget(&self, number: u64) {
        self.numbers().retain(|known| *known != number);
    }
}

/// A node. Dropping it closes the connection once no call waits any more.
pub(super) struct Node {
    at: At,
    link: Link,
    sent: Arc<Sent>,
    health: watch::Receiver<Health>,
    timeout: Duration,
    _nurse: Owned,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = *self.health.borrow();
        write!(f, "{:?} {health:?}", self.link)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.at.host, self.at.port)
    }
}

impl Node {
    /// Connects in the background. `unwell` is told whenever the node does not answer.
    pub(super) fn begin(at: At, common: &Settings, env: &Env, sent: Arc<Sent>, unwell: Arc<Notify>) -> Self {
        let env = Env {
            // The system's clock follows one node, not each of them in turn.
            clock: Clock::manual(env.clock.now()),
            ..env.clone()
        };
        let link = Link::begin(at.settings(common), env);
        let (told, health) = watch::channel(Health::Away(Instant::now()));
        let timeout = common.node_timeout.max(SHORTEST_TIMEOUT);
        let nurse = Owned::spawn(nurse(link.clone(), timeout, told, unwell));
        Self {
            at,
            link,
            sent,
            health,
            timeout,
            _nurse: nurse,
        }
    }

    pub(super) fn at(&self) -> &At {
        &self.at
    }

    pub(super) fn sent(&self) -> &Sent {
        &self.sent
    }

    /// The connection, if the node answers.
    pub(super) fn ready(&self) -> Option<Arc<Wire>> {
        match *self.health.borrow() {
            Health::Well => self.link.live().ok().flatten(),
            Health::Away(_) | Health::Silent(_) => None,
        }
    }

    /// Waits until it answers.
    pub(super) async fn until_ready(&self) {
        let mut health = self.health.clone();
        while self.ready().is_none() {
            // Without a nurse it is given up.
            if health.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns the time since which it does not answer.
    pub(super) fn unwell_since(&self) -> Option<Instant> {
        match *self.health.borrow() {
            Health::Well => None,
            Health::Away(since) | Health::Silent(since) => Some(since),
        }
    }

    /// Returns why nothing can be sent to it.
    pub(super) async fn refusal(&self) -> BrokerError {
        let silent = matches!(*self.health.borrow(), Health::Silent(_));
        match self.link.wait(Duration::ZERO).await {
            Err(BrokerError::Unavailable { source: Some(source) }) if !silent => {
                BrokerError::unavailable(format!("node {self}: {source}"))
            }
            _ => BrokerError::unavailable(format!("node {self} does not answer")),
        }
    }

    /// The result of a call, or that it is ambiguous once the node is silent.
    pub(super) async fn while_it_answers<T>(
        &self,
        call: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let mut health = self.health.clone();
        let silent = async {
            let is_silent = |health: &Health| matches!(health, Health::Silent(_));
            if health.wait_for(is_silent).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            result = call => result,
            () = silent => {
                let text = format!("node {self} has left calls without answer for {:?}", self.timeout);
                Err(BrokerError::ambiguous(text))
            }
        }
    }

    /// The connection for a call with these arguments, which is safe in any order beside other calls.
    pub(super) async fn beside(&self, main: Arc<Wire>, way: Way, args: &Args) -> Result<Arc<Wire>, BrokerError> {
        let found = async { Ok(self.link.beside(main, way, args).await) };
        // Nothing is sent yet.
        self.while_it_answers(found).await.map_err(without_effect)
    }

    /// The connections that are open beside the main one.
    pub(super) fn sides(&self, main: &Wire) -> Vec<Arc<Wire>> {
        self.link.sides(main)
    }

    /// One command, one answer: outside what became of the node, inside of the command.
    pub(super) async fn ask(
        &self,
        wire: &Wire,
        cmd: &Cmd,
        name: CallName,
    ) -> Result<Result<Value, ErrorReply>, BrokerError> {
        self.while_it_answers(wire.ask(cmd, name)).await
    }

    /// [`ask`](Self::ask) of a node to which the slot is on its way.
    pub(super) async fn ask_importing(&self, wire: &Wire, cmd: &Cmd) -> Result<Result<Value, ErrorReply>, BrokerError> {
        let both = [redis::cmd("ASKING"), cmd.clone()];
        let asked = async {
            let answers = wire.ask_all(&both, "ASKING").await;
            answers.map_err(|error| classify(error, true))
        };
        let mut answers = self.while_it_answers(asked).await?;
        Ok(answers.pop().unwrap_or(Ok(Value::Nil)))
    }

    /// Makes sure that no call runs any more that was sent to this node before.
    pub(super) async fn settle_sent(&self, wire: &Wire) -> Result<(), BrokerError> {
        let former: Vec<_> = self.sent.numbers().clone();
        for number in former.into_iter().filter(|number| *number != wire.number()) {
            self.while_it_answers(self.link.kill(number))
                .await
                .map_err(without_effect)?;
            self.sent.forget(number);
        }
        // What is behind it on the same connection has been answered.
        let pong = self.ask(wire, &redis::cmd("PING"), "PING".into()).await;
        pong.map(drop).map_err(without_effect)
    }

    /// Ends the connection: calls without answer become ambiguous.
    pub(super) async fn close(&self) {
        self.link.close().await;
    }
}

/// Watches over the health of a node for as long as its link is open.
async fn nurse(link: Link, limit: Duration, health: watch::Sender<Health>, unwell: Arc<Notify>) {
    while let Some(wire) = link.until_up().await {
        health.send_replace(Health::Well);
        tokio::select! {
            () = wire.over() => {
                health.send_replace(Health::Away(Instant::now()));
                unwell.notify_one();
            }
            () = until_silent(&link, &wire, limit) => {
                tracing::warn!(server = %link, "this node of the cluster does not answer; the others go on without it");
                health.send_replace(Health::Silent(Instant::now()));
                unwell.notify_one();
                // Nothing else is sent. The answer, or the end of the connection, ends the silence.
                let answered = wire.ask(&redis::cmd("PING"), "PING".into()).await.is_ok();
                if answered {
                    tracing::info!(server = %link, "this node of the cluster answers again");
                }
            }
        }
    }
}

/// Waits until calls have waited for so long and nothing has come.
///
/// A connection beside the main one may be silent for a reason of its own, as it is watched over by itself. So the
/// node is asked on the main one then.
async fn until_silent(link: &Link, wire: &Wire, limit: Duration) {
    let tick = (limit / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
    // Counted in looks and not by the clock alone: where our own process stood still, it is not the peer who is
    // silent.
    let mut seen = Duration::ZERO;
    let mut asked: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
    loop {
        tokio::select! {
            biased;
            () = async { match &mut asked {
                Some(asked) => asked.await,
                None => std::future::pending().await,
            }} => {
                asked = None;
                continue;
            }
            () = sleep(tick) => {}
        }
        let silence = wire.silence();
        let doubtful = silence.is_zero() && link.sides(wire).iter().any(|side| side.silence() >= tick);
        if doubtful && asked.is_none() {
            asked = Some(Box::pin(async {
                drop(wire.ask(&redis::cmd("PING"), "PING".into()).await)
            }));
        }
        seen = if silence.is_zero() { Duration::ZERO } else { seen + tick };
        if seen.min(silence) >= limit {
            return;
        }
    }
}
