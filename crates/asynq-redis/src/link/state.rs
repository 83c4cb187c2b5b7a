//! The state of a link, which its handles and its keeper share.

use std::sync::Arc;

use asynq_core::{broker::Env, error::BrokerError};
use redis::{Cmd, Value};
use tokio::sync::Notify;

use super::{
    current::Current,
    script::{LOADS, Script},
    settings::Settings,
    side_connections::SideConnections,
    wire::Wire,
};
use crate::{
    failure::{ErrorReply, classify, says_read_only},
    pubsub::Subscriptions,
    watcher::Watcher,
};

/// State that the handles and the keeper share.
pub(crate) struct LinkState {
    pub(crate) settings: Settings,
    pub(crate) env: Env,
    pub(super) state: Current<Wire>,
    /// The server refuses to write: connect again, its name may lead elsewhere now.
    pub(super) elsewhere: Notify,
    /// Sentinels have called another server the master.
    #[cfg(feature = "sentinel")]
    pub(super) switched: Notify,
    pub(super) sides: SideConnections,
    pub(super) watcher: Watcher,
    pub(super) subscriptions: Subscriptions,
}

impl LinkState {
    pub(super) fn new(settings: Settings, env: Env, state: Current<Wire>) -> Self {
        Self {
            settings,
            env,
            state,
            elsewhere: Notify::new(),
            #[cfg(feature = "sentinel")]
            switched: Notify::new(),
            sides: SideConnections::default(),
            watcher: Watcher::default(),
            subscriptions: Subscriptions::default(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// The live connection; waits for one within the wait timeout.
    pub(crate) async fn wire(&self) -> Result<Arc<Wire>, BrokerError> {
        self.state.wait(self.settings.wait_timeout).await
    }

    pub(super) async fn eval(&self, wire: &Wire, script: &Script, invoke: &Cmd) -> Result<Value, BrokerError> {
        let mut answer = wire.ask(invoke, script.name.into()).await?;
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
    pub(super) fn heard(&self, answer: Result<Value, ErrorReply>) -> Result<Value, BrokerError> {
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
