//! The addresses of a cluster's nodes.

use asynq_core::error::BrokerError;

use super::invalid;
use crate::link::settings::{Address, Settings};

/// Returns what the nodes have in common, with the address of the first one, and all addresses.
pub(crate) fn parse(
    inputs: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<(Settings, Vec<Address>), BrokerError> {
    let mut first: Option<Settings> = None;
    let mut addresses = Vec::new();
    for (place, input) in inputs.into_iter().enumerate() {
        let fault = |reason: &str| invalid(format!("nodes[{place}]: {reason}"));
        let node = super::parse(input.as_ref()).map_err(|error| match error {
            BrokerError::InvalidConnection { reason } => fault(&reason),
            other => other,
        })?;
        if matches!(node.address, Address::Unix(_)) {
            return Err(fault("a node of a cluster is reached by TCP"));
        }
        if node.db != 0 {
            return Err(fault("a cluster has only database 0"));
        }
        if let Some(first) = &first {
            if node.uses_tls() != first.uses_tls() {
                return Err(fault("either all nodes have TLS or none"));
            }
            if node.login() != first.login() {
                return Err(fault("all nodes have the same user and password"));
            }
            if node.resp3 != first.resp3 {
                return Err(fault("all nodes speak the same protocol"));
            }
        }
        addresses.push(node.address.clone());
        first.get_or_insert(node);
    }
    first
        .map(|common| (common, addresses))
        .ok_or_else(|| invalid("nodes: at least one address is needed"))
}
