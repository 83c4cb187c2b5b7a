//! A small RESP2 client over plain sockets: raw looks at a server and writes of foreign programs.
//!
//! It shares no code with the brokers under test. It panics where a connection fails: in a test
//! that is the failure to report.

use std::{io, path::Path};

use asynq_core::{
    keys::own,
    raw::{RawState, RawValue},
};
use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RespValue {
    /// `nil`, as a bulk string or an array.
    Nil,
    /// A status such as `OK`.
    Status(String),
    /// An error reply, its text.
    Error(String),
    /// An integer.
    Int(i64),
    /// A bulk string.
    Bulk(Bytes),
    /// An array.
    Array(Vec<RespValue>),
}

impl RespValue {
    /// The integer of an integer reply or of a decimal string.
    ///
    /// # Panics
    /// If it is neither.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bulk(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
            _ => None,
        }
        .unwrap_or_else(|| panic!("expected an integer, got {self:?}"))
    }

    /// The bytes of a bulk string; `None` for `nil`.
    ///
    /// # Panics
    /// If it is another reply.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Nil => None,
            Self::Bulk(bytes) => Some(bytes.clone()),
            Self::Status(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
            other => panic!("expected a bulk string, got {other:?}"),
        }
    }

    /// The text of a bulk string or a status.
    ///
    /// # Panics
    /// If it is another reply.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.bytes().unwrap_or_else(|| panic!("expected text, got nil"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The items of an array; none for `nil`.
    ///
    /// # Panics
    /// If it is another reply.
    #[must_use]
    pub fn array(self) -> Vec<RespValue> {
        match self {
            Self::Nil => Vec::new(),
            Self::Array(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }

    /// The text of an error reply.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection.
pub struct Resp {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
}

impl std::fmt::Debug for Resp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resp")
    }
}

impl Resp {
    fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: BytesMut::with_capacity(4096),
        }
    }

    /// Connects over TCP to `host:port`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// Connects over a unix socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(UnixStream::connect(path).await?))
    }

    /// Sends a command and waits for its reply, error replies included.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<RespValue> {
        let mut out = Vec::new();
        put_command(&mut out, args);
        self.stream.write_all(&out).await?;
        self.reply().await
    }

    /// Sends a command and gives its reply, error replies included.
    ///
    /// # Panics
    /// If the connection fails.
    pub async fn cmd(&mut self, args: &[&str]) -> RespValue {
        self.cmd_bytes(args).await
    }

    /// [`cmd`](Self::cmd) with arguments of any bytes.
    ///
    /// # Panics
    /// If the connection fails.
    pub async fn cmd_bytes<A: AsRef<[u8]>>(&mut self, args: &[A]) -> RespValue {
        match self.try_cmd(args).await {
            Ok(reply) => reply,
            Err(error) => panic!("the connection to the test server failed: {error}"),
        }
    }

    /// Sends a command that must not be answered with an error.
    ///
    /// # Panics
    /// If the connection fails or the reply is an error.
    pub async fn ok<A: AsRef<[u8]>>(&mut self, args: &[A]) -> RespValue {
        let reply = self.cmd_bytes(args).await;
        if let Some(error) = reply.error() {
            let command: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg.as_ref())).collect();
            panic!("{}: {error}", command.join(" "));
        }
        reply
    }

    /// Sends commands in one go and gives their replies.
    ///
    /// # Panics
    /// If the connection fails.
    pub async fn pipeline(&mut self, commands: &[Vec<Bytes>]) -> Vec<RespValue> {
        let mut out = Vec::new();
        for command in commands {
            put_command(&mut out, command);
        }
        if let Err(error) = self.stream.write_all(&out).await {
            panic!("the connection to the test server failed: {error}");
        }
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            match self.reply().await {
                Ok(reply) => replies.push(reply),
                Err(error) => panic!("the connection to the test server failed: {error}"),
            }
        }
        replies
    }

    /// Waits for the next reply or, after SUBSCRIBE, the next message.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn reply(&mut self) -> io::Result<RespValue> {
        loop {
            if let Some((value, used)) = parse(&self.buffer)? {
                self.buffer.advance(used);
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// All keys of the selected database, sorted.
    ///
    /// # Panics
    /// If the connection fails.
    pub async fn keys(&mut self) -> Vec<Bytes> {
        let mut keys = std::collections::BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut page = self.ok(&["SCAN", &cursor, "COUNT", "1000"]).await.array();
            let (Some(found), Some(next)) = (page.pop(), page.pop()) else {
                panic!("SCAN answers with two items")
            };
            keys.extend(found.array().iter().filter_map(RespValue::bytes));
            cursor = next.text();
            if cursor == "0" {
                return keys.into_iter().collect();
            }
        }
    }

    /// All keys of the selected database with their values, but for the audit trail, a stream that is no part of any
    /// queue. Read at a quiet moment: the look is not atomic.
    ///
    /// # Panics
    /// If the connection fails, a key is of a type that the layout never has, or a score is not a
    /// whole number.
    pub async fn raw_state(&mut self) -> RawState {
        let keys = self.keys().await;
        let types: Vec<_> = keys
            .iter()
            .map(|key| vec![Bytes::from_static(b"TYPE"), key.clone()])
            .collect();
        let types: Vec<_> = self.pipeline(&types).await.iter().map(RespValue::text).collect();
        let is_trail = |key: &Bytes, kind: &str| kind == "stream" && key == own::TRAIL.as_bytes();
        let (keys, types): (Vec<_>, Vec<_>) = keys
            .into_iter()
            .zip(types)
            .filter(|(key, kind)| !is_trail(key, kind))
            .unzip();
        let look = |(key, kind): (&Bytes, &String)| {
            let words: &[&'static str] = match kind.as_str() {
                "list" => &["LRANGE", "", "0", "-1"],
                "set" => &["SMEMBERS", ""],
                "zset" => &["ZRANGE", "", "0", "-1", "WITHSCORES"],
                "hash" => &["HGETALL", ""],
                // A key that is gone meanwhile has the type "none" and gives nil.
                "string" | "none" => &["GET", ""],
                other => panic!("key {key:?} is of the type {other}, which the layout never has"),
            };
            let fill = |word: &&'static str| {
                if word.is_empty() {
                    key.clone()
                } else {
                    Bytes::from_static(word.as_bytes())
                }
            };
            words.iter().map(fill).collect::<Vec<_>>()
        };
        let looks: Vec<_> = keys.iter().zip(&types).map(look).collect();
        let values = self.pipeline(&looks).await;
        let mut state = RawState::new();
        for ((key, kind), value) in keys.iter().zip(&types).zip(values) {
            let name = String::from_utf8_lossy(key).into_owned();
            if let Some(value) = raw_value(&name, kind, value) {
                state.insert(name, value);
            }
        }
        state
    }

    /// Returns how long a key lives: seconds, rounded by Redis; `None`: for ever, or there is no such key.
    ///
    /// # Panics
    /// If the connection fails.
    pub async fn ttl(&mut self, key: &str) -> Option<i64> {
        let seconds = self.ok(&["TTL", key]).await.int();
        (seconds >= 0).then_some(seconds)
    }

    /// The Unix second at which a key ends, as it was set; `None`: never, or there is no such key.
    /// Works from Redis 7 on.
    ///
    /// # Panics
    /// If the connection fails or the server is older.
    pub async fn expire_time(&mut self, key: &str) -> Option<i64> {
        let seconds = self.ok(&["EXPIRETIME", key]).await.int();
        (seconds >= 0).then_some(seconds)
    }
}

