//! The host name, which distinguishes servers and schedulers in inspectors.

/// Returns the host's name, or Go's word for an unknown one.
pub(crate) fn host() -> String {
    let name = hostname::get().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "unknown-host".to_owned())
}
