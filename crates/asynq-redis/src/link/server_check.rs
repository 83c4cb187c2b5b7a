//! Asks a server, on another connection, about a connection that has gone silent.

use std::{net::IpAddr, pin::pin, sync::Arc};

use asynq_core::error::BrokerError;
use futures::future::{Either, select};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    settings::{Address, Settings},
    socket::{self, Opened, Peer},
};

/// The server's answer about the silent connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server answers, and has no reason to be silent on the other connection.
    Answers,
    /// The server has got something on the other connection and is not done with it.
    AtWork,
    /// The server answers nobody, or only that a script holds it.
    Mute,
}

/// A way to ask about a connection.
#[derive(Clone, Debug)]
pub(crate) struct ServerCheck {
    pub(crate) settings: Arc<Settings>,
    /// The address that the silent connection leads to.
    pub(crate) peer: Peer,
    /// The server's number of the silent connection, if it is known.
    pub(crate) id: Option<u64>,
}

impl ServerCheck {
    /// Asks once, within the connect timeout.
    pub(crate) async fn ask(&self) -> Verdict {
        let (here, elsewhere) = (pin!(self.ask_here()), pin!(self.ask_elsewhere()));
        match select(here, elsewhere).await {
            Either::Left((Verdict::Mute, other)) => other.await,
            Either::Right((Verdict::Mute, other)) => other.await,
            Either::Left((verdict, _)) | Either::Right((verdict, _)) => verdict,
        }
    }

    async fn ask_here(&self) -> Verdict {
        self.verdict(socket::connect_to(&self.settings, &self.peer), self.id)
            .await
    }

    /// A name may lead to another server by now, which has taken the place of one that is gone.
    async fn ask_elsewhere(&self) -> Verdict {
        let Address::Tcp { host, .. } = &self.settings.address else {
            return Verdict::Mute;
        };
        if host.parse::<IpAddr>().is_ok() {
            return Verdict::Mute;
        }
        let another = async {
            match socket::connect(&self.settings).await? {
                opened if opened.peer == self.peer => Err(BrokerError::Unavailable { source: None }),
                opened => Ok(opened),
            }
        };
        self.verdict(another, None).await
    }

    async fn verdict(&self, opened: impl Future<Output = Result<Opened, BrokerError>>, id: Option<u64>) -> Verdict {
        let asked = async {
            match opened.await {
                Ok(opened) => self.greet_and_ask(opened, id).await,
                Err(error) => Err(std::io::Error::other(error.to_string()).into()),
            }
        };
        match timeout(self.settings.connect_timeout, asked).await {
            Ok(Ok(answer)) => read(&answer),
            Ok(Err(error)) => read_error(&error),
            Err(_) => Verdict::Mute,
        }
    }

    async fn greet_and_ask(&self, opened: Opened, id: Option<u64>) -> Result<Value, RedisError> {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some((user, password)) = self.settings.login() {
            info = info.set_username(user).set_password(password);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let (mut con, driver) = MultiplexedConnection::new_with_config(&info, opened.stream, config).await?;
        let cmd = match id {
            Some(id) => {
                let mut list = redis::cmd("CLIENT");
                list.arg("LIST").arg("ID").arg(id);
                list
            }
            None => redis::cmd("PING"),
        };
        tokio::select! {
            answer = con.send_packed_command(&cmd) => answer,
            () = driver => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
        }
    }
}

fn read(answer: &Value) -> Verdict {
    match answer {
        Value::ServerError(error) if error.code() == "BUSY" => Verdict::Mute,
        Value::BulkString(line) => read_client(&String::from_utf8_lossy(line)),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => read_client(text),
        // A server that does not know the command, or does not permit it, answers all the same.
        _ => Verdict::Answers,
    }
}

/// Reads a line of CLIENT LIST; there is none if the server has no such connection any more.
fn read_client(line: &str) -> Verdict {
    let field = |name: &str| {
        line.split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let number = |name| field(name).and_then(|text| text.parse::<u64>().ok());
    // Held by CLIENT PAUSE or a command that waits.
    let held = field("flags").is_some_and(|flags| flags.contains('b'));
    // The beginning of a command lies there, and more of it came just now. Whole commands are run at once.
    let receives = number("qbuf").is_some_and(|bytes| bytes > 0) && number("idle").is_some_and(|secs| secs <= 1);
    if held || receives {
        Verdict::AtWork
    } else {
        Verdict::Answers
    }
}

/// An error reply to the login is an answer too.
fn read_error(error: &RedisError) -> Verdict {
    match error.code() {
        Some("BUSY") | None => Verdict::Mute,
        Some(_) => Verdict::Answers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_a_client_says_if_the_server_is_at_work_for_it() {
        let line = |rest: &str| read_client(&format!("id=7 addr=127.0.0.1:1 name=asynq age=9 {rest} cmd=evalsha\n"));
        assert_eq!(line("idle=0 flags=N qbuf=0"), Verdict::Answers);
        assert_eq!(line("idle=0 flags=b qbuf=0"), Verdict::AtWork);
        assert_eq!(line("idle=1 flags=N qbuf=32768"), Verdict::AtWork);
        assert_eq!(line("idle=2 flags=N qbuf=32768"), Verdict::Answers);
        assert_eq!(read_client(""), Verdict::Answers);
    }

    #[test]
    fn each_reply_but_busy_is_an_answer() {
        let reply = |line: &str| redis::parse_redis_value(line.as_bytes()).unwrap();
        assert_eq!(read(&reply("+PONG\r\n")), Verdict::Answers);
        assert_eq!(read(&reply("-NOPERM no\r\n")), Verdict::Answers);
        assert_eq!(read(&reply("-BUSY a script\r\n")), Verdict::Mute);
        let error = |line: &str| reply(line).extract_error().unwrap_err();
        assert_eq!(read_error(&error("-WRONGPASS no\r\n")), Verdict::Answers);
        assert_eq!(read_error(&error("-BUSY a script\r\n")), Verdict::Mute);
        let io = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(read_error(&io), Verdict::Mute);
    }
}
