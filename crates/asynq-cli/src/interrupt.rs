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

/// Waits for Ctrl-C, or where there are such signals for one that a terminal that closes or a service manager sends.
#[cfg(unix)]
pub(crate) async fn any() {
    use tokio::signal::unix::{SignalKind, signal};

    let next = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = next(SignalKind::terminate()) => {}
        () = next(SignalKind::hangup()) => {}
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn any() {
    let _ = tokio::signal::ctrl_c().await;
}
