//! Connection settings of a program.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use asynq_core::{BrokerError, Connector, Env, Storage, error::Result};

use crate::{
    RedisBroker,
    link::{
        Link,
        settings::{Secret, Settings},
    },
    links::Links,
    uri,
};

/// A Redis to connect to: its address or addresses, credentials and limits. A [`Connector`]: give it to a client, a
/// server or an actor system. `Debug` and [`describe`](Connector::describe) show no password.
///
/// ```
/// use asynq::redis::RedisConnectionType;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisConnectionType::single("redis://127.0.0.1:6379/2")?.connect_timeout(Duration::from_secs(2));
/// # let _ = redis;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisConnectionType {
    topology: Topology,
}

#[derive(Clone)]
enum Topology {
    /// One server, perhaps the one that sentinels call the master.
    Single(Settings),
    #[cfg(feature = "cluster")]
    Cluster {
        /// Settings that all nodes have in common; the address is that of the first one.
        common: Settings,
        nodes: Vec<crate::link::settings::Address>,
    },
}

impl Topology {
    fn settings_mut(&mut self) -> &mut Settings {
        match self {
            Self::Single(settings) => settings,
            #[cfg(feature = "cluster")]
            Self::Cluster { common, .. } => common,
        }
    }
}

impl fmt::Debug for RedisConnectionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topology {
            Topology::Single(settings) => f.debug_tuple("Single").field(settings).finish(),
            #[cfg(feature = "cluster")]
            Topology::Cluster { common, nodes } => f
                .debug_struct("Cluster")
                .field("nodes", nodes)
                .field("common", common)
                .finish(),
        }
    }
}

