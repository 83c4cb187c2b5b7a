//! The master, as sentinels name it.
//!
//! All of them are asked at once before a connection is made, and while a connection is silent. What they
//! publish when they have changed the master is listened to on each of them. So a connection follows a
//! failover at once, also where the old master neither answers nor ends its connections.

use std::{sync::Arc, time::Duration};

use asynq_core::{broker::Env, error::BrokerError};
use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    backoff::backoff,
    settings::{Address, Sentinels, Settings},
    socket,
};
use crate::{failure::classify, pubsub::Subscriptions};

/// Longest time that one sentinel may take.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Time for which the others are waited for once one has answered: one may know of a newer failover.
const OTHERS_WITHIN: Duration = Duration::from_millis(200);
/// Channel on which sentinels publish a failover.
const SWITCHES: &str = "+switch-master";

/// The answer of one sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opinion {
    /// Grows with each failover.
    epoch: u64,
    host: String,
    port: u16,
}

impl Sentinels {
    /// The host and port of the master, in the opinion of the sentinel that knows of the latest failover. It
    /// has yet to be asked if it is one.
    pub(crate) async fn find_master(&self, settings: &Settings) -> Result<(String, u16), BrokerError> {
        if settings.uses_tls() {
            return Err(BrokerError::InvalidConnection {
                reason: "TLS is not supported behind sentinels yet".to_owned(),
            });
        }
        let mut asked: FuturesUnordered<_> = (0..self.nodes.len()).map(|place| self.ask(settings, place)).collect();
        let mut best: Option<Opinion> = None;
        let mut refusal = BrokerError::Unavailable { source: None };
        loop {
            let next = match &best {
                None => asked.next().await,
                Some(_) => timeout(OTHERS_WITHIN, asked.next()).await.unwrap_or_default(),
            };
            match next {
                None => break,
                Some(Ok(opinion)) => {
                    if best.as_ref().is_none_or(|best| best.epoch < opinion.epoch) {
                        best = Some(opinion);
                    }
                }
                // What is wrong for good is worth more than that one is not there.
                Some(Err(error)) => {
                    if error_rank(&error) >= error_rank(&refusal) {
                        refusal = error;
                    }
                }
            }
        }
        best.map(|best| (best.host, best.port)).ok_or(refusal)
    }

    async fn ask(&self, settings: &Settings, place: usize) -> Result<Opinion, BrokerError> {
        let limit = ASK_WITHIN.min(settings.connect_timeout);
        let asked = timeout(limit, self.connect_and_ask(&self.settings_of(settings, place))).await;
        asked.unwrap_or_else(|_| {
            let (host, port) = &self.nodes[place];
            Err(BrokerError::unavailable(format!(
                "the sentinel at {host}:{port} did not answer within {limit:?}"
            )))
        })
    }

    async fn connect_and_ask(&self, of_sentinel: &Settings) -> Result<Opinion, BrokerError> {
        let stream = socket::connect(of_sentinel).await?.stream;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let info = with_login(of_sentinel.login());
        let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (mut con, driver) = opened.map_err(unsent)?;
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        both.cmd("SENTINEL").arg("MASTER").arg(&self.master);
        let answers = tokio::select! {
            answers = con.send_packed_commands(&both, 0, 2) => answers.map_err(unsent)?,
            () = driver => return Err(BrokerError::unavailable("the sentinel closed the connection")),
        };
        self.read(&answers)
    }

    fn read(&self, answers: &[Value]) -> Result<Opinion, BrokerError> {
        if let Some(Value::ServerError(error)) = answers.first() {
            return Err(crate::failure::ErrorReply::from(error).into());
        }
        let address: Option<(String, u16)> = answers
            .first()
            .and_then(|answer| redis::from_redis_value_ref(answer).ok());
        let Some((host, port)) = address else {
            let reason = format!("the sentinel knows no master {:?}", self.master);
            return Err(BrokerError::unavailable(reason));
        };
        let facts: Vec<String> = answers
            .get(1)
            .and_then(|answer| redis::from_redis_value_ref(answer).ok())
            .unwrap_or_default();
        let epoch = facts.chunks_exact(2).find(|fact| fact[0] == "config-epoch");
        Ok(Opinion {
            epoch: epoch.and_then(|fact| fact[1].parse().ok()).unwrap_or(0),
            host,
            port,
        })
    }

