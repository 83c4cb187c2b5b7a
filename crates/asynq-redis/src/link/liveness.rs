//! Finds out that a connection is dead.
//!
//! A connection on which something waits for its answer and nothing moves is in doubt. Its server is then
//! asked on another connection. Redis does one thing after the other: if it answers there, what it got on
//! the first one has its answer already, so the first one does not carry it and is given up soon. If it
//! answers nowhere, the server itself is silent, and to connect again would not help: the connection is
//! kept for much longer.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    activity::Activity,
    server_check::{ServerCheck, Verdict},
    settings::Pace,
};

/// Watches over one connection.
pub(crate) struct Liveness {
    pub(crate) activity: Arc<Activity>,
    pub(crate) check: ServerCheck,
    pub(crate) pace: Pace,
    /// Name of the peer, for logs.
    pub(crate) to: String,
    /// Set while the connection is in doubt.
    pub(crate) doubt: watch::Sender<bool>,
}

/// An answer on its way.
pub(crate) type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The answer, if it is on its way.
async fn arrives<T>(asked: Option<&mut Asked<T>>) -> T {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}

impl Liveness {
    /// Returns when the connection is dead. `ping` asks on the connection itself and says if it ended with
    /// an answer, `waiting` says how long the oldest call has waited, `tick` is called at each look.
    ///
    /// Silence is counted in ticks and not by the clock alone: where our own process stood still, the peer
    /// is not the silent one.
    pub(crate) async fn until_dead(
        &self,
        ping: impl Fn() -> Asked<bool> + Send,
        waiting: impl Fn() -> Option<Duration> + Send,
        tick: impl Fn() + Send,
    ) {
        let pace = self.pace;
        let mut pinged: Option<(Instant, Asked<bool>)> = None;
        let mut asked: Option<Asked<Verdict>> = None;
        let mut asked_at = Instant::now();
        // How long we have seen the silence last, and how much of it since the server answered elsewhere.
        let mut seen = Duration::ZERO;
        let mut since_answer: Option<Duration> = None;
        loop {
            tokio::select! {
                biased;
                lives = arrives(pinged.as_mut().map(|(_, pong)| pong)) => {
                    pinged = None;
                    if !lives {
                        return;
                    }
                    continue;
                }
                verdict = arrives(asked.as_mut()) => {
                    asked = None;
                    match verdict {
                        Verdict::Answers => since_answer = Some(Duration::ZERO),
                        Verdict::AtWork => self.activity.sign(),
                        Verdict::Mute => {}
                    }
                    continue;
                }
                () = sleep(pace.tick) => {}
            }
            tick();
            let idle = self.activity.silence();
            let owed = waiting().max(pinged.as_ref().map(|(since, _)| since.elapsed()));
            let silence = idle.min(owed.unwrap_or_default());
            if silence < pace.check_after {
                (seen, since_answer, asked) = (Duration::ZERO, None, None);
                self.doubt.send_if_modified(std::mem::take);
                if idle >= pace.ping_after && pinged.is_none() {
                    pinged = Some((Instant::now(), ping()));
                }
                continue;
            }
            self.doubt.send_if_modified(|doubt| !std::mem::replace(doubt, true));
            seen += pace.tick;
            let silence = silence.min(pace.check_after + seen);
            if let Some(since) = &mut since_answer {
                *since += pace.tick;
                // What is under way may need a moment longer than the answer of the other connection.
                if silence >= pace.dead_after && *since >= pace.check_after {
                    tracing::warn!(
                        server = %self.to, ?silence,
                        "the connection is dead, although its server answers on another one; closing it",
                    );
                    return;
                }
            } else if silence >= pace.ping_timeout {
                tracing::warn!(server = %self.to, ?silence, "the server does not answer; closing the connection");
                return;
            } else if asked.is_none() && (seen <= pace.tick || asked_at.elapsed() >= pace.check_after) {
                asked_at = Instant::now();
                let check = self.check.clone();
                asked = Some(Box::pin(async move { check.ask().await }));
            }
        }
    }
}
