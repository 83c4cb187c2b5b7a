//! Private redis-servers, one for each test that needs one.
//!
//! A server has a temporary directory and a loopback port of its own, and it is killed when the
//! value is dropped, also when the test panics. A server that is missing or does not come up is
//! a failure of the test, never a reason to skip it.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

pub use self::{cluster::RedisCluster, sentinel::RedisSentinel};

use crate::{
    resp::{Resp, RespValue},
    tls::TlsFiles,
};

/// The environment variable that names another `redis-server` program.
pub const BINARY_ENV: &str = "ASYNQ_REDIS_SERVER";

/// Time that a server may take to come up.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Number of ports that are tried when others take them first.
const PORT_ATTEMPTS: u32 = 10;
/// The longest path of a unix socket that every system takes.
const SOCKET_PATH_LIMIT: usize = 100;

mod cluster;
mod sentinel;

/// The kind of server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Alone,
    /// A node of a cluster.
    Node,
    Sentinel,
}

/// A builder of servers.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisServerBuilder {
    mode: Mode,
    args: Vec<String>,
    binary: Option<PathBuf>,
    persistent: bool,
    password: Option<String>,
    tls: Option<TlsFiles>,
}

impl RedisServerBuilder {
    /// Adds one word to the command line: `.arg("--maxmemory").arg("8mb")`.
    pub fn arg(mut self, word: impl Into<String>) -> Self {
        self.args.push(word.into());
        self
    }

