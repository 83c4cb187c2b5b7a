//! Supervision in OTP's terms, and the tools that supervised actors share.

pub(crate) mod branch;
pub(crate) mod chore;
pub(crate) mod crash;
pub(crate) mod shutdown_budget;
pub(crate) mod supervised_ref;
pub mod supervisor;
pub(crate) mod timer;
pub(crate) mod tree;
