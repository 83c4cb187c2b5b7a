//! One live connection that carries the calls of many.
//!
//! The redis crate frames, matches answers to calls and nothing else: no retry, no reconnect, no
//! reply timeout. A call ends with its answer or with its connection, over which a [`Liveness`] watches.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynq_core::error::BrokerError;
use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::watch;

use super::{
    calls::{CallName, Calls},
    current::Mortal,
    liveness::{self, Liveness},
    owned::Owned,
    server_check::ServerCheck,
    settings::{Pace, Settings},
    socket::{self, Opened, Peer},
};
use crate::clock_sync::Timekeeper;
use crate::failure::{ErrorReply, classify, split, without_effect};

/// Calls that may wait to be written before more callers must wait.
const WRITE_QUEUE: usize = 512;
/// The part of a connection's number that is the server's client id.
const ID_BITS: u32 = 48;
const ID_MASK: u64 = (1 << ID_BITS) - 1;
/// Marks the number of a connection whose client id the server does not tell.
const ANONYMOUS: u64 = 1 << 63;

/// A callback for pushes. It is called in the reading task, so it must not wait. It is dropped with the connection.
pub(crate) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// A connection; dropping it closes it.
#[derive(Debug)]
pub(crate) struct Wire {
    con: MultiplexedConnection,
    calls: Arc<Calls>,
    over: watch::Receiver<bool>,
    #[cfg(any(feature = "sentinel", test))]
    doubt: watch::Receiver<bool>,
    #[cfg(feature = "cluster")]
    activity: Arc<super::activity::Activity>,
    peer: Peer,
    /// Number of the connection: the server's run id (15 bits of it) and the client id. So a number holds for all
    /// links of a process, and never names a stranger on a restarted server.
    number: u64,
    resp3: bool,
    driver: Owned,
    _liveness: Option<Owned>,
}

impl Wire {
    /// Connects, logs in and selects the database, within the connect timeout. With `on_push` the
    /// connection speaks RESP3 or is refused, else it falls back to RESP2.
    pub(crate) async fn open(
        settings: &Settings,
        role: &str,
        on_push: Option<OnPush>,
        anonymous: u64,
    ) -> Result<Self, BrokerError> {
        Self::open_to(settings, None, role, on_push, anonymous).await
    }

    /// [`open`](Self::open), to where another connection leads.
    pub(crate) async fn open_to(
        settings: &Settings,
        peer: Option<&Peer>,
        role: &str,
        on_push: Option<OnPush>,
        anonymous: u64,
    ) -> Result<Self, BrokerError> {
        let limit = settings.connect_timeout;
        let opening = Self::open_and_greet(settings, peer, role, on_push, anonymous);
        let opened = tokio::time::timeout(limit, opening).await;
        opened.unwrap_or_else(|_| Err(BrokerError::unavailable(format!("no connection within {limit:?}"))))
    }

    async fn open_and_greet(
        settings: &Settings,
        peer: Option<&Peer>,
        role: &str,
        on_push: Option<OnPush>,
        anonymous: u64,
    ) -> Result<Self, BrokerError> {
        let Opened { stream, activity, peer } = socket::open(settings, peer).await?;
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WRITE_QUEUE);
        let pushes = on_push.is_some();
        if let Some(on_push) = on_push {
            // The crate takes a push sender only together with a HELLO of its own.
            info = info.set_protocol(ProtocolVersion::RESP3);
            if let Some((user, password)) = settings.login() {
                info = info.set_username(user).set_password(password);
            }
            config = config.set_push_sender(move |push: PushInfo| {
                on_push(push);
                Ok::<(), ()>(())
            });
        }
        let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (con, driver) = opened.map_err(|error| classify(error, false))?;

