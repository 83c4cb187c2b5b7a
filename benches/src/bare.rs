//! The bare scripts as a contestant: the calls that a drain and an enqueue make, driven by a plain pipeline on one
//! connection, with no runtime around them. They are the limit that a worker can come near.
//!
//! The arguments are those of `lua/exchange.lua` and `lua/enqueue.lua` of `asynq-redis`.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use asynq::task::Task;
use redis::{Cmd, Connection, Value};
use uuid::Uuid;

use crate::contestant::{Params, ready, say, until_stopped};

const QUEUE: &str = "default";
/// Bytes of an id, which is a UUID.
const ID: usize = 36;
/// Seconds that a lease lasts.
const LEASE: u64 = 30;
/// Bytes of messages that one call takes at most.
const MOST_BYTES: u64 = 1 << 20;

/// Does the work.
pub(crate) fn run(work: &str, params: &Params) -> Result<()> {
    let client = redis::Client::open(format!("redis://{}", params.redis))?;
    let connection = client.get_connection()?;
    match work {
        "enqueue" => enqueue(connection, params),
        "drain" => drain(connection, params),
        other => bail!("there are no bare scripts for {other:?}"),
    }
}

/// A script with the parts that `scripts.rs` puts in front of it, loaded; returns its hash.
fn load(connection: &mut Connection, name: &str) -> Result<String> {
    let broker = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/asynq-redis");
    let registered = fs::read_to_string(broker.join("src/scripts.rs")).context("the scripts of asynq-redis")?;
    let mut source = String::new();
    for include in includes(&registered, name)? {
        source += &fs::read_to_string(broker.join(format!("lua/include/{include}.lua")))?;
        source.push('\n');
    }
    source += &fs::read_to_string(broker.join(format!("lua/{name}.lua")))?;
    Ok(redis::cmd("SCRIPT").arg("LOAD").arg(source).query(connection)?)
}

/// The names of the parts of a script, from a line such as `ENQUEUE = "enqueue" ["container" "create"];`.
fn includes<'r>(registered: &'r str, name: &str) -> Result<Vec<&'r str>> {
    let start = format!("= \"{name}\"");
    let (_, rest) = registered
        .split_once(&start)
        .with_context(|| format!("{name} is no script"))?;
    let (list, _) = rest.split_once(']').context("an end of the list")?;
    Ok(list.split('"').skip(1).step_by(2).collect())
}

fn now() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

fn key(suffix: &str) -> String {
    format!("asynq:{{{QUEUE}}}:{suffix}")
}

/// Calls under way, in order.
struct Pipeline {
    connection: Connection,
    sent: VecDeque<u64>,
}

impl Pipeline {
    fn send(&mut self, cmd: &Cmd, tasks: u64) -> Result<()> {
        self.connection.send_packed_command(&cmd.get_packed_command())?;
        self.sent.push_back(tasks);
        Ok(())
    }

    /// The next answer, and how many tasks its call was for.
    fn receive(&mut self) -> Result<(Value, u64)> {
        let tasks = self.sent.pop_front().context("no call is under way")?;
        Ok((self.connection.recv_response()?.extract_error()?, tasks))
    }
}

fn enqueue(mut connection: Connection, params: &Params) -> Result<()> {
    let hash = load(&mut connection, "enqueue")?;
    let message = message(params.payload)?;
    redis::cmd("SADD")
        .arg("asynq:queues")
        .arg(QUEUE)
        .exec(&mut connection)?;
    let batch = params.batch.max(1) as u64;
    let mut pipeline = Pipeline {
        connection,
        sent: VecDeque::new(),
    };
    ready();
    let mut left = params.n;
    while left > 0 || !pipeline.sent.is_empty() {
        if left > 0 && pipeline.sent.len() < params.in_flight.max(1) {
            let count = left.min(batch);
            let now = now();
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(&hash).arg(1).arg(key("pending"));
            cmd.arg(key(""))
                .arg((now / 1_000_000_000) as u64)
                .arg(now as u64)
                .arg(count);
            for _ in 0..count {
                let (id, token) = (Uuid::from_u128(now ^ u128::from(left) << 64), left);
                let id = id.to_string();
                cmd.arg(&id).arg(format!("p{token:016x}")).arg(message.with_id(&id));
                left -= 1;
            }
            pipeline.send(&cmd, count)?;
            continue;
        }
        let (answer, tasks) = pipeline.receive()?;
        let codes: String = redis::from_redis_value(answer)?;
        ensure!(
            codes.bytes().filter(|code| *code == b'1').count() as u64 == tasks,
            "not enqueued: {codes}"
        );
    }
    say("handled");
    until_stopped();
    Ok(())
}

/// An encoded message, in front of and behind its id.
struct Message {
    before: Vec<u8>,
    after: Vec<u8>,
}

