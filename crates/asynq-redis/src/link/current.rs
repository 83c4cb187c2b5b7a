//! The connection that lives at the moment, and the wait for the next one.

use std::{sync::Arc, time::Duration};

use asynq_core::error::BrokerError;
use tokio::{sync::watch, time::timeout};

/// A connection that may end.
pub(crate) trait Mortal {
    /// Returns whether it has ended.
    fn is_over(&self) -> bool;
}

/// The state of the connection.
#[derive(Debug)]
pub(crate) enum State<W> {
    Up(Arc<W>),
    /// Down, with the error of the last attempt.
    Down(Option<Arc<BrokerError>>),
    Closed,
}

/// The connection of a link. Closed, it stays closed.
#[derive(Debug)]
pub(crate) struct Current<W>(watch::Sender<State<W>>);

impl<W: Mortal> Current<W> {
    pub(crate) fn new(live: Arc<W>) -> Self {
        Self(watch::Sender::new(State::Up(live)))
    }

    /// There is no connection yet.
    #[cfg(feature = "cluster")]
    pub(crate) fn none() -> Self {
        Self(watch::Sender::new(State::Down(None)))
    }

    /// The live connection, as soon as there is one; `None` once it is closed.
    #[cfg(feature = "cluster")]
    pub(crate) async fn until_up(&self) -> Option<Arc<W>> {
        let mut states = self.0.subscribe();
        let settled = states.wait_for(|state| match state {
            State::Up(live) => !live.is_over(),
            State::Down(_) => false,
            State::Closed => true,
        });
        match &*settled.await.ok()? {
            State::Up(live) => Some(Arc::clone(live)),
            State::Down(_) | State::Closed => None,
        }
    }

    /// The live connection, if there is one.
    pub(crate) fn live(&self) -> Result<Option<Arc<W>>, BrokerError> {
        match &*self.0.borrow() {
            State::Up(live) if !live.is_over() => Ok(Some(Arc::clone(live))),
            State::Up(_) | State::Down(_) => Ok(None),
            State::Closed => Err(BrokerError::Closed),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*self.0.borrow(), State::Closed)
    }

    /// The live connection; waits for one at most so long.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<Arc<W>, BrokerError> {
        if let Some(live) = self.live()? {
            return Ok(live);
        }
        let mut states = self.0.subscribe();
        let settled = states.wait_for(|state| match state {
            State::Up(live) => !live.is_over(),
            State::Down(_) => false,
            State::Closed => true,
        });
        // Errors cannot be: the sender is here.
        if let Ok(Ok(state)) = timeout(limit, settled).await
            && let State::Up(live) = &*state
        {
            return Ok(Arc::clone(live));
        }
        match &*self.0.borrow() {
            State::Closed => Err(BrokerError::Closed),
            State::Down(Some(cause)) => Err(BrokerError::unavailable(Arc::clone(cause))),
            _ => Err(BrokerError::unavailable(format!("no connection within {limit:?}"))),
        }
    }

    /// Changes the state unless it is closed.
    pub(crate) fn set(&self, to: State<W>) {
        self.0.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = to;
            }
            open
        });
    }

    /// Closes it for good. Returns the connection that was live, if one was.
    pub(crate) fn close(&self) -> Option<Arc<W>> {
        match self.0.send_replace(State::Closed) {
            State::Up(live) => Some(live),
            State::Down(_) | State::Closed => None,
        }
    }

    /// Returns the state in a word.
    pub(crate) fn describe(&self) -> &'static str {
        match &*self.0.borrow() {
            State::Up(_) => "up",
            State::Down(_) => "down",
            State::Closed => "closed",
        }
    }

    #[cfg(test)]
    pub(crate) fn subscribe(&self) -> watch::Receiver<State<W>> {
        self.0.subscribe()
    }
}
