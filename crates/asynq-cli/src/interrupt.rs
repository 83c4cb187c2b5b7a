//! Ctrl-C during an act, and other signals that ask for the end.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
};

/// Set once the act is to end.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Carries out an act. The first Ctrl-C sets the stop, and the act goes on to the next place where it can end, so that it
    /// knows what it has done. Another Ctrl-C gives it up, as Redis may not answer: the answer is `None`.
    pub(crate) async fn guard<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        let mut act = pin!(act);
        tokio::select! {
            // First, so that nothing is written before it is heard.
            biased;
            _ = tokio::signal::ctrl_c() => self.0.store(true, Ordering::Relaxed),
            done = &mut act => return Some(done),
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => None,
            done = &mut act => Some(done),
        }
    }
}

/// Waits for Ctrl-C, or where there are such signals for one that a terminal that closes or a service manager sends. From this call on
/// they do not end the program by themselves.
#[cfg(unix)]
pub(crate) fn any() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};

    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    async move {
        let received = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
        // Without a signal there is nothing to wait for.
        match received.len() {
            0 => std::future::pending().await,
            _ => drop(futures::future::select_all(received).await),
        }
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn any() -> impl Future<Output = ()> {
    async { drop(tokio::signal::ctrl_c().await) }
}