/// A message as a worker would find it. Its bytes are put together by hand, so that no runtime takes part.
fn message(payload: usize) -> Result<Message> {
    let task = Task::new("bench:noop", &vec![b'x'; payload])?;
    let mut before = Vec::new();
    text(&mut before, 1, task.get_type().as_bytes());
    text(&mut before, 2, task.get_payload());
    let mut after = Vec::new();
    text(&mut after, 4, QUEUE.as_bytes());
    // Retries and timeout, as by default: 25, and 1800 s.
    for (field, value) in [(5, 25), (8, 1800)] {
        varint(&mut after, field << 3);
        varint(&mut after, value);
    }
    Ok(Message { before, after })
}

impl Message {
    fn with_id(&self, id: &str) -> Vec<u8> {
        let mut bytes = self.before.clone();
        text(&mut bytes, 3, id.as_bytes());
        bytes.extend_from_slice(&self.after);
        bytes
    }
}

/// Adds a field of bytes.
fn text(bytes: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(bytes, field << 3 | 2);
    varint(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Tasks that were taken by one call and are done.
struct Taken {
    token: String,
    until: u64,
    ids: Vec<Vec<u8>>,
}

fn drain(mut connection: Connection, params: &Params) -> Result<()> {
    let hash = load(&mut connection, "exchange")?;
    let batch = params.batch.max(1) as u64;
    let mut pipeline = Pipeline {
        connection,
        sent: VecDeque::new(),
    };
    let (mut calls, mut taken, mut settled) = (0_u64, 0_u64, 0_u64);
    let mut done: VecDeque<Taken> = VecDeque::new();
    let mut takes: VecDeque<(Taken, u64)> = VecDeque::new();
    ready();
    say("first");
    while settled < params.n {
        // The first calls have nothing to settle.
        while pipeline.sent.len() < params.in_flight.max(1) && (!done.is_empty() || taken < params.n) {
            let seconds = (now() / 1_000_000_000) as u64;
            let fence = done.pop_front();
            let want = batch.min(params.n - taken);
            let (token, until) = (format!("bare-{calls}"), seconds + LEASE);
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(&hash).arg(1).arg(key("pending")).arg(key("")).arg(seconds);
            cmd.arg(seconds + 90 * 24 * 3600).arg(day(seconds));
            cmd.arg(want).arg(MOST_BYTES).arg(&token).arg(until).arg(10);
            let mut settles = 0;
            match fence {
                Some(Taken { token, until, ids }) => {
                    settles = ids.len() as u64;
                    cmd.arg(1).arg(token).arg(until).arg(ids.len()).arg(ids);
                }
                None => {
                    cmd.arg(0);
                }
            }
            calls += 1;
            taken += want;
            let ids = Vec::new();
            takes.push_back((Taken { token, until, ids }, want));
            pipeline.send(&cmd, settles)?;
        }
        let (answer, settles) = pipeline.receive()?;
        let (mut take, want) = takes.pop_front().context("a take for each call")?;
        let (codes, ids) = read(answer)?;
        ensure!(
            codes.bytes().all(|code| code == b'1') && codes.len() as u64 == settles,
            "not settled: {codes}"
        );
        settled += settles;
        taken -= want - ids.len() as u64;
        if !ids.is_empty() {
            take.ids = ids;
            done.push_back(take);
        }
    }
    say("handled");
    until_stopped();
    Ok(())
}

/// The codes of what was settled, and the ids of what was taken.
fn read(answer: Value) -> Result<(String, Vec<Vec<u8>>)> {
    let Value::Array(items) = answer else {
        bail!("an exchange answers with an array, not {answer:?}")
    };
    let mut items = items.into_iter();
    let codes = redis::from_redis_value(items.next().context("codes")?)?;
    let count: usize = redis::from_redis_value(items.nth(2).context("a count")?)?;
    let mut ids = Vec::with_capacity(count);
    for item in items.take(2 * count) {
        let item: Vec<u8> = redis::from_redis_value(item)?;
        // The other half are messages, which are longer.
        if item.len() == ID {
            ids.push(item);
        }
    }
    ensure!(ids.len() == count, "{} ids of {count} tasks", ids.len());
    Ok((codes, ids))
}

/// The day of a time, as counters are named.
fn day(seconds: u64) -> String {
    let at = chrono::DateTime::from_timestamp(seconds as i64, 0).unwrap_or_default();
    at.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_script_are_read() {
        let registered = "    ENQUEUE = \"enqueue\" [\"container\" \"exact\" \"create\"];\n    CLAIM = \"claim\"\n        [\"chunks\"];\n";
        assert_eq!(
            includes(registered, "enqueue").unwrap(),
            ["container", "exact", "create"]
        );
        assert_eq!(includes(registered, "claim").unwrap(), ["chunks"]);
        includes(registered, "none").unwrap_err();
    }

    #[test]
    fn a_day_is_written_as_counters_have_it() {
        assert_eq!(day(1_700_000_000), "2023-11-14");
    }
}
