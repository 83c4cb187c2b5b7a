//! The connections to the nodes of a cluster: one generation of the redis crate's client.

use asynq_core::{broker::Env, error::BrokerError, keys};
use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError, RedisResult, ServerError, ServerErrorKind, Value,
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
    io::tcp::TcpSettings,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    clock_sync::Timekeeper,
    failure::{ErrorReply, classify, split},
    link::{
        calls::Calls,
        current::Mortal,
        settings::{Address, Pace, Settings},
        socket,
    },
};

/// Where a command is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The master of a slot.
    Slot(Route),
    /// Whichever master.
    AnyMaster,
    /// Each master; the answer is one of theirs, or what went wrong with any.
    AllMasters,
    /// The node to which a slot is on its way, asked once.
    Asked {
        host: String,
        port: u16,
        /// Where to go from there.
        key_of: Box<Target>,
    },
}

impl Target {
    pub(super) fn of_key(key: &[u8]) -> Self {
        Self::Slot(Route::with_key(key, SlotAddr::Master))
    }

    /// Where an ASK reply points: `slot host:port`.
    pub(super) fn asked(reply: &str) -> Option<Self> {
        let (slot, address) = reply.split_once(' ')?;
        let slot = redis::cluster_routing::Slot::new(slot.parse().ok()?)?;
        let (host, port) = address.rsplit_once(':')?;
        Some(Self::Asked {
            host: host.to_owned(),
            port: port.parse().ok()?,
            key_of: Box::new(Self::Slot(Route::with_slot(slot, SlotAddr::Master))),
        })
    }
}

/// The connections; dropping this closes them once no call waits any more, [`cut`](Self::cut) at once.
pub(super) struct Nodes {
    client: ClusterConnection,
    calls: Calls,
    over: watch::Sender<bool>,
    /// Which generation it is; unlike any other. Never 0.
    number: u64,
    /// For logs.
    name: String,
}