impl RedisConnectionType {
    /// A single server. The forms are those of Go asynq and a few more:
    ///
    /// | form | meaning |
    /// | --- | --- |
    /// | `redis://[user:password@]host[:port][/db]` | TCP; the port is 6379 and the database 0 unless given |
    /// | `rediss://…` | the same with TLS; needs the feature `tls` |
    /// | `redis-socket://[user:password@]/path[?db=n]` | a unix socket; `unix://` means the same |
    /// | `host:port` | as Go's `RedisClientOpt.Addr`; an empty host is localhost |
    ///
    /// IPv6 addresses stand in brackets. In user and password, `/ ? # @ %` are percent-encoded. `?db=n` is
    /// understood in each URI, and `?protocol=2` keeps to RESP2, at the price of polling.
    ///
    /// Unlike in Go, a user in the URI counts (Redis ACL), provided there is a password too; and a lone `/`
    /// after the host is no error.
    ///
    /// # Connections
    /// A client begins with one connection and a server has four: the main one; a control connection, for small
    /// calls that must not wait behind data, such as the extension of leases; and one each for wake-ups and cancel
    /// requests. The first message or result of 256 KiB or more adds a data connection, and a client's first
    /// [`ping`](asynq_core::Broker::ping) or cancel request a control connection. In a cluster, main, control
    /// and data connections are those of each node. All log in alike, and each is watched over by itself.
    ///
    /// So small enqueues do not wait for the bytes of a large message, and may be carried out before one that was
    /// sent before them. Takes and outcomes share the main connection: there a large task holds up those of the same
    /// server for as long as its bytes need, but no lease.
    ///
    /// # Errors
    /// [`BrokerError::InvalidConnection`] says what is wrong. It
    /// never shows a password. Nothing is connected yet.
    pub fn single(address: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            topology: Topology::Single(uri::parse(address.as_ref())?),
        })
    }

    /// A cluster: the addresses of some of its nodes, in the forms of [`single`](Self::single) that mean TCP.
    /// One that lives is enough; the others are found. User, password and `protocol` are the same for all.
    ///
    /// Queues are spread over the nodes by their names. A node that does not answer costs its own queues only, see
    /// [`node_timeout`](Self::node_timeout); they go on as soon as a replica has taken its place. There are no
    /// wake-ups in a cluster yet: servers poll at their check intervals. There is no TLS yet.
    ///
    /// # Errors
    /// [`BrokerError::InvalidConnection`] names the entry, as `nodes[1]`, and what is wrong with it: its address,
    /// a database, another login, protocol or TLS mode than the entries before. Nothing is connected yet.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynq::redis::RedisConnectionType;
    ///
    /// let redis = RedisConnectionType::cluster(["redis://10.0.0.1:6379", "redis://10.0.0.2:6379"])?;
    /// # let _ = redis;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "cluster")]
    pub fn cluster(nodes: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        let (common, nodes) = uri::nodes::parse(nodes)?;
        Ok(Self {
            topology: Topology::Cluster { common, nodes },
        })
    }

    /// The server that sentinels call `master`. All are asked at once before a connection is made, and the one
    /// that knows of the latest failover counts; a server that does not itself say that it is a master is not
    /// used.
    ///
    /// A failover is followed as soon as a sentinel tells of it, typically within a few 100 ms, also where the
    /// old master neither answers nor ends its connections. While calls have waited for 1 s without a byte, the
    /// sentinels are asked every 300 ms besides. Calls that were under way are ambiguous then: an enqueue is
    /// sent again to the new master, within [`enqueue_timeout`](asynq_core::ClientConfig::enqueue_timeout).
    /// How long a failover itself takes is up to the sentinels (`down-after-milliseconds`). Name all of them, so
    /// that one that is silent holds nothing up. One connection stays open to each.
    ///
    /// The addresses have the forms of
    /// [`single`](Self::single) that mean TCP; the port is 26379 unless given, and user and password are those
    /// of the sentinels, the same for all. Those of the master are said with [`username`](Self::username) and
    /// [`password`](Self::password), its database with [`db`](Self::db). There is no TLS yet.
    ///
    /// # Errors
    /// [`BrokerError::InvalidConnection`] names what is wrong: `master`, or the entry, as `sentinels[1]`.
    /// Nothing is connected yet.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynq::redis::RedisConnectionType;
    ///
    /// let redis = RedisConnectionType::sentinel("mymaster", ["10.0.0.1:26379", "10.0.0.2:26379"])?
    ///     .password("of the master")
    ///     .db(2);
    /// # let _ = redis;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "sentinel")]
    pub fn sentinel(master: impl AsRef<str>, sentinels: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self> {
        Ok(Self {
            topology: Topology::Single(uri::sentinels::parse(master.as_ref(), sentinels)?),
        })
    }

    /// [`sentinel`](Self::sentinel) in the form of Go asynq:
    /// `redis-sentinel://[[user]:password@]host[:port][,host[:port]…][/db]?master=NAME`. User and password are those
    /// of the sentinels. `?protocol=2` keeps to RESP2.
    ///
    /// # Errors
    /// As [`sentinel`](Self::sentinel). No password is shown.
    #[cfg(feature = "sentinel")]
    pub fn sentinel_uri(uri: impl AsRef<str>) -> Result<Self> {
        Ok(Self {
            topology: Topology::Single(uri::sentinels::parse_uri(uri.as_ref())?),
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.topology.settings_mut());
        self
    }

    /// The ACL user; default: the user `default`. Without [`password`](Self::password) it logs in with an
    /// empty one, which users with `nopass` accept.
    pub fn username(self, username: impl Into<String>) -> Self {
        let username = username.into();
        self.with(|settings| settings.username = (!username.is_empty()).then_some(username))
    }

    /// The password, as it is (not percent-encoded); default: none. An empty one means none.
    pub fn password(self, password: impl Into<String>) -> Self {
        let password = password.into();
        self.with(|settings| settings.password = (!password.is_empty()).then_some(Secret(password)))
    }

    /// The number of the database; default: 0, the only one of a cluster. What the server allows shows on
    /// connecting. Note that cancellations are published to all databases of a server, as in Go.
    pub fn db(self, db: u32) -> Self {
        self.with(|settings| settings.db = db)
    }

    /// Sets what `CLIENT LIST` shows for our connections; default: `asynq`. Empty: no name. A name has no spaces.
    pub fn client_name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.with(|settings| settings.client_name = (!name.is_empty()).then_some(name))
    }

    /// The limit for making a connection, greeting included; default: 5 s, as in Go.
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = limit)
    }

    /// Sets how long a call waits for a connection while there is none; default: 1 s. Then it answers
    /// [`BrokerError::Unavailable`]. There is no limit for an answer (Go: 3 s): a call ends with it or with
    /// its connection, see [`ping_timeout`](Self::ping_timeout).
    pub fn wait_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.wait_timeout = limit)
    }

    /// Sets how long a node of a cluster may leave calls without answer while nothing else comes from it either;
    /// default: 1 s, at least 100 ms. Then they are ambiguous, and until it answers again, new calls to it
    /// answer [`BrokerError::Unavailable`]: after the [`wait_timeout`](Self::wait_timeout) at first, later at
    /// once. So a batch or an exchange over queues on several nodes waits no longer than this for a silent one.
    #[cfg(feature = "cluster")]
    pub fn node_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.node_timeout = limit)
    }

    /// Sets how long a server may be silent on all connections while a call waits for its answer; default: 15 s.
    /// Then the connection is given up, its open calls are ambiguous, and a new one is made. Longer than any
    /// script may run.
    ///
    /// A single connection that is dead, while the server answers on a new one, is given up after 3 s without a
    /// byte for its oldest call, whatever this limit is. An idle connection is asked for a sign of life after
    /// 5 s, so it is replaced within 9 s. Bytes that move count as answers: a large message on a slow way is not
    /// cut short.
    pub fn ping_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.pace.ping_timeout = limit)
    }
}

