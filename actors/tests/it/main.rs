//! Integration tests of the runtime, on the embedded broker.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod adoption;
mod crash;
mod faults;
mod load;
mod maintenance;
mod stubborn;
mod supervisor;
mod system;