        let (ended, over) = watch::channel(false);
        let driver = Owned::spawn(async move {
            // Told however the task ends, aborted or not.
            let _end = TellEnd(ended);
            driver.await;
        });
        let calls = Arc::new(Calls::new());
        let doubt = watch::Sender::new(false);
        let mut wire = Self {
            con,
            calls,
            over,
            #[cfg(any(feature = "sentinel", test))]
            doubt: doubt.subscribe(),
            #[cfg(feature = "cluster")]
            activity: Arc::clone(&activity),
            peer: peer.clone(),
            number: 0,
            resp3: pushes,
            driver,
            _liveness: None,
        };
        wire.greet(settings, role, pushes, anonymous)
            .await
            .map_err(without_effect)?;
        // The greeting has the connect timeout.
        let liveness = Liveness {
            activity,
            check: ServerCheck {
                settings: Arc::new(settings.clone()),
                peer,
                id: (wire.number & ANONYMOUS == 0).then_some(wire.number & ID_MASK),
            },
            pace: settings.pace,
            to: settings.to_string(),
            doubt,
        };
        wire._liveness = Some(Owned::spawn(wire.watch(liveness)));
        Ok(wire)
    }

    /// Cuts the connection when it is dead, and reports slow calls.
    fn watch(&self, liveness: Liveness) -> impl Future<Output = ()> + Send + 'static {
        let (con, driver) = (self.con.clone(), self.driver.handle());
        let (waiting, calls) = (Arc::clone(&self.calls), Arc::clone(&self.calls));
        let (pace, to) = (liveness.pace, liveness.to.clone());
        async move {
            let ping = || -> liveness::Asked<bool> {
                let mut con = con.clone();
                // An error reply is a sign of life too.
                Box::pin(async move { con.send_packed_command(&redis::cmd("PING")).await.is_ok() })
            };
            let report = || report_slow(&calls, pace, &to);
            liveness.until_dead(ping, || waiting.waiting(), report).await;
            driver.abort();
        }
    }

    async fn greet(
        &mut self,
        settings: &Settings,
        role: &str,
        logged_in: bool,
        anonymous: u64,
    ) -> Result<(), BrokerError> {
        let mut id = None;
        if !logged_in {
            (self.resp3, id) = self.log_in(settings).await?;
        }
        let mut setup = Vec::new();
        if settings.db != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(settings.db);
            let chosen = self.ask(&select, "SELECT".into()).await?;
            chosen.map_err(|reply| match reply.code.as_str() {
                "ERR" => BrokerError::InvalidConnection {
                    reason: format!("database {}: {}", settings.db, reply.text),
                },
                _ => reply.into(),
            })?;
        }
        let mut info = redis::cmd("INFO");
        info.arg("server");
        setup.push(info);
        let mut whoami = redis::cmd("CLIENT");
        whoami.arg("ID");
        setup.push(whoami);
        if let Some(name) = &settings.client_name {
            let mut set_name = redis::cmd("CLIENT");
            set_name.arg("SETNAME").arg(format!("{name}{role}"));
            setup.push(set_name);
        }
        #[cfg(feature = "sentinel")]
        if matches!(settings.address, super::settings::Address::Master(_)) {
            self.must_be_master().await?;
        }
        // Neither is needed to work: a user may lack the permission for any of them.
        let mut answers = self
            .ask_all(&setup, "greeting")
            .await
            .map_err(|error| classify(error, false))?
            .into_iter();
        let run_id = match answers.next() {
            Some(Ok(text)) => field_of_info(&text, "run_id"),
            _ => None,
        };
        match answers.next() {
            Some(Ok(Value::Int(number))) => id = u64::try_from(number).ok(),
            Some(Err(reply)) if reply.code == "NOAUTH" => return Err(reply.into()),
            _ => {}
        }
        self.number = match id.filter(|id| (1..=ID_MASK).contains(id)) {
            Some(id) => tag(run_id.as_deref()) << ID_BITS | id,
            None => ANONYMOUS | anonymous,
        };
        Ok(())
    }

    /// Sentinels may have been wrong, or early. A user who may not ask ROLE is told by INFO.
    #[cfg(feature = "sentinel")]
    async fn must_be_master(&self) -> Result<(), BrokerError> {
        let role = match self.ask(&redis::cmd("ROLE"), "ROLE".into()).await? {
            Ok(Value::Array(facts)) => facts.first().and_then(|role| redis::from_redis_value_ref(role).ok()),
            Ok(_) => None,
            Err(reply) => {
                let mut info = redis::cmd("INFO");
                info.arg("replication");
                let told = self.ask(&info, "INFO".into()).await?;
                Some(told.ok().and_then(|info| field_of_info(&info, "role")).ok_or(reply)?)
            }
        };
        match role {
            Some(role) if role == "master" => Ok(()),
            role => {
                let role: String = role.unwrap_or_default();
                let reason = format!("the server that sentinels call the master says that it is {role:?}");
                Err(BrokerError::unavailable(reason))
            }
        }
    }

    /// HELLO 3, else AUTH. Whether RESP3 is spoken, and the client id if it was told.
    async fn log_in(&self, settings: &Settings) -> Result<(bool, Option<u64>), BrokerError> {
        let login = settings.login();
        if settings.resp3 {
            let mut hello = redis::cmd("HELLO");
            hello.arg(3);
            if let Some((user, password)) = login {
                hello.arg("AUTH").arg(user).arg(password);
            }
            match self.ask(&hello, "HELLO".into()).await? {
                Ok(Value::Map(facts)) => {
                    let id = facts.iter().find_map(|(name, value)| match (name, value) {
                        (Value::BulkString(name), Value::Int(id)) if name == b"id" => u64::try_from(*id).ok(),
                        (Value::SimpleString(name), Value::Int(id)) if name == "id" => u64::try_from(*id).ok(),
                        _ => None,
                    });
                    return Ok((true, id));
                }
                Err(reply) if is_for_good(&reply) => return Err(reply.into()),
                // An old server, a proxy, a renamed command.
                Ok(_) | Err(_) => {}
            }
        }
        if let Some((user, password)) = login {
            let mut auth = redis::cmd("AUTH");
            auth.arg(user).arg(password);
            if let Err(reply) = self.ask(&auth, "AUTH".into()).await? {
                let before_users = user == "default" && reply.text.contains("wrong number of arguments");
                if !before_users {
                    return Err(reply.into());
                }
                let mut auth = redis::cmd("AUTH");
                auth.arg(password);
                self.ask(&auth, "AUTH".into()).await??;
            }
        }
        Ok((false, None))
    }

    /// Returns which connection it is. Never 0.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns whether it speaks RESP3.
    pub(crate) fn is_resp3(&self) -> bool {
        self.resp3
    }

    /// Returns the peer.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until it has ended.
    pub(crate) async fn over(&self) {
        // An error means that the one who would tell is gone, and so is the connection.
        let _ = self.over.clone().wait_for(|over| *over).await;
    }

    /// Returns how long calls have waited while nothing came; zero if none waits.
    #[cfg(feature = "cluster")]
    pub(crate) fn silence(&self) -> Duration {
        let owed = self.calls.waiting().unwrap_or_default();
        owed.min(self.activity.silence())
    }

    /// Waits until calls wait and nothing moves.
    #[cfg(any(feature = "sentinel", test))]
    pub(crate) async fn in_doubt(&self) {
        if self.doubt.clone().wait_for(|doubt| *doubt).await.is_err() {
            // Nobody watches any more: the connection has ended.
            self.over().await;
        }
    }

    /// Returns how many calls wait for an answer.
    #[cfg(test)]
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.count()
    }

    /// Ends it now: calls without answer become ambiguous.
    pub(crate) fn cut(&self) {
        self.driver.abort();
    }

    /// One command, one answer: outside what became of the connection, inside of the command.
    pub(crate) async fn ask(&self, cmd: &Cmd, name: CallName) -> Result<Result<Value, ErrorReply>, BrokerError> {
        if self.is_over() {
            return Err(BrokerError::unavailable("the connection has ended"));
        }
        let _waiting = self.calls.open(name);
        let answer = self
            .con
            .clone()
            .send_packed_command(cmd)
            .await
            .map_err(|error| classify(error, true))?;
        Ok(split(answer))
    }

    /// Several commands in one write, an answer for each.
    pub(crate) async fn ask_all(
        &self,
        cmds: &[Cmd],
        name: &'static str,
    ) -> Result<Vec<Result<Value, ErrorReply>>, RedisError> {
        if cmds.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::Pipeline::with_capacity(cmds.len());
        for cmd in cmds {
            pipeline.add_command(cmd.clone());
        }
        let _waiting = self.calls.open(name.into());
        let answers = self.con.clone().send_packed_commands(&pipeline, 0, cmds.len()).await?;
        Ok(answers.into_iter().map(split).collect())
    }
}

