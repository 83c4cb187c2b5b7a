//! The API of asynqmon: the real one beside ours, endpoint by endpoint. `docs/asynqmon.md` lists what differs.

mod changes;
mod faults;
mod reads;

use std::{sync::Arc, time::Duration};

use asynq::redis::RedisBroker;
use asynq_interop::{Asynqmon, program};
use asynq_testing::RedisServer;
use asynq_web::{
    Web,
    serve::{Listen, WebServer},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::pair::connector;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The real asynqmon, and ours. Ours ends with it.
struct Both {
    real: Asynqmon,
    ours: String,
    _server: JoinSet<()>,
}

impl Both {
    /// Starts them on a Redis each, which may be the same.
    async fn start(real: &RedisServer, ours: &RedisServer) -> Self {
        Self::start_with(real, ours, &[], |web| web).await
    }

    /// Starts them with arguments of the real one, and settings of ours.
    async fn start_with(
        real: &RedisServer,
        ours: &RedisServer,
        args: &[&str],
        settings: impl FnOnce(Web) -> Web,
    ) -> Self {
        program().await;
        let real = Asynqmon::start(&real.address(), args).await;
        let web = Web::of_redis(Arc::new(RedisBroker::new(connector(ours)).await.unwrap()));
        let web = settings(web);
        let server = WebServer::bind(web, Listen::on("127.0.0.1:0".parse().unwrap()))
            .await
            .unwrap();
        let ours = server.local_addr().to_string();
        let mut running = JoinSet::new();
        running.spawn(async move { server.run(std::future::pending()).await.unwrap() });
        Self {
            real,
            ours,
            _server: running,
        }
    }

    /// The answers of both, ours first. The path is the one below `/api`.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (Answer, Answer) {
        let ours = send(&self.ours, method, path, body).await;
        (ours, send(self.real.address(), method, path, body).await)
    }
}

/// Sends a request in HTTP/1.0, whose answer ends with the connection.
async fn send(address: &str, method: &str, path: &str, body: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let request =
            format!("{method} /api{path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
        // A server may answer before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("{method} {path}: {head:?}")),
        body: body.to_owned(),
    }
}

/// A text in which the values of some fields of its JSON are `_`.
fn without(text: &str, fields: &[&str]) -> String {
    let mut text = text.to_owned();
    for field in fields {
        let name = format!("\"{field}\":");
        let mut from = 0;
        while let Some(at) = text[from..].find(&name) {
            let start = from + at + name.len();
            let value = &text[start..];
            let length = match value.strip_prefix('"') {
                Some(rest) => rest.find('"').unwrap() + 2,
                None => value.find([',', '}']).unwrap(),
            };
            text.replace_range(start..start + length, "_");
            from = start;
        }
    }
    text
}
