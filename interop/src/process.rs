//! One run of the program: lines in, lines out, what it says to people kept for the day it fails.

use std::{
    fmt,
    fs::File,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::program::program;

/// Time for which the program may be silent when it is expected to report something. Far more than it needs: tests
/// share the machine with builds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An error of the Go library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoError {
    /// The kind of error.
    pub kind: GoErrorKind,
    /// Its text.
    pub text: String,
}

impl fmt::Display for GoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// The errors that the Go program tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoErrorKind {
    /// `ErrDuplicateTask`.
    Duplicate,
    /// `ErrTaskIDConflict`.
    IdConflict,
    /// `ErrQueueNotFound`.
    QueueNotFound,
    /// `ErrTaskNotFound`.
    TaskNotFound,
    /// The library panicked.
    Panic,
    /// The Go program did not understand the line: a mistake in this crate.
    BadInput,
    /// Any other error.
    Other,
}

/// The common part of the answers that can be refusals.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    error: String,
    kind: Option<GoErrorKind>,
}

impl From<Refusal> for GoError {
    fn from(refusal: Refusal) -> Self {
        Self {
            kind: refusal.kind.unwrap_or(GoErrorKind::Other),
            text: refusal.error,
        }
    }
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    complaints: Complaints,
}

impl Process {
    /// Starts a subcommand of the Go program on the Redis at this address.
    pub(crate) async fn start(subcommand: &str, address: &str, args: &[String]) -> Self {
        Self::start_alone(subcommand, &[&on_redis(address), args].concat()).await
    }

    /// Starts a subcommand of the Go program that needs no Redis.
    pub(crate) async fn start_alone(subcommand: &str, args: &[String]) -> Self {
        let mut command = Command::new(program().await);
        command.arg(subcommand).args(args);
        Self::spawn(format!("asynq-interop {subcommand}"), command)
    }

    /// Starts a program of ours on the Redis at this URL.
    pub(crate) fn of_ours(program: &Path, url: &str, args: &[String]) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(on_redis(url)).args(args);
        Self::spawn(name, command)
    }

    fn spawn(name: String, mut command: Command) -> Self {
        let stderr = tempfile::tempfile().unwrap_or_else(|error| panic!("no file for what {name} says: {error}"));
        let complaints = Complaints(stderr);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints.writer());
        command.kill_on_drop(true);
        let spawned = command.spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name,
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(|pipe| BufReader::new(pipe).lines()),
            child,
            complaints,
        }
    }

    /// The process id; `None` once it has ended.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns what it said to people.
    pub(crate) fn complaints(&self) -> Complaints {
        Complaints(self.complaints.clone_file())
    }

    /// Sends a line.
    pub(crate) async fn say(&mut self, line: &str) {
        let Some(stdin) = &mut self.stdin else {
            panic!("{}: its input was closed before", self.name)
        };
        let sent = async {
            stdin.write_all(line.as_bytes()).await?;
            stdin.write_all(b"\n").await?;
            stdin.flush().await
        };
        match timeout(PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{} takes no line: {error}\n{}", self.name, self.complaints),
            Err(_) => panic!("{} does not read\n{}", self.name, self.complaints),
        }
    }

    /// Sends a line and reads the answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, line: &impl Serialize) -> T {
        let line = serde_json::to_string(line).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        self.say(&line).await;
        match self.line(PATIENCE).await {
            Some(answer) => parse(&answer),
            None => panic!("{} ended instead of answering\n{}", self.name, self.complaints),
        }
    }

    /// The next line; `None` at the end of its output.
    pub(crate) async fn line(&mut self, within: Duration) -> Option<String> {
        let Some(stdout) = &mut self.stdout else {
            panic!("{}: its output is read elsewhere", self.name)
        };
        match timeout(within, stdout.next_line()).await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => panic!("{}: its output cannot be read: {error}", self.name),
            Err(_) => panic!("{} said nothing for {within:?}\n{}", self.name, self.complaints),
        }
    }

    /// Its output, for somebody who reads it all the time.
    pub(crate) fn take_output(&mut self) -> Lines<BufReader<ChildStdout>> {
        let taken = self.stdout.take();
        taken.unwrap_or_else(|| panic!("{}: its output is read elsewhere", self.name))
    }

    /// Closes its input, which ends every subcommand, and waits for its end.
    pub(crate) async fn finish(mut self) {
        self.stdin = None;
        // Nobody is to block it at its last words.
        if self.stdout.is_some() {
            while self.line(PATIENCE).await.is_some() {}
        }
        let status = self.ended(PATIENCE).await;
        assert!(
            status.success(),
            "{} ended with {status}\n{}",
            self.name,
            self.complaints
        );
    }

    /// Reads all that it says until its end, for programs that end by themselves.
    pub(crate) async fn output(mut self, within: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line(within).await {
            lines.push(line);
        }
        self.finish().await;
        lines
    }

    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        match timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => panic!("{}: {error}", self.name),
            Err(_) => panic!("{} did not end within {within:?}\n{}", self.name, self.complaints),
        }
    }

    /// Sends a signal to the program, which must live.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let Some(pid) = pid else {
            panic!("{} has ended\n{}", self.name, self.complaints)
        };
        if let Err(error) = kill_process(pid, signal) {
            panic!("{} does not get {signal:?}: {error}", self.name);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            panic!("{} cannot be killed: {error}", self.name);
        }
    }
}

fn on_redis(address: &str) -> [String; 2] {
    ["--redis".to_owned(), address.to_owned()]
}

/// Reads a line of JSON.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("the program said {line:?}: {error}"))
}

/// The standard error of a program.
#[derive(Debug)]
pub(crate) struct Complaints(File);

impl Complaints {
    fn clone_file(&self) -> File {
        let cloned = self.0.try_clone();
        cloned.unwrap_or_else(|error| panic!("no file for what the program says: {error}"))
    }

    fn writer(&self) -> Stdio {
        self.clone_file().into()
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Positioned reads: the program goes on writing at the file's own position.
        let mut text = vec![0; 64 << 10];
        let length = self.0.read_at(&mut text, 0).map_err(|_| fmt::Error)?;
        write!(f, "it complained:\n{}", String::from_utf8_lossy(&text[..length]))
    }
}