impl Mortal for Wire {
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

impl Timekeeper for Wire {
    async fn time(&self) -> Option<Value> {
        self.ask(&redis::cmd("TIME"), "TIME".into()).await.ok()?.ok()
    }
}

/// Returns whether HELLO was refused for a reason that AUTH would be refused for too.
fn is_for_good(reply: &ErrorReply) -> bool {
    matches!(
        reply.code.as_str(),
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "LOADING" | "BUSY" | "MASTERDOWN"
    )
}

/// 15 bits of a run id, which is 40 random hex digits; 0 if it is not known.
fn tag(run_id: Option<&str>) -> u64 {
    run_id
        .and_then(|id| u64::from_str_radix(id.get(..4)?, 16).ok())
        .unwrap_or(0)
        & 0x7fff
}

/// The client id in a connection's number, if the connection is one of the server that `on` leads
/// to.
pub(crate) fn client_id(number: u64, on: u64) -> ClientId {
    if number & ANONYMOUS != 0 {
        return ClientId::Unknown;
    }
    let known = |number: u64| Some(number >> ID_BITS).filter(|tag| *tag != 0 && number & ANONYMOUS == 0);
    match (known(number), known(on)) {
        (Some(of), Some(here)) if of != here => ClientId::OtherServer,
        _ => ClientId::Known(number & ID_MASK),
    }
}

/// The client that a connection's number names, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientId {
    /// The server's id of it.
    Known(u64),
    /// The server did not tell.
    Unknown,
    /// A connection to a server process that has ended.
    OtherServer,
}