    /// Returns how to reach one of them.
    fn settings_of(&self, settings: &Settings, place: usize) -> Settings {
        let (host, port) = self.nodes[place].clone();
        Settings {
            address: Address::Tcp { host, port },
            username: self.username.clone(),
            password: self.password.clone(),
            db: 0,
            ..settings.clone()
        }
    }

    /// Tells of each failover, as soon as any sentinel does, for ever. Tells once more whenever it listens
    /// again after a loss: something may have been missed.
    pub(crate) async fn listen(self: Arc<Self>, settings: &Settings, env: &Env, told: &Notify) {
        join_all((0..self.nodes.len()).map(|place| self.listen_to(settings, place, env, told))).await;
    }

    async fn listen_to(&self, settings: &Settings, place: usize, env: &Env, told: &Notify) {
        let of_sentinel = self.settings_of(settings, place);
        let subscriptions = Subscriptions::default();
        let mut attempt = 0;
        loop {
            if let Ok(mut messages) = subscriptions.subscribe(&of_sentinel, None, &|| false, SWITCHES).await {
                attempt = 0;
                told.notify_one();
                while let Some(message) = messages.recv().await {
                    if self.is_about_ours(&message) {
                        tracing::info!(master = self.master, sentinel = %of_sentinel, "the sentinels changed the master");
                        told.notify_one();
                    }
                }
            }
            attempt += 1;
            sleep(backoff(env, attempt)).await;
        }
    }

    /// Reads `name old-host old-port new-host new-port`.
    fn is_about_ours(&self, message: &[u8]) -> bool {
        let name = self.master.as_bytes();
        message.strip_prefix(name).is_some_and(|rest| rest.starts_with(b" "))
    }
}

/// Returns how much an error says.
fn error_rank(error: &BrokerError) -> u8 {
    match error {
        BrokerError::Unavailable { source: None } => 0,
        BrokerError::Unavailable { .. } => 1,
        _ => 2,
    }
}

fn unsent(error: RedisError) -> BrokerError {
    classify(error, false)
}

/// Returns the settings of a login in RESP2, which every server speaks, without a name of the library.
fn with_login(login: Option<(&str, &str)>) -> RedisConnectionInfo {
    let info = RedisConnectionInfo::default().set_skip_set_lib_name();
    match login {
        Some((user, password)) => info.set_username(user).set_password(password),
        None => info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels() -> Sentinels {
        Sentinels {
            master: "m".to_owned(),
            nodes: vec![("a".to_owned(), 1)],
            username: None,
            password: None,
        }
    }

    fn value(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_sentinel_says() {
        let address = value("*2\r\n$2\r\n::\r\n$4\r\n6379\r\n");
        let facts = value("*4\r\n$4\r\nname\r\n$1\r\nm\r\n$12\r\nconfig-epoch\r\n$1\r\n7\r\n");
        let opinion = |epoch| Opinion {
            epoch,
            host: "::".to_owned(),
            port: 6379,
        };
        assert_eq!(sentinels().read(&[address.clone(), facts]).unwrap(), opinion(7));
        assert_eq!(sentinels().read(&[address, value("-ERR no\r\n")]).unwrap(), opinion(0));
        let nobody = sentinels().read(&[value("*-1\r\n"), value("-ERR no\r\n")]).unwrap_err();
        assert!(matches!(nobody, BrokerError::Unavailable { .. }), "{nobody:?}");
        let stranger = sentinels().read(&[value("-NOAUTH no\r\n")]).unwrap_err();
        assert!(matches!(stranger, BrokerError::Refused { .. }), "{stranger:?}");
    }

    #[test]
    fn messages_of_other_masters_are_not_ours() {
        assert!(sentinels().is_about_ours(b"m 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!sentinels().is_about_ours(b"mm 10.0.0.1 6379 10.0.0.2 6379"));
        assert!(!sentinels().is_about_ours(b"m"));
    }
}
