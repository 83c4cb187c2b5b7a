//! The connection for watches: made, proven, and asked.

use std::{sync::Arc, time::Duration};

use asynq_core::{
    broker::{Wake, Watch},
    error::BrokerError,
};
use redis::{PushInfo, PushKind, Value};
use tokio::time::{Instant, timeout};

use super::{Probe, Tracking, Watcher, board::Board};
use crate::{
    args::Args,
    failure::{ErrorReply, classify, without_effect},
    link::{current::Mortal as _, state::LinkState, wire::Wire},
};

/// Time within which the proof must come once all that was sent before has been answered.
const PROOF_LIMIT: Duration = Duration::from_secs(1);
/// Time for which a server that failed the proof is not asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Number of times that a script is loaded for one probe.
const LOADS: u32 = 3;

impl Watcher {
    pub(crate) async fn watch(&self, core: &LinkState, probe: Probe) -> Result<Watch, BrokerError> {
        let tracking = self.tracking(core).await?;
        for _ in 0..LOADS {
            let Some(entry) = tracking.board.enter(&probe.keys) else {
                return Err(BrokerError::unavailable("the connection for watches is lost"));
            };
            let invoke = probe
                .script
                .invoke(&Args::from_iter(&probe.keys), &Args::from_iter(&probe.args));
            match tracking.look(invoke, probe.script.name).await {
                Ok(Ok(Value::Int(0))) => return Ok(entry.into_watch()),
                Ok(Ok(Value::Int(_))) => return Ok(Watch::ready()),
                Ok(Ok(_)) => {
                    return Err(BrokerError::Protocol {
                        operation: probe.script.name,
                        source: None,
                    });
                }
                Ok(Err(reply)) if reply.is_no_script() => {
                    let loaded = tracking.wire.ask(&probe.script.load(), probe.script.name.into()).await;
                    loaded.map_err(without_effect)?.map_err(|reply| core.refused(reply))?;
                }
                Ok(Err(reply)) => return Err(core.refused(reply)),
                Err(error) => {
                    self.give_up(&tracking);
                    return Err(error);
                }
            }
        }
        Err(BrokerError::Busy {
            reason: "repeated NOSCRIPT".to_owned(),
        })
    }

    fn current(&self, core: &LinkState) -> Result<Option<Arc<Tracking>>, BrokerError> {
        if core.is_closed() {
            return Err(BrokerError::Closed);
        }
        Ok(self
            .slot()
            .as_ref()
            .filter(|tracking| !tracking.wire.is_over())
            .cloned())
    }

    fn give_up(&self, tracking: &Arc<Tracking>) {
        tracking.wire.cut();
        self.slot().take_if(|live| Arc::ptr_eq(live, tracking));
    }

    async fn tracking(&self, core: &LinkState) -> Result<Arc<Tracking>, BrokerError> {
        if let Some(tracking) = self.current(core)? {
            return Ok(tracking);
        }
        let mut refusal = self.opening.lock().await;
        if let Some(tracking) = self.current(core)? {
            return Ok(tracking);
        }
        if let Some((at, what)) = *refusal
            && at.elapsed() < ASK_AGAIN_AFTER
        {
            return Err(BrokerError::Unsupported { what });
        }
        match Tracking::open(core).await {
            Ok(tracking) => {
                *refusal = None;
                let tracking = Arc::new(tracking);
                let mut slot = self.slot();
                // Under the lock, which closing takes after it has marked the link as closed.
                if core.is_closed() {
                    return Err(BrokerError::Closed);
                }
                *slot = Some(Arc::clone(&tracking));
                Ok(tracking)
            }
            Err(error) => {
                if let BrokerError::Unsupported { what } = error {
                    *refusal = Some((Instant::now(), what));
                    tracing::info!(server = %core.settings, what, "no wake-ups from this Redis; it will be polled");
                }
                Err(error)
            }
        }
    }
}