/// A field of an INFO answer.
pub(crate) fn field_of_info(info: &Value, field: &str) -> Option<String> {
    fields_of_info(info)
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.to_owned())
}

/// All fields of an INFO answer.
pub(crate) fn lines_of_info(info: &Value) -> BTreeMap<String, String> {
    fields_of_info(info)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn fields_of_info(info: &Value) -> impl Iterator<Item = (&str, &str)> {
    let text = match info {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        _ => "",
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim()))
}

struct TellEnd(watch::Sender<bool>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

fn report_slow(calls: &Calls, pace: Pace, to: &str) {
    for (call, waited) in calls.take_slow(pace.slow) {
        let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
        tracing::warn!(server = %to, %call, ?waited, "a call has waited long for its answer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_a_connection_of_one_server_process() {
        let here = tag(Some("4f2a00")) << ID_BITS | 7;
        let also_here = tag(Some("4f2aff")) << ID_BITS | 9;
        let restarted = tag(Some("1c9900")) << ID_BITS | 7;
        assert_eq!(client_id(here, also_here), ClientId::Known(7));
        assert_eq!(client_id(here, restarted), ClientId::OtherServer);
        assert_eq!(client_id(ANONYMOUS | 7, here), ClientId::Unknown);
        assert_ne!(here, restarted);
        assert_eq!(tag(Some("ffff")) << ID_BITS & ANONYMOUS, 0);
    }

    #[test]
    fn fields_of_info() {
        let info = Value::BulkString(b"# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n".to_vec());
        assert_eq!(field_of_info(&info, "run_id").as_deref(), Some("abc"));
        assert_eq!(field_of_info(&info, "run").as_deref(), None);
    }
}
