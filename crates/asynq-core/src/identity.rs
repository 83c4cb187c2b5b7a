//! The identity of a server.

/// The identity of a server, which its keys are named after.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIdentity {
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// The server, a UUID v4.
    pub server_id: String,
}