impl Tracking {
    async fn open(core: &LinkState) -> Result<Self, BrokerError> {
        let main = core.wire().await?;
        if !main.is_resp3() {
            return Err(BrokerError::Unsupported {
                what: "RESP3, which watches need",
            });
        }
        let board = Arc::new(Board::default());
        let teller = Teller(Arc::clone(&board));
        let on_push = Box::new(move |push: PushInfo| teller.tell(push));
        let bits = core.env.entropy.bits();
        let wire = Wire::open_to(&core.settings, Some(main.peer()), ":watch", Some(on_push), bits).await?;
        let mut on = redis::cmd("CLIENT");
        on.arg("TRACKING").arg("ON").arg("OPTIN");
        if let Err(reply) = wire.ask(&on, "CLIENT TRACKING".into()).await.map_err(without_effect)? {
            tracing::debug!(%reply, "tracking is refused");
            return Err(BrokerError::Unsupported {
                what: "CLIENT TRACKING",
            });
        }
        let tracking = Self { wire, board };
        tracking.prove(core, &main).await?;
        Ok(tracking)
    }

    /// Watches a key, writes it elsewhere, and waits for the push. A server sends it before the answer to
    /// what we ask next, so only where something between us changes the order does the limit count.
    async fn prove(&self, core: &LinkState, main: &Wire) -> Result<(), BrokerError> {
        let key = format!("asynq:x:watch:{}", core.env.entropy.uuid());
        let Some(entry) = self.board.enter(&[key.clone().into_bytes()]) else {
            return Err(BrokerError::unavailable("the connection for watches is lost"));
        };
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.look(get, "watch proof").await? {
            Ok(_) => {}
            Err(reply) if reply.code == "NOPERM" => {
                return Err(BrokerError::Unsupported {
                    what: "CLIENT TRACKING",
                });
            }
            Err(reply) => return Err(core.refused(reply)),
        }
        let mut set = redis::cmd("SET");
        set.arg(&key).arg("").arg("EX").arg(10);
        if let Err(reply) = main.ask(&set, "SET".into()).await.map_err(without_effect)? {
            return match reply.code.as_str() {
                "NOPERM" => Err(BrokerError::Unsupported {
                    what: "CLIENT TRACKING",
                }),
                _ => Err(core.refused(reply)),
            };
        }
        let behind = self.wire.ask(&redis::cmd("PING"), "PING".into()).await;
        let pushed = match behind {
            Ok(_) => timeout(PROOF_LIMIT, entry.into_watch().changed()).await,
            Err(_) => Ok(Wake::Lost),
        };
        let mut del = redis::cmd("DEL");
        del.arg(&key);
        // It expires by itself where this fails.
        let _ = main.ask(&del, "DEL".into()).await;
        match pushed {
            Ok(Wake::Changed) => Ok(()),
            Ok(Wake::Lost) => Err(BrokerError::unavailable("the connection for watches is lost")),
            Err(_) => Err(BrokerError::Unsupported {
                what: "CLIENT TRACKING",
            }),
        }
    }

    /// One read that leaves a watch. Outside: whether the connection can be relied on.
    async fn look(&self, read: redis::Cmd, name: &'static str) -> Result<Result<Value, ErrorReply>, BrokerError> {
        let mut caching = redis::cmd("CLIENT");
        caching.arg("CACHING").arg("YES");
        let answers = self
            .wire
            .ask_all(&[caching, read], name)
            .await
            .map_err(|error| classify(error, false))?;
        let mut answers = answers.into_iter();
        match (answers.next(), answers.next()) {
            (Some(Ok(Value::Okay)), Some(answer)) => Ok(answer),
            (Some(Err(reply)), _) => Err(BrokerError::unavailable(reply)),
            _ => Err(BrokerError::Protocol {
                operation: "CLIENT CACHING",
                source: None,
            }),
        }
    }
}

/// Passes pushes on. It goes with the connection, and takes all watches along.
struct Teller(Arc<Board>);

impl Teller {
    fn tell(&self, push: PushInfo) {
        match push.kind {
            PushKind::Invalidate => match push.data.into_iter().next() {
                Some(Value::Array(keys)) => {
                    for key in keys {
                        if let Value::BulkString(key) = key {
                            self.0.changed(&key);
                        }
                    }
                }
                // Everything was flushed.
                _ => self.0.all_lost(),
            },
            PushKind::Disconnection => self.0.close(),
            _ => {}
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.close();
    }
}
