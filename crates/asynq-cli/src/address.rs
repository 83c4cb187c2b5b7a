//! The address of a Redis and its login, from flags, the environment or the configuration.

use std::{collections::BTreeSet, env};

use asynq::{Connector as _, redis::RedisConnectionType};
use serde::Deserialize;

use crate::error::{CliError, Result};

/// The address of Go's program.
const DEFAULT_URI: &str = "127.0.0.1:6379";
/// The nodes of Go's program.
const DEFAULT_NODES: &str = "127.0.0.1:7000,127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003,127.0.0.1:7004,127.0.0.1:7005";

/// The values that name and open a Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Redis {
    pub(crate) uri: Option<String>,
    pub(crate) db: Option<u32>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) cluster: Option<bool>,
    pub(crate) cluster_addrs: Option<Addresses>,
    pub(crate) tls: Option<bool>,
    pub(crate) tls_server: Option<String>,
    pub(crate) insecure: Option<bool>,
}

/// Addresses of cluster nodes: a list, or a text with commas as in Go's file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Addresses {
    Text(String),
    List(Vec<String>),
}

impl Addresses {
    pub(crate) fn list(&self) -> Vec<String> {
        match self {
            Self::Text(text) => text.split(',').map(|address| address.trim().to_owned()).collect(),
            Self::List(list) => list.clone(),
        }
    }
}

impl Redis {
    /// Returns whether this names a server, and does not only say how to log in to it.
    pub(crate) fn is_address(&self) -> bool {
        self.uri.is_some() || self.cluster_addrs.is_some()
    }

    /// Returns whether two texts mean the same database, as far as they show it: other names of a host are not known, nor
    /// other nodes of a cluster.
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        let (own, others) = (self.databases(), other.databases());
        own.iter().any(|database| others.contains(database))
    }

    fn is_cluster(&self) -> bool {
        self.cluster
            .unwrap_or_else(|| self.cluster_addrs.is_some() && self.uri.is_none())
    }

    fn nodes(&self) -> Vec<String> {
        match &self.cluster_addrs {
            Some(nodes) => nodes.list(),
            None => DEFAULT_NODES.split(',').map(str::to_owned).collect(),
        }
    }

    /// The databases that are named, each in one form; none if the text is wrong.
    fn databases(&self) -> BTreeSet<String> {
        let described = |redis: &Self| connector(redis).map(|connector| connector.describe());
        let texts = match self.is_cluster() {
            true => self.nodes(),
            false => vec![self.uri.clone().unwrap_or_else(|| DEFAULT_URI.to_owned())],
        };
        let alone = |uri: String| Self {
            uri: Some(uri),
            db: self.db,
            ..Self::default()
        };
        texts
            .into_iter()
            .filter_map(|text| described(&alone(text)).ok())
            .map(|text| database_of(&text))
            .collect()
    }

    /// Takes from `other` what is not set here. An address that is set here brings its own login, so that no password goes
    /// to another server than the one it is for. TLS stays on.
    pub(crate) fn or(self, other: Self) -> Self {
        let other = match self.is_address() {
            true => Self {
                tls: other.tls,
                ..Self::default()
            },
            false => other,
        };
        self.filled_from(other)
    }

    /// Takes from `other` what is not set here.
    pub(crate) fn filled_from(self, other: Self) -> Self {
        let other = match self.is_address() {
            true => Self {
                uri: None,
                cluster: None,
                cluster_addrs: None,
                ..other
            },
            false => other,
        };
        Self {
            uri: self.uri.or(other.uri),
            db: self.db.or(other.db),
            username: self.username.or(other.username),
            password: self.password.or(other.password),
            cluster: self.cluster.or(other.cluster),
            cluster_addrs: self.cluster_addrs.or(other.cluster_addrs),
            tls: self.tls.or(other.tls),
            tls_server: self.tls_server.or(other.tls_server),
            insecure: self.insecure.or(other.insecure),
        }
    }

    /// Reads the environment: `ASYNQ_URI` and so on, and the names of Go's program, `URI` and so on. The latter are common
    /// words: they do not count beside an address of ours, and a value that makes no sense is ignored.
    pub(crate) fn from_env() -> Result<Self> {
        let own = Self::from_variables("ASYNQ_")?;
        let common = Self::from_variables("").unwrap_or_default();
        Ok(match own.is_address() {
            true => own,
            false => own.filled_from(common),
        })
    }

    fn from_variables(prefix: &str) -> Result<Self> {
        let text = |name: &str| {
            env::var(format!("{prefix}{name}"))
                .ok()
                .filter(|value| !value.is_empty())
        };
        let is_strict = !prefix.is_empty();
        let flag = |name: &str| match text(name) {
            None => Ok(None),
            Some(value) => match value.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" | "yes" => Ok(Some(true)),
                "0" | "f" | "false" | "no" => Ok(Some(false)),
                _ if !is_strict => Ok(None),
                _ => Err(CliError::usage(format!(
                    "environment variable {prefix}{name} is {value:?}, must be true or false"
                ))),
            },
        };
        let db = match text("DB").map(|value| (value.parse().ok(), value)) {
            None => None,
            Some((Some(db), _)) => Some(db),
            Some((None, _)) if !is_strict => None,
            Some((None, value)) => {
                return Err(CliError::usage(format!(
                    "environment variable {prefix}DB is {value:?}, must be the number of a database"
                )));
            }
        };
        let password = text("PASSWORD");
        Ok(Self {
            uri: text("URI"),
            db,
            // Desktops set USERNAME to that of the person. Go ignores it without a password, too.
            username: text("USERNAME").filter(|_| password.is_some() || is_strict),
            password,
            cluster: flag("CLUSTER")?,
            cluster_addrs: text("CLUSTER_ADDRS").map(Addresses::Text),
            tls: flag("TLS")?,
            tls_server: text("TLS_SERVER"),
            insecure: flag("INSECURE")?,
        })
    }
}

