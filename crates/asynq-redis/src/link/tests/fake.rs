//! A server that says what a test wants it to say.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::link::owned::Owned;

type Reply = Arc<dyn Fn(&[String]) -> Option<String> + Send + Sync>;

/// Ends with its value.
pub(super) struct Fake {
    port: u16,
    _task: Owned,
}

impl Fake {
    /// `reply` gets the words of a command and says the raw reply, or `None` for a plausible one.
    pub(super) async fn start(reply: impl Fn(&[String]) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let reply: Reply = Arc::new(reply);
        let task = Owned::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&reply)));
            }
        });
        Self { port, _task: task }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// The answer to TIME of a server whose clock is `ahead`.
pub(super) fn time(ahead: TimeDelta) -> String {
    let now = Utc::now() + ahead;
    let (secs, micros) = (now.timestamp().to_string(), now.timestamp_subsec_micros().to_string());
    format!("*2\r\n${}\r\n{secs}\r\n${}\r\n{micros}\r\n", secs.len(), micros.len())
}

async fn serve(mut stream: TcpStream, reply: Reply) {
    let mut buffer = Vec::new();
    loop {
        while let Some((words, used)) = command(&buffer) {
            buffer.drain(..used);
            let answer = reply(&words).unwrap_or_else(|| plausible(&words));
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn plausible(words: &[String]) -> String {
    match words[0].as_str() {
        "HELLO" => "%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n".to_owned(),
        "CLIENT" if words[1] == "ID" => ":7\r\n".to_owned(),
        "TIME" => time(TimeDelta::zero()),
        "GET" => "_\r\n".to_owned(),
        "INFO" | "CONFIG" => "$0\r\n\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

/// The first whole command and its length. Only texts of one line.
fn command(buffer: &[u8]) -> Option<(Vec<String>, usize)> {
    let text = std::str::from_utf8(buffer).unwrap();
    let mut lines = text.split_inclusive("\r\n").filter(|line| line.ends_with('\n'));
    let head = lines.next()?;
    let mut used = head.len();
    let mut words = Vec::new();
    for _ in 0..head.trim_end().strip_prefix('*')?.parse::<usize>().unwrap() {
        used += lines.next()?.len();
        let word = lines.next()?;
        used += word.len();
        words.push(word.trim_end().to_owned());
    }
    Some((words, used))
}
