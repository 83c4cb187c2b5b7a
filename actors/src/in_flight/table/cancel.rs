//! A cancel token with a reason.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio_util::sync::CancellationToken;

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
    reason: Arc<AtomicU8>,
}

impl Cancel {
    pub(crate) fn cancel(&self, reason: CancelReason) {
        if reason == CancelReason::LeaseLost {
            self.reason.store(reason as u8, Ordering::Release);
        } else {
            let _ = self
                .reason
                .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire);
        }
        self.token.cancel();
    }

    pub(crate) fn reason(&self) -> Option<CancelReason> {
        match self.reason.load(Ordering::Acquire) {
            1 => Some(CancelReason::Requested),
            2 => Some(CancelReason::Shutdown),
            3 => Some(CancelReason::LeaseLost),
            _ => None,
        }
    }
}
