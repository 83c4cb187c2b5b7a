//! A private Redis with tasks of every kind, and the program beside it, run as a user runs it: see [`Fixture`].

use std::{ffi::OsStr, path::Path, process::Stdio, sync::Arc, time::Duration};

use asynq::{
    Client, Connector as _, Inspector, TaskInfo, TaskState,
    broker::{LeasedTask, Outcome, Settlement, Storage, Want},
    redis::RedisConnectionType,
};
use asynq_testing::{
    RedisServer,
    request::{RequestBuilder, queue, request},
};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

/// Longer than the program takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A queue whose name has all that is special in keys, paths and terminals.
pub(crate) const ODD_QUEUE: &str = "a:b{c}/ü";
/// A type that would turn the terminal red.
pub(crate) const EVIL_TYPE: &str = "evil\u{1b}[31m";

/// A private Redis, an empty home directory, and the means to fill the one and to run the program with the other.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) redis: RedisServer,
    pub(crate) home: TempDir,
    /// A storage on the Redis.
    pub(crate) storage: Arc<dyn Storage>,
}

impl Fixture {
    /// Starts an empty Redis.
    pub(crate) async fn start() -> Self {
        Self::on(RedisServer::start().await).await
    }

    /// Uses a Redis.
    pub(crate) async fn on(redis: RedisServer) -> Self {
        let connector = RedisConnectionType::single(redis.url()).unwrap();
        Self {
            storage: connector.connect(connector.env()).await.unwrap(),
            redis,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a Redis and [fills](Self::fill) it.
    pub(crate) async fn filled() -> Self {
        let fixture = Self::start().await;
        fixture.fill().await;
        fixture
    }

    /// The program with these arguments, after those that name the Redis.
    pub(crate) fn asynq<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Asynq {
        Asynq::new(self.home.path())
            .args(["--uri", &self.redis.url()])
            .args(words)
    }

    /// The program with these arguments alone, in the home directory of the fixture.
    pub(crate) fn bare<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Asynq {
        Asynq::new(self.home.path()).args(words)
    }

    /// Writes a file into the home directory.
    pub(crate) fn write_home(&self, name: &str, text: &str) {
        std::fs::write(self.home.path().join(name), text).unwrap();
    }

    /// An inspector on the Redis.
    pub(crate) fn inspector(&self) -> Inspector {
        Inspector::new(Arc::clone(&self.storage))
    }

    /// A client on the Redis.
    pub(crate) async fn client(&self) -> Client {
        Client::new(RedisConnectionType::single(self.redis.url()).unwrap())
            .await
            .unwrap()
    }

    /// Enqueues a task.
    pub(crate) async fn enqueue(&self, request: RequestBuilder) -> TaskInfo {
        self.storage
            .enqueue(&[Arc::new(request.build())])
            .await
            .remove(0)
            .unwrap()
    }

    /// Enqueues `count` tasks named `prefix` and a number, in large steps.
    pub(crate) async fn enqueue_many(&self, queue: &str, prefix: &str, count: usize) {
        for start in (0..count).step_by(1000) {
            let batch: Vec<_> = (start..count.min(start + 1000))
                .map(|number| Arc::new(request(queue, &format!("{prefix}{number:06}")).payload("{}").build()))
                .collect();
            for answer in self.storage.enqueue(&batch).await {
                answer.unwrap();
            }
        }
    }

    /// Takes the next pending task of a queue, as a server does.
    pub(crate) async fn take(&self, of: &str) -> LeasedTask {
        let want = Want {
            queue: queue(of),
            max: 1,
        };
        let mut answer = self.storage.exchange(&self.storage.begin(), &[], &[want]).await;
        answer.leased.pop().unwrap_or_else(|| panic!("no task in queue {of}"))
    }

    /// Ends the run of a task, as a server does.
    pub(crate) async fn settle(&self, task: &LeasedTask, outcome: Outcome) {
        let settlement = Settlement {
            lease: task.lease.clone(),
            message: Arc::clone(&task.message),
            outcome,
            run: None,
        };
        let mut answer = self.storage.exchange(&self.storage.begin(), &[settlement], &[]).await;
        answer.settled.remove(0).unwrap();
    }

    /// Brings a task into a state. For the states of a task that has run, nothing else of its queue may be pending. A
    /// scheduled task and one that is retried wait for an hour; a failed one has the error `boom`; a completed one is
    /// kept for a day, with the result `{"ok":true}`; a grouped one is in the group `g`, if `task` names none.
    pub(crate) async fn put(&self, task: RequestBuilder, state: TaskState) -> TaskInfo {
        let later = Utc::now() + TimeDelta::hours(1);
        let task = match state {
            TaskState::Scheduled => task.at(later),
            TaskState::Aggregating if task.clone().build().message.group_key.is_empty() => task.group("g"),
            TaskState::Completed => task.retention(24 * 3600),
            _ => task,
        };
        let info = self.enqueue(task).await;
        if matches!(
            state,
            TaskState::Pending | TaskState::Scheduled | TaskState::Aggregating
        ) {
            return info;
        }
        let taken = self.take(info.queue.as_str()).await;
        assert_eq!(taken.lease.id, info.id, "nothing else may be pending");
        match state {
            TaskState::Active => {}
            TaskState::Retry => {
                let retry = Outcome::Retry {
                    at: later,
                    error: "boom".to_owned(),
                    is_failure: true,
                };
                self.settle(&taken, retry).await;
            }
            TaskState::Archived => {
                self.settle(
                    &taken,
                    Outcome::Archive {
                        error: "boom".to_owned(),
                    },
                )
                .await
            }
            TaskState::Completed => {
                let result = Bytes::from_static(br#"{"ok":true}"#);
                self.storage.write_result(&taken.lease, result).await.unwrap();
                self.settle(&taken, Outcome::Done { retain: true }).await;
            }
            other => panic!("no way into the state {other}"),
        }
        info
    }

    /// Fills the Redis:
    ///
    /// * queue `default`: a task of each state, named after the state; their type is `email:send` and their payload
    ///   JSON. `grouped-2` is in the group `g{2}:x`;
    /// * queue `low`: paused, five pending tasks with a payload of each kind: `json`, `msgpack`, `binary`, `empty`,
    ///   `lines`; `binary` has the type [`EVIL_TYPE`];
    /// * queue [`ODD_QUEUE`]: one pending task, `id/with blank ü`.
    pub(crate) async fn fill(&self) {
        self.fill_default().await;
        let payloads: [(&str, &[u8]); 5] = [
            ("json", br#"{"user_id":12345678901234567890123,"tags":["a","b"]}"#),
            ("msgpack", b"\x82\xa2id\xcd\x03\xea\xa4name\xa3abc"),
            ("binary", b"\xff\xfe\x00\x01"),
            ("empty", b""),
            ("lines", "first\nsecond\tü".as_bytes()),
        ];
        for (id, payload) in payloads {
            let task = request("low", id).payload(payload.to_vec());
            self.enqueue(if id == "binary" {
                task.task_type(EVIL_TYPE)
            } else {
                task
            })
            .await;
        }
        self.inspector().pause_queue("low").await.unwrap();
        self.enqueue(request(ODD_QUEUE, "id/with blank ü").payload("odd")).await;
    }

    /// Fills the queue `default` as [`fill`](Self::fill) does.
    pub(crate) async fn fill_default(&self) {
        let email = |id: &str| {
            request("default", id)
                .task_type("email:send")
                .payload(format!(r#"{{"to":"{id}@example.com","n":1002}}"#))
        };
        for (id, state) in [
            ("completed", TaskState::Completed),
            ("archived", TaskState::Archived),
            ("retry", TaskState::Retry),
            ("active", TaskState::Active),
            ("scheduled", TaskState::Scheduled),
            ("aggregating", TaskState::Aggregating),
            ("pending", TaskState::Pending),
        ] {
            self.put(email(id), state).await;
        }
        self.put(email("grouped-2").group("g{2}:x"), TaskState::Aggregating)
            .await;
    }
}

/// The program, before it runs: arguments, environment and input. The environment has nothing but `PATH`, `HOME` and
/// `TZ=UTC`, and the input is empty.
#[derive(Debug)]
pub(crate) struct Asynq {
    command: Command,
    stdin: Vec<u8>,
}

impl Asynq {
    fn new(home: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_asynq"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TZ", "UTC")
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self {
            command,
            stdin: Vec::new(),
        }
    }

    /// Adds arguments.
    pub(crate) fn args<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets a variable to what need not be text.
    pub(crate) fn env_os(mut self, name: &OsStr, value: &OsStr) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets what the program reads from its standard input.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts the program. Its input, and both its outputs, are open pipes.
    pub(crate) fn spawn(mut self) -> Child {
        self.command.spawn().unwrap()
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// As [`run_to_end`].
    pub(crate) async fn run(self) -> Ended {
        run_to_end(self.command, self.stdin).await
    }

    /// Runs the program, which must succeed and say nothing on stderr, and returns what it writes.
    pub(crate) async fn ok(self) -> String {
        self.run().await.ok()
    }

    /// Runs the program, which must end with this status and write nothing to stdout, and returns its stderr.
    pub(crate) async fn fails(self, status: i32) -> String {
        self.run().await.failed(status)
    }

    /// Runs the program, which must succeed, and reads its output as JSON.
    pub(crate) async fn json(self) -> serde_json::Value {
        let text = self.args(["--output", "json"]).ok().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Runs the program, which must succeed, and reads each line of its output as JSON.
    pub(crate) async fn ndjson(self) -> Vec<serde_json::Value> {
        self.args(["--output", "ndjson"]).run().await.ndjson()
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it takes longer than [`PATIENCE`], or writes what is not UTF-8.
pub(crate) async fn run_to_end(mut command: Command, stdin: Vec<u8>) -> Ended {
    let words = format!("{:?}", command.as_std());
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.kill_on_drop(true).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let feed = async {
        // The program may end before it has read everything.
        let _ = pipe.write_all(&stdin).await;
        drop(pipe);
    };
    let ended = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(PATIENCE, ended).await;
    let output = output.unwrap_or_else(|_| panic!("does not end: {words}")).unwrap();
    Ended {
        status: output
            .status
            .code()
            .unwrap_or_else(|| panic!("{}: {words}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        words,
    }
}

/// A run of the program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    words: String,
}

impl Ended {
    /// Returns the output of a run that must have succeeded without a word on stderr.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(
            (self.status, self.stderr.as_str()),
            (0, ""),
            "{}\n{}",
            self.words,
            self.stdout
        );
        self.stdout
    }

    /// Reads each line of the output as JSON, however the run ended.
    #[track_caller]
    pub(crate) fn ndjson(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().map(read).collect()
    }

    /// Returns what a run said on stderr that must have ended with this status and no output.
    #[track_caller]
    pub(crate) fn failed(self, status: i32) -> String {
        assert_eq!(
            (self.status, self.stdout.as_str()),
            (status, ""),
            "{}\n{}",
            self.words,
            self.stderr
        );
        self.stderr
    }
}

/// Ends the program as Ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    signal(child, rustix::process::Signal::INT);
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Reads a pipe of the program to its end.
pub(crate) async fn read_all(pipe: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let read = tokio::time::timeout(PATIENCE, pipe.read_to_string(&mut text)).await;
    read.unwrap_or_else(|_| panic!("the pipe stays open after {text:?}"))
        .unwrap();
    text
}

/// Asks again until the answer is yes.
///
/// # Panics
/// If it is still no after [`PATIENCE`].
pub(crate) async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| panic!("still not so: {what}"));
}

/// The time in so many seconds.
pub(crate) fn in_secs(secs: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::seconds(secs)
}