/// Returns what opens the Redis that is named.
///
/// # Errors
/// [`Status::Usage`](crate::error::Status::Usage) says what is wrong. No password is shown.
pub(crate) fn connector(redis: &Redis) -> Result<RedisConnectionType> {
    let uri = redis.uri.as_deref().unwrap_or(DEFAULT_URI);
    let mut connection = if redis.is_cluster() {
        RedisConnectionType::cluster(redis.nodes())?
    } else if uri.starts_with("redis-sentinel://") {
        RedisConnectionType::sentinel_uri(uri)?
    } else {
        RedisConnectionType::single(uri)?
    };
    if let Some(db) = redis.db {
        connection = connection.db(db);
    }
    if let Some(username) = &redis.username {
        connection = connection.username(username);
    }
    if let Some(password) = &redis.password {
        connection = connection.password(password);
    }
    if let Some(name) = redis.tls_server.as_ref().filter(|name| !name.is_empty()) {
        connection = connection.tls_server_name(name);
    } else if redis.tls == Some(true) {
        connection = connection.tls();
    }
    let is_tls = redis.tls == Some(true) || redis.tls_server.is_some() || uri.starts_with("rediss://");
    if redis.insecure == Some(true) && is_tls {
        connection = connection.tls_insecure();
    }
    Ok(connection.client_name("asynq-cli"))
}

/// The database in the description of a connection: without the scheme and the names of this machine.
fn database_of(description: &str) -> String {
    let database = description.split_once("://").map_or(description, |(_, rest)| rest);
    let database = database.to_ascii_lowercase();
    for name in ["localhost:", "[::1]:"] {
        if let Some(rest) = database.strip_prefix(name) {
            return format!("127.0.0.1:{rest}");
        }
    }
    database
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(uri: &str) -> Redis {
        Redis {
            uri: Some(uri.to_owned()),
            ..Redis::default()
        }
    }

    #[test]
    fn one_database_is_known_by_its_names() {
        let names = [
            "127.0.0.1:6379",
            "localhost",
            "LOCALHOST:6379",
            "redis://ann:pw@localhost",
            "rediss://127.0.0.1:6379/0",
            "redis://[::1]:6379",
        ];
        for one in names {
            assert!(at(one).is_at(&Redis::default()), "{one}: the default");
            for other in names {
                assert!(at(one).is_at(&at(other)), "{one} {other}");
            }
        }
        for other in [
            "127.0.0.1:6380",
            "10.0.0.1",
            "redis-socket:///tmp/redis.sock",
            "localhost:6379/1",
        ] {
            assert!(!at(other).is_at(&Redis::default()), "{other}");
        }
        let second = Redis {
            db: Some(2),
            ..at("redis-socket:///tmp/a.sock")
        };
        assert!(second.is_at(&at("unix:///tmp/a.sock?db=2")));
        assert!(!second.is_at(&at("unix:///tmp/a.sock")));
    }

    #[test]
    fn an_address_brings_its_own_login_and_keeps_tls() {
        let base = Redis {
            password: Some("secret".to_owned()),
            tls: Some(true),
            cluster: Some(true),
            cluster_addrs: Some(Addresses::Text("a:1".to_owned())),
            ..Redis::default()
        };
        let other = at("b:1").or(base.clone());
        assert!(!other.is_cluster());
        assert_eq!((other.password, other.tls), (None, Some(true)));
        let cluster = Redis {
            cluster: Some(true),
            ..Redis::default()
        };
        assert_eq!(cluster.or(base).nodes(), ["a:1"]);
        let both = Redis {
            uri: Some("b:1".to_owned()),
            cluster_addrs: Some(Addresses::Text("a:1".to_owned())),
            ..Redis::default()
        };
        assert!(!both.is_cluster(), "as with Go's program");
    }

    #[test]
    fn a_cluster_is_known_by_any_of_its_nodes() {
        let cluster = |nodes: &str| Redis {
            cluster_addrs: Some(Addresses::Text(nodes.to_owned())),
            ..Redis::default()
        };
        assert!(cluster("a:1,b:2").is_at(&cluster("b:2,c:3")));
        assert!(cluster("a:1,b:2").is_at(&at("redis://a:1")));
        assert!(!cluster("a:1").is_at(&cluster("a:2")));
    }
}
