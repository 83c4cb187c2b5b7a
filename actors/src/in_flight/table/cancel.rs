//! A cancel token with a reason.

use std::sync::{Arc, atomic::Ordering};

use tokio_util::sync::CancellationToken;

use super::validity::{Shared, Validity};

/// A reason for which a run is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CancelReason {
    /// Somebody asked for it.
    Requested = 1,
    /// The server shuts down.
    Shutdown = 2,
    /// The task is no longer ours.
    LeaseLost = 3,
}

/// A cancel token with a reason. The first reason stands, but for the loss of the lease.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel {
    pub(crate) token: CancellationToken,
    shared: Arc<Shared>,
}

impl Cancel {
    /// Makes a token for the task with this lease.
    pub(super) fn beside(valid: &Validity) -> Self {
        Self {
            token: CancellationToken::new(),
            shared: Arc::clone(&valid.shared),
        }
    }

    pub(crate) fn cancel(&self, reason: CancelReason) {
        if reason == CancelReason::LeaseLost {
            self.shared.reason.store(reason as u8, Ordering::Release);
        } else {
            let _ = self
                .shared
                .reason
                .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        }
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<CancelReason> {
        match self.shared.reason.load(Ordering::Acquire) {
            1 => Some(CancelReason::Requested),
            2 => Some(CancelReason::Shutdown),
            3 => Some(CancelReason::LeaseLost),
            _ => None,
        }
    }
}