impl RedisBroker {
    /// Connects, with the system's clock and randomness.
    ///
    /// # Errors
    /// As [`Connector::connect`](asynq_core::Connector::connect): the server cannot be reached, or
    /// it does not let us in.
    ///
    /// # Cancel safety
    /// Safe: dropping the future drops the half-open connection.
    ///
    /// ```no_run
    /// # async fn connect() -> asynq::Result<()> {
    /// use asynq::redis::{RedisBroker, RedisConnectionType};
    ///
    /// let broker = RedisBroker::new(RedisConnectionType::single("redis://127.0.0.1:6379")?).await?;
    /// # let _ = broker;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new(connection: RedisConnectionType) -> Result<Self> {
        Ok(connection.open(Env::default()).await?)
    }
}

impl RedisConnectionType {
    /// Connects.
    pub(crate) async fn open(&self, env: Env) -> Result<RedisBroker, BrokerError> {
        match &self.topology {
            Topology::Single(settings) => {
                let link = Link::open(settings.clone(), env).await?;
                Ok(RedisBroker::from_links(Links::One(link)))
            }
            #[cfg(feature = "cluster")]
            Topology::Cluster { common, nodes } => {
                let cluster = crate::cluster::Cluster::open(common.clone(), nodes.clone(), env).await?;
                Ok(RedisBroker::from_links(Links::Cluster(cluster)))
            }
        }
    }
}

#[async_trait]
impl Connector for RedisConnectionType {
    async fn connect(&self, env: Env) -> Result<Arc<dyn Storage>, BrokerError> {
        Ok(Arc::new(self.open(env).await?))
    }

    fn describe(&self) -> String {
        match &self.topology {
            Topology::Single(settings) => settings.to_string(),
            #[cfg(feature = "cluster")]
            Topology::Cluster { common, nodes } => crate::cluster::describe(common, nodes),
        }
    }
}

/// TLS. Each of these settings turns it on.
#[cfg(feature = "tls")]
impl RedisConnectionType {
    fn with_tls<E>(mut self, change: impl FnOnce(&mut crate::link::tls::Tls) -> Result<(), E>) -> Result<Self, E> {
        change(self.topology.settings_mut().tls.get_or_insert_default())?;
        Ok(self)
    }

    fn with_tls_setting(self, change: impl FnOnce(&mut crate::link::tls::Tls)) -> Self {
        self.with(|settings| change(settings.tls.get_or_insert_default()))
    }

    /// Uses TLS with the certificates that the system trusts, as `rediss://` does.
    pub fn tls(self) -> Self {
        self.with_tls_setting(|_| ())
    }

    /// Trusts the certificates in this PEM text, and those of earlier calls, instead of those that the system
    /// trusts.
    ///
    /// # Errors
    /// [`BrokerError::InvalidConnection`] if there is none in it.
    pub fn tls_root_certificate(self, pem: impl AsRef<[u8]>) -> Result<Self> {
        Ok(self.with_tls(|tls| tls.trust(pem.as_ref()))?)
    }

    /// Shows this certificate (PEM, the leaf first) to the server; redis-server asks for one unless it is told
    /// `tls-auth-clients no`.
    ///
    /// # Errors
    /// [`BrokerError::InvalidConnection`] if one of them cannot be
    /// read. The key is not shown.
    pub fn tls_client_certificate(self, chain_pem: impl AsRef<[u8]>, key_pem: impl AsRef<[u8]>) -> Result<Self> {
        Ok(self.with_tls(|tls| tls.identify(chain_pem.as_ref(), key_pem.as_ref()))?)
    }

    /// The name that must be in the server's certificate; default: the host of the address.
    pub fn tls_server_name(self, name: impl Into<String>) -> Self {
        self.with_tls_setting(|tls| tls.expect_name(name.into()))
    }

    /// Accepts any certificate: whoever stands between may read and change everything. For trials.
    pub fn tls_insecure(self) -> Self {
        self.with_tls_setting(crate::link::tls::Tls::trust_anyone)
    }
}
