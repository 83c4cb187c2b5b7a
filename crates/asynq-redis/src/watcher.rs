//! Wake-ups: the server tells when a key changes (rules.md#watches-only-read and rules.md#watches-are-proven).
//!
//! Watches live on a connection that never writes, with `CLIENT TRACKING ON OPTIN` and without
//! NOLOOP, so that our own writes on the other connection wake us too. A probe is a script that
//! only reads; `CLIENT CACHING YES` in front of it, in the same write, makes the server remember the
//! keys that it declares, atomically with the look. Each such connection proves itself once before
//! anyone relies on it. When it is lost, so are all watches on it.

mod board;
mod tracking;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use self::board::Board;
use crate::link::{script::Script, wire::Wire};

/// A look that finds nothing (0) or something (any other number).
#[derive(Debug)]
pub(crate) struct Probe {
    /// Only reads, and declares exactly the keys it reads.
    pub(crate) script: &'static Script,
    /// The watched keys.
    pub(crate) keys: Vec<Vec<u8>>,
    /// Passed on.
    pub(crate) args: Vec<Vec<u8>>,
}

/// The watches of a link.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    live: Mutex<Option<Arc<Tracking>>>,
    /// One at a time makes the connection. Holds the last refusal.
    opening: tokio::sync::Mutex<Option<(Instant, &'static str)>>,
}

/// A connection that is told of changes.
#[derive(Debug)]
struct Tracking {
    wire: Wire,
    board: Arc<Board>,
}

impl Watcher {
    /// Ends the connection and with it all watches.
    pub(crate) fn close(&self) {
        self.slot().take();
    }

    /// Ends all watches; what is known of the server does not count any more.
    pub(crate) fn begin_anew(&self) {
        self.close();
        // Held only while somebody is finding out right now.
        if let Ok(mut refusal) = self.opening.try_lock() {
            *refusal = None;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Tracking>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