fn put_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn raw_value(name: &str, kind: &str, value: RespValue) -> Option<RawValue> {
    if kind == "string" {
        return value.bytes().map(RawValue::String);
    }
    let items: Vec<Bytes> = match kind {
        "none" => return None,
        _ => value.array().iter().filter_map(RespValue::bytes).collect(),
    };
    if items.is_empty() {
        return None;
    }
    Some(match kind {
        "list" => RawValue::List(items),
        "set" => RawValue::Set(items.into_iter().collect()),
        "zset" => RawValue::ZSet(
            pairs(items)
                .map(|(member, score)| (member, whole(name, &score)))
                .collect(),
        ),
        _ => RawValue::Hash(
            pairs(items)
                .map(|(field, value)| (String::from_utf8_lossy(&field).into(), value))
                .collect(),
        ),
    })
}

fn pairs(items: Vec<Bytes>) -> impl Iterator<Item = (Bytes, Bytes)> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || Some((items.next()?, items.next()?)))
}

fn whole(name: &str, score: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(score);
    text.parse()
        .unwrap_or_else(|_| panic!("{name}: the score {text} is not a whole number"))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads one value from the start of `input`: the value and its length, or `None` for more input.
fn parse(input: &[u8]) -> io::Result<Option<(RespValue, usize)>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let Some((&kind, line)) = input[..end].split_first() else {
        return Err(bad("empty line"));
    };
    let line = std::str::from_utf8(line).map_err(|_| bad("line is not UTF-8"))?;
    let start = end + 2;
    let number = || line.parse::<i64>().map_err(|_| bad("number expected"));
    Ok(Some(match kind {
        b'+' => (RespValue::Status(line.to_owned()), start),
        b'-' => (RespValue::Error(line.to_owned()), start),
        b':' => (RespValue::Int(number()?), start),
        b'$' => {
            let Ok(length) = usize::try_from(number()?) else {
                return Ok(Some((RespValue::Nil, start)));
            };
            let Some(bytes) = input.get(start..start + length + 2) else {
                return Ok(None);
            };
            (
                RespValue::Bulk(Bytes::copy_from_slice(&bytes[..length])),
                start + length + 2,
            )
        }
        b'*' => {
            let Ok(count) = usize::try_from(number()?) else {
                return Ok(Some((RespValue::Nil, start)));
            };
            let (mut items, mut at) = (Vec::new(), start);
            for _ in 0..count {
                let Some((item, used)) = parse(&input[at..])? else {
                    return Ok(None);
                };
                items.push(item);
                at += used;
            }
            (RespValue::Array(items), at)
        }
        other => return Err(bad(&format!("unknown reply type {:?}", other as char))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_whole_or_not_at_all() {
        let input = b"*3\r\n$1\r\na\r\n:-7\r\n*1\r\n$-1\r\n+OK\r\n";
        let whole = input.len() - 5;
        for cut in 0..whole {
            assert_eq!(parse(&input[..cut]).unwrap(), None, "cut at {cut}");
        }
        let (value, used) = parse(input).unwrap().unwrap();
        assert_eq!(used, whole);
        let expected = vec![
            RespValue::Bulk("a".into()),
            RespValue::Int(-7),
            RespValue::Array(vec![RespValue::Nil]),
        ];
        assert_eq!(value, RespValue::Array(expected));
    }
}
