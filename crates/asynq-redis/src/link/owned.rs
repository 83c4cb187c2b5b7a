//! Background tasks that end with their owner.

use std::future::Future;

use tokio::task::AbortHandle;

/// A running task; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Owned(AbortHandle);

impl Owned {
    /// Starts `work`.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the value returned owns the task and ends it when dropped"
        )]
        Self(tokio::spawn(work).abort_handle())
    }

    /// Ends it from elsewhere.
    pub(crate) fn handle(&self) -> AbortHandle {
        self.0.clone()
    }

    /// Ends it now.
    pub(crate) fn abort(&self) {
        self.0.abort();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
