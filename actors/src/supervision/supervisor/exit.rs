//! The ends of supervisors.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// A reason why a supervisor ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A child needed more restarts than the intensity allows.
    #[error("{supervisor}: more than {restarts} restarts in {within:?}, last {child}: {failure}")]
    IntensityExceeded {
        /// The supervisor's path.
        supervisor: String,
        /// The child that ended last.
        child: String,
        /// The failure of the child.
        failure: String,
        /// The limit.
        restarts: u32,
        /// The time it counts for.
        within: Duration,
    },
    /// A child could not be started the first time.
    #[error("{supervisor}: start of {child} failed: {failure}")]
    StartFailed {
        /// The supervisor's path.
        supervisor: String,
        /// The child.
        child: String,
        /// The reason.
        failure: String,
    },
    /// Two children have the same name. Nothing was started.
    #[error("{supervisor}: there are two children {child}")]
    DuplicateChild {
        /// The supervisor's path.
        supervisor: String,
        /// Their name.
        child: String,
    },
}

/// A cell in which a supervisor stores its end; empty after a kill.
pub type ExitCell = Arc<OnceLock<Result<(), SupervisorError>>>;
