//! Settings of a connection.

use std::{fmt, path::PathBuf, time::Duration};

/// A text that never shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The way to one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host name or IP address (v6 without brackets), and port.
    Tcp { host: String, port: u16 },
    /// A unix socket.
    Unix(PathBuf),
    /// Whatever server the sentinels call the master when a connection is made.
    #[cfg(feature = "sentinel")]
    Master(std::sync::Arc<Sentinels>),
}

/// Times after which a connection counts as slow, silent and dead.
///
/// Silence of a connection counts from the last byte that moved, or from when the oldest call was sent that
/// has no answer, whichever is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Interval at which a connection is looked at.
    pub(crate) tick: Duration,
    /// Time after which a call without answer is reported.
    pub(crate) slow: Duration,
    /// Time without traffic on an idle connection after which a PING is sent on it.
    pub(crate) ping_after: Duration,
    /// Silence after which the server is asked on another connection.
    pub(crate) check_after: Duration,
    /// Silence after which the connection is given up if the server answers on another one.
    pub(crate) dead_after: Duration,
    /// Silence after which the connection is given up if the server answers on none.
    pub(crate) ping_timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(250),
            slow: Duration::from_secs(1),
            ping_after: Duration::from_secs(5),
            check_after: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            ping_timeout: Duration::from_secs(15),
        }
    }
}

#[cfg(feature = "sentinel")]
/// The sentinels that watch a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentinels {
    /// The sentinels' name of the master.
    pub(crate) master: String,
    /// Hosts (IPv6 without brackets) and ports, at least one.
    pub(crate) nodes: Vec<(String, u16)>,
    /// `None`: the default user.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

#[cfg(feature = "sentinel")]
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

/// The settings of a [`Link`](super::Link) to one server.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    /// `None`: the default user.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) db: u32,
    /// Name in `CLIENT LIST`.
    pub(crate) client_name: Option<String>,
    /// Ask for RESP3. Without it there are no watches.
    pub(crate) resp3: bool,
    /// The limit for making a connection, greeting included.
    pub(crate) connect_timeout: Duration,
    /// Time for which a call waits for a connection while there is none.
    pub(crate) wait_timeout: Duration,
    pub(crate) pace: Pace,
    /// Time for which a node of a cluster may leave calls without answer.
    #[cfg(feature = "cluster")]
    pub(crate) node_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<super::tls::Tls>,
}

impl Settings {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            username: None,
            password: None,
            db: 0,
            client_name: Some("asynq".to_owned()),
            resp3: true,
            connect_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(1),
            pace: Pace::default(),
            #[cfg(feature = "cluster")]
            node_timeout: Duration::from_secs(1),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// User and password to log in with; `None`: not at all. A user without password is logged
    /// in with an empty one, a password without user is that of the default user.
    pub(crate) fn login(&self) -> Option<(&str, &str)> {
        login_of(self.username.as_deref(), self.password.as_ref())
    }

    /// Returns whether the connection is encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// See [`Settings::login`].
pub(crate) fn login_of<'s>(username: Option<&'s str>, password: Option<&'s Secret>) -> Option<(&'s str, &'s str)> {
    match (username, password.map(|password| password.0.as_str())) {
        (None, None) => None,
        (user, password) => Some((user.unwrap_or("default"), password.unwrap_or_default())),
    }
}

impl fmt::Display for Settings {
    /// Writes a URI without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.uses_tls() { "rediss" } else { "redis" };
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}/{}", self.db),
            Address::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}/{}", self.db),
            Address::Unix(path) => write!(f, "redis-socket://{}?db={}", path.display(), self.db),
            #[cfg(feature = "sentinel")]
            Address::Master(sentinels) => {
                let (db, master) = (self.db, &sentinels.master);
                write!(f, "redis-sentinel://{sentinels}/{db}?master={master}")
            }
        }
    }
}