    /// Adds words to the command line.
    pub fn args<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.args.extend(words.into_iter().map(Into::into));
        self
    }

    /// The program; by default that of [`BINARY_ENV`], else `redis-server` on the PATH.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Writes each change to disk, so that [`RedisServer::restart`] keeps the data.
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    /// Asks clients for this password of the default user.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Listens for TLS too, on a port of its own; clients need no certificate.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If there is no such program or it does not come up; the message has its output.
    pub async fn start(self) -> RedisServer {
        let dir = private_dir();
        let mut attempt = 1;
        loop {
            let ports = Ports {
                plain: if self.mode == Mode::Node {
                    free_node_port()
                } else {
                    free_port()
                },
                tls: self.tls.as_ref().map(|_| free_port()),
            };
            match launch(&self, dir.path(), ports).await {
                Ok(child) => {
                    return RedisServer {
                        builder: self,
                        ports,
                        process: Mutex::new(Some(child)),
                        dir,
                    };
                }
                Err(Failure::PortTaken) if attempt < PORT_ATTEMPTS => attempt += 1,
                Err(failure) => panic!("{}", failure.text()),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    plain: u16,
    tls: Option<u16>,
}

/// A running redis-server. Killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    builder: RedisServerBuilder,
    ports: Ports,
    process: Mutex<Option<Running>>,
    // After the process: a directory goes when nobody writes to it any more.
    dir: TempDir,
}

impl RedisServer {
    /// Starts a server without persistence.
    ///
    /// # Panics
    /// If it does not come up; see [`RedisServerBuilder::start`].
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Starts a server with more words on its command line: `&["--maxmemory", "8mb"]`.
    ///
    /// # Panics
    /// If it does not come up; see [`RedisServerBuilder::start`].
    pub async fn start_with(args: &[&str]) -> Self {
        Self::builder().args(args.iter().copied()).start().await
    }

    /// Returns how to start a server in another way.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// `redis://127.0.0.1:port`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self
            .builder
            .password
            .as_ref()
            .map(|password| format!(":{password}@"))
            .unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.ports.plain)
    }

    /// `rediss://127.0.0.1:port`.
    ///
    /// # Panics
    /// If the server was started without [`RedisServerBuilder::tls`].
    #[must_use]
    pub fn tls_url(&self) -> String {
        let Some(port) = self.ports.tls else {
            panic!("the test server was started without TLS")
        };
        let login = self
            .builder
            .password
            .as_ref()
            .map(|password| format!(":{password}@"))
            .unwrap_or_default();
        format!("rediss://{login}127.0.0.1:{port}")
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// The unix socket.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        socket_in(self.dir.path())
    }

    /// Returns what the server has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.dir.path())
    }

    /// The process id; `None` after [`kill`](Self::kill).
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(|running| running.child.id())
    }

    /// A raw connection, logged in if there is a password.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn client(&self) -> Resp {
        let connected = Resp::connect_unix(&self.socket_path()).await;
        let mut client = connected.unwrap_or_else(|error| panic!("no connection to the test server: {error}"));
        if let Some(password) = &self.builder.password {
            client.ok(&["AUTH", password]).await;
        }
        client
    }

    /// Ends the process with SIGKILL. Nothing happens if it has ended.
    pub fn kill(&self) {
        self.running().take();
    }

    /// Kills the server if it runs and starts it again on the same port. Keeps the data only if
    /// the server is [persistent](RedisServerBuilder::persistent).
    ///
    /// # Panics
    /// If it does not come up again.
    pub async fn restart(&self) {
        self.kill();
        match launch(&self.builder, self.dir.path(), self.ports).await {
            Ok(child) => *self.running() = Some(child),
            Err(failure) => panic!("{}", failure.text()),
        }
    }

    /// Stops the process where it is (SIGSTOP): connections stay, nothing is answered.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on (SIGCONT).
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let running = self.running();
        let Some(Running { child, .. }) = running.as_ref() else {
            panic!("the test server does not run")
        };
        if let Err(error) = kill_process(Pid::from_child(child), signal) {
            panic!("the test server took no signal: {error}");
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child process that outlives neither its value nor, where there is a shell, its parent.
#[derive(Debug)]
struct Running {
    child: Child,
    guard: Option<Child>,
}

impl Running {
    fn new(child: Child, dir: &Path) -> Self {
        // When this process ends in whatever way, the guard's input ends too.
        let script = r#"read _; kill -9 "$1"; rm -rf "$2""#;
        let mut guard = Command::new("sh");
        guard.args(["-c", script, "sh", &child.id().to_string()]).arg(dir);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            child,
            guard: guard.spawn().ok(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The guard first: it knows the server by a number that may soon be another's. Killing
        // fails only for a process that has ended.
        for process in self.guard.iter_mut().chain([&mut self.child]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

enum Failure {
    PortTaken,
    NoProgram { program: PathBuf, error: std::io::Error },
    Ended { log: String },
    TooSlow { log: String },
}

impl Failure {
    fn text(&self) -> String {
        match self {
            Self::PortTaken => "no free port for the test server could be found".to_owned(),
            Self::NoProgram { program, error } => format!(
                "cannot run {}: {error}; tests against Redis need a redis-server: install one, or name it in {BINARY_ENV}",
                program.display()
            ),
            Self::Ended { log } => format!("the test server ended at its start; it said:\n{log}"),
            Self::TooSlow { log } => {
                format!("the test server did not answer within {START_LIMIT:?}; it said:\n{log}")
            }
        }
    }
}

async fn launch(builder: &RedisServerBuilder, dir: &Path, ports: Ports) -> Result<Running, Failure> {
    let log = File::options().create(true).append(true).open(log_in(dir));
    let log = log.unwrap_or_else(|error| panic!("no log file for the test server: {error}"));
    let errors = log
        .try_clone()
        .unwrap_or_else(|error| panic!("no log file for the test server: {error}"));
    let said_before = read_log(dir).len();
    // A killed server leaves its socket behind; a connection to it must not look like a start.
    let _ = fs::remove_file(socket_in(dir));

    let program = builder
        .binary
        .clone()
        .or_else(|| {
            std::env::var_os(BINARY_ENV)
                .filter(|name| !name.is_empty())
                .map(PathBuf::from)
        })
        .unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new(&program);
    match builder.mode {
        Mode::Alone => {}
        Mode::Node => {
            command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
        }
        Mode::Sentinel => {
            // A sentinel writes what it learns into its configuration.
            let file = dir.join("sentinel.conf");
            File::create(&file).unwrap_or_else(|error| panic!("no configuration for the sentinel: {error}"));
            command.arg(file).arg("--sentinel");
        }
    }
    command.current_dir(dir).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.args([
        "--port",
        &ports.plain.to_string(),
        "--bind",
        "127.0.0.1",
        "--daemonize",
        "no",
        "--save",
        "",
    ]);
    command.arg("--dir").arg(dir).arg("--unixsocket").arg(socket_in(dir));
    if builder.persistent {
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
    } else {
        command.args(["--appendonly", "no"]);
    }
    if let Some(password) = &builder.password {
        command.args(["--requirepass", password]);
    }
    if let (Some(files), Some(port)) = (&builder.tls, ports.tls) {
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
        command.arg("--tls-cert-file").arg(files.certificate());
        command.arg("--tls-key-file").arg(files.key());
        command.arg("--tls-ca-cert-file").arg(files.authority());
    }
    command.args(&builder.args);
    let child = command.spawn().map_err(|error| Failure::NoProgram { program, error })?;

    let mut running = Running::new(child, dir);
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // The socket is made after the ports are bound, and it is in our own directory: who
        // answers there is our server, and it has its ports.
        if answers(&socket_in(dir)).await {
            return Ok(running);
        }
        let ended = running.child.try_wait();
        if !matches!(ended, Ok(None)) {
            let log = read_log(dir).split_off(said_before);
            let taken = log.contains("Address already in use");
            return Err(if taken {
                Failure::PortTaken
            } else {
                Failure::Ended { log }
            });
        }
        if Instant::now() > deadline {
            return Err(Failure::TooSlow {
                log: read_log(dir).split_off(said_before),
            });
        }
        // Nobody tells when a foreign process is up: this launcher is the one place that polls.
        sleep(Duration::from_millis(3)).await;
    }
}

/// Returns whether a server is up: it answers PING, if only with a demand for a password.
async fn answers(socket: &Path) -> bool {
    let ping = async { Resp::connect_unix(socket).await?.try_cmd(&["PING"]).await };
    match timeout(Duration::from_secs(1), ping).await {
        Ok(Ok(RespValue::Error(text))) => !text.starts_with("LOADING"),
        Ok(Ok(_)) => true,
        _ => false,
    }
}

fn private_dir() -> TempDir {
    let make = |within: &Path| tempfile::Builder::new().prefix("asynq-redis-").tempdir_in(within);
    let mut dir = make(&std::env::temp_dir());
    if dir
        .as_ref()
        .is_ok_and(|dir| socket_in(dir.path()).as_os_str().len() > SOCKET_PATH_LIMIT)
    {
        dir = make(Path::new("/tmp"));
    }
    dir.unwrap_or_else(|error| panic!("no directory for the test server: {error}"))
}

fn free_port() -> u16 {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    found
        .unwrap_or_else(|error| panic!("no free port for the test server: {error}"))
        .port()
}

/// A port that leaves another free, 10000 above, where nodes of a cluster talk to each other.
fn free_node_port() -> u16 {
    let above = |port: u16| port.checked_add(10_000);
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    // Most free ports that the system offers are low enough.
    (0..1000)
        .map(|_| free_port())
        .find(|port| above(*port).is_some_and(free))
        .unwrap_or_else(|| panic!("no free pair of ports for a node"))
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("s")
}

fn log_in(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn read_log(dir: &Path) -> String {
    fs::read(log_in(dir))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