impl Nodes {
    pub(super) async fn connect(
        common: &Settings,
        seeds: &[Address],
        resp3: bool,
        env: &Env,
    ) -> Result<Self, BrokerError> {
        let protocol = if resp3 {
            ProtocolVersion::RESP3
        } else {
            ProtocolVersion::RESP2
        };
        let mut login = RedisConnectionInfo::default()
            .set_skip_set_lib_name()
            .set_protocol(protocol);
        if let Some((user, password)) = common.login() {
            login = login.set_username(user).set_password(password);
        }
        let seeds: RedisResult<Vec<ConnectionInfo>> = seeds.iter().filter_map(|seed| to_info(seed, &login)).collect();
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(socket::keepalive());
        let limit = common.connect_timeout;
        // No limit for an answer is the client's default; it is said for the whole call once more.
        let client = ClusterClientBuilder::new(seeds.map_err(unsent)?)
            .retries(0)
            .use_protocol(protocol)
            .connection_timeout(limit)
            .overall_response_timeout(None)
            .tcp_settings(tcp)
            .build()
            .map_err(unsent)?;
        let connected = timeout(limit, client.get_async_connection()).await;
        let client = connected
            .map_err(|_| BrokerError::unavailable(format!("no connection within {limit:?}")))?
            .map_err(unsent)?;
        Ok(Self {
            client,
            calls: Calls::new(),
            over: watch::Sender::new(false),
            number: env.entropy.bits() | 1,
            name: super::describe(common, std::slice::from_ref(&common.address)),
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Ends all connections: calls without answer become ambiguous.
    pub(super) fn cut(&self) {
        self.over.send_replace(true);
    }

    /// One command, one answer: outside what became of the connection, inside of the command.
    pub(super) async fn ask(
        &self,
        cmd: &Cmd,
        target: &Target,
        name: &str,
    ) -> Result<Result<Value, ErrorReply>, BrokerError> {
        if self.is_over() {
            return Err(BrokerError::unavailable("the connections have ended"));
        }
        let _waiting = self.calls.open(name.to_owned().into());
        let mut over = self.over.subscribe();
        tokio::select! {
            biased;
            answer = self.route(cmd, target) => read(answer),
            _ = over.wait_for(|over| *over) => Err(BrokerError::ambiguous("the connections were given up")),
        }
    }

    async fn route(&self, cmd: &Cmd, target: &Target) -> RedisResult<Value> {
        let mut client = self.client.clone();
        let routing = match target {
            Target::Slot(route) => SingleNodeRoutingInfo::SpecificNode(*route),
            Target::AnyMaster => SingleNodeRoutingInfo::RandomPrimary,
            Target::AllMasters => {
                let all = (MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::AllSucceeded));
                return client.route_command(cmd.clone(), RoutingInfo::MultiNode(all)).await;
            }
            Target::Asked { host, port, .. } => {
                let there = SingleNodeRoutingInfo::ByAddress {
                    host: host.clone(),
                    port: *port,
                };
                let mut both = redis::Pipeline::with_capacity(2);
                both.add_command(redis::cmd("ASKING")).add_command(cmd.clone());
                let mut answers = client.route_pipeline(both, 1, 1, there).await?;
                return Ok(answers.pop().unwrap_or(Value::Nil));
            }
        };
        client
            .route_command(cmd.clone(), RoutingInfo::SingleNode(routing))
            .await
    }

    /// Waits until a node that is connected leaves a PING without answer for too long. Reports slow calls.
    pub(super) async fn until_silent(&self, pace: Pace) {
        let asked = async {
            loop {
                sleep(pace.ping_after).await;
                // An error is an answer: the client connects again by itself.
                let ping = self.route_ping();
                if timeout(pace.ping_timeout, ping).await.is_err() {
                    return;
                }
            }
        };
        let reported = async {
            loop {
                sleep(pace.tick).await;
                for (call, waited) in self.calls.take_slow(pace.slow) {
                    tracing::warn!(server = %self.name, %call, ?waited, "a call waits long for its answer");
                }
            }
        };
        tokio::select! {
            () = asked => {}
            () = reported => {}
        }
    }

    async fn route_ping(&self) {
        let _ = self.route(&redis::cmd("PING"), &Target::AllMasters).await;
    }
}

impl Mortal for Nodes {
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

impl Timekeeper for Nodes {
    /// Always of the same node, as long as slots stay where they are.
    async fn time(&self) -> Option<Value> {
        let target = Target::of_key(keys::QUEUES.as_bytes());
        self.ask(&redis::cmd("TIME"), &target, "TIME").await.ok()?.ok()
    }
}

fn to_info(seed: &Address, login: &RedisConnectionInfo) -> Option<RedisResult<ConnectionInfo>> {
    let Address::Tcp { host, port } = seed else {
        return None;
    };
    let info = ConnectionAddr::Tcp(host.clone(), *port).into_connection_info();
    Some(info.map(|info| info.set_redis_settings(login.clone())))
}

fn unsent(error: RedisError) -> BrokerError {
    classify(error, false)
}

/// What the client says of a call.
fn read(answer: RedisResult<Value>) -> Result<Result<Value, ErrorReply>, BrokerError> {
    let error = match answer {
        Ok(value) => return Ok(split(value)),
        Err(error) => error,
    };
    match error.kind() {
        // No reply that the client can get when it learns the slots, so it is that of the call.
        ErrorKind::Server(
            ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::CrossSlot
            | ServerErrorKind::NoScript,
        ) => match ServerError::try_from(error) {
            Ok(reply) => Ok(Err(ErrorReply::from(&reply))),
            Err(error) => Err(BrokerError::ambiguous(error)),
        },
        _ => Err(BrokerError::ambiguous(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn only_what_the_call_alone_can_be_told_refuses_it() {
        for line in [
            "MOVED 5 127.0.0.1:1",
            "ASK 5 127.0.0.1:1",
            "TRYAGAIN x",
            "CLUSTERDOWN x",
            "READONLY x",
        ] {
            let code = line.split(' ').next().unwrap();
            assert_eq!(read(Err(reply(line))).unwrap().unwrap_err().code, code);
        }
        // These may be what the client was told when it looked for the slots, while our call ran.
        let lost: RedisError = (ErrorKind::ClusterConnectionNotFound, "No connections found").into();
        for error in [reply("LOADING x"), reply("NOAUTH x"), lost] {
            let told = read(Err(error)).unwrap_err();
            assert!(matches!(told, BrokerError::Ambiguous { .. }), "{told:?}");
        }
        let told = read(Ok(redis::parse_redis_value(b"-LOADING x\r\n").unwrap()));
        assert_eq!(told.unwrap().unwrap_err().code, "LOADING");
    }

    #[test]
    fn where_ask_points() {
        let slot = Target::Slot(Route::new(3999, SlotAddr::Master));
        let asked = |host: &str| Target::Asked {
            host: host.to_owned(),
            port: 6381,
            key_of: Box::new(slot.clone()),
        };
        assert_eq!(Target::asked("3999 127.0.0.1:6381"), Some(asked("127.0.0.1")));
        assert_eq!(Target::asked("3999 ::1:6381"), Some(asked("::1")));
        for bad in ["", "3999", "x 1:1", "16384 a:1", "3999 a:99999"] {
            assert_eq!(Target::asked(bad), None, "{bad}");
        }
    }
}
