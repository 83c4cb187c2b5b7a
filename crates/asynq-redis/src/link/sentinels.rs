//! Who the master is, told by sentinels.
//!
//! They are asked, by the redis crate's client, before each connection is made. So a connection that
//! is lost, or whose server turns out to be read-only, is followed by one to the master of that moment.

use std::fmt;

use asynq_core::error::BrokerError;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
    sentinel::{Sentinel, SentinelNodeConnectionInfo},
};

use super::settings::{Secret, Settings, login_of};
use crate::failure::classify;

/// The sentinels that watch a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentinels {
    /// What they call the master.
    pub(crate) master: String,
    /// Hosts (IPv6 without brackets) and ports, at least one.
    pub(crate) nodes: Vec<(String, u16)>,
    /// `None`: the default user.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl Sentinels {
    /// The host and port of the master. It has said itself that it is one.
    pub(crate) async fn find_master(&self, settings: &Settings) -> Result<(String, u16), BrokerError> {
        if settings.uses_tls() {
            return Err(BrokerError::InvalidConnection {
                reason: "TLS is not to be had behind sentinels yet".to_owned(),
            });
        }
        let of_sentinels = login_of(self.username.as_deref(), self.password.as_ref());
        let nodes: RedisResult<Vec<ConnectionInfo>> = self
            .nodes
            .iter()
            .map(|(host, port)| {
                let node = ConnectionAddr::Tcp(host.clone(), *port).into_connection_info()?;
                Ok(node.set_redis_settings(with_login(of_sentinels)))
            })
            .collect();
        let mut sentinels = nodes.and_then(Sentinel::build).map_err(unsent)?;
        let of_master = SentinelNodeConnectionInfo::default().set_redis_connection_info(with_login(settings.login()));
        let master = sentinels.async_master_for(&self.master, Some(&of_master)).await;
        match master.map_err(unsent)?.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => Ok((host.clone(), *port)),
            other => Err(BrokerError::unavailable(format!("the master is at {other}"))),
        }
    }
}

fn unsent(error: RedisError) -> BrokerError {
    classify(error, false)
}

/// In RESP2, which every server speaks, and without a name of the library.
fn with_login(login: Option<(&str, &str)>) -> RedisConnectionInfo {
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    match login {
        Some((user, password)) => info.set_username(user).set_password(password),
        None => info,
    }
}

impl fmt::Display for Sentinels {
    /// Their addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (host, port)) in self.nodes.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        Ok(())
    }
}
