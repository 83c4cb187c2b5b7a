//! The ends of systems.

use crate::supervision::supervisor::SupervisorError;

/// The end of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The system was stopped, and its children in order.
    Stopped,
    /// A supervisor gave up.
    Failed(SupervisorError),
    /// The root was killed: by the end of the actor to which it is linked, or because it did not end in time.
    Killed,
}
