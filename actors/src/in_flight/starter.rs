//! The starter: starts the runs of tasks where the answer arrives that brought them, so that none waits until the
//! processor has its turn.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use crate::in_flight::table::Start;

/// Starts runs. It outlives the actors, as the calls do.
pub(crate) trait StartRuns: Send + Sync + 'static {
    /// Starts the runs of tasks that may now be run.
    fn start_runs(self: Arc<Self>, starts: Vec<Start>);
}

/// Whoever starts runs, once it is known. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Starter(Arc<OnceLock<Weak<dyn StartRuns>>>);

impl Starter {
    /// Names who starts runs; the first one stands.
    pub(crate) fn is(&self, starter: &Arc<impl StartRuns>) {
        let starter: Weak<dyn StartRuns> = Arc::downgrade(starter) as _;
        let _ = self.0.set(starter);
    }

    /// Returns who starts runs; `None` where nobody does, and the tasks wait for a processor.
    pub(crate) fn get(&self) -> Option<Arc<dyn StartRuns>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starter")
    }
}
