//! A loopback proxy in front of a server that fails on demand.
//!
//! It reads the protocol, so a fault strikes one request and not whatever bytes are under way.

mod connection;
mod frame;
mod slow;

use std::{
    collections::VecDeque,
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::redis::RedisServer;

type Matcher = Box<dyn Fn(&[Bytes]) -> bool + Send>;

/// The fault of a request.
#[derive(Debug)]
enum Fault {
    LoseReply,
    DropRequest,
    Hold(oneshot::Sender<Caught>),
}

struct Armed {
    matches: Matcher,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Blackhole,
    Refuse,
}

/// State that the proxy and its connections share.
struct Shared {
    upstream: String,
    armed: Mutex<VecDeque<Armed>>,
    struck: watch::Sender<u64>,
    mode: watch::Sender<Mode>,
    /// Number of connections so far.
    count: AtomicU64,
    /// Connections with a lower number carry nothing any more.
    dead_below: watch::Sender<u64>,
    /// Speed at which bytes move.
    pace: Option<slow::Pace>,
}

impl Shared {
    fn armed(&self) -> MutexGuard<'_, VecDeque<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the oldest fault if it is meant for this request.
    fn take_fault(&self, words: &[Bytes]) -> Option<Armed> {
        let mut armed = self.armed();
        if armed.front()?.matches.as_ref()(words) {
            armed.pop_front()
        } else {
            None
        }
    }

    fn strike(&self) {
        self.struck.send_modify(|count| *count += 1);
    }
}

/// A TCP proxy on loopback. Ends with its value.
pub struct Proxy {
    port: u16,
    login: String,
    shared: Arc<Shared>,
    connections: Arc<Mutex<JoinSet<()>>>,
    injected: Mutex<u64>,
    // Aborts the listener when dropped.
    _listener: JoinSet<()>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("port", &self.port)
            .field("upstream", &self.shared.upstream)
            .finish()
    }
}

impl Proxy {
    /// A proxy in front of a server of ours.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(server: &RedisServer) -> Self {
        let url = server.url();
        let login = url
            .trim_start_matches("redis://")
            .rsplit_once('@')
            .map(|(login, _)| format!("{login}@"));
        Self {
            login: login.unwrap_or_default(),
            ..Self::to(server.address()).await
        }
    }

    /// A proxy in front of whoever listens at `host:port`.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn to(upstream: impl Into<String>) -> Self {
        Self::launch(upstream.into(), None).await
    }

    /// A proxy in front of a server of ours through which so many bytes pass in a second, those of all
    /// connections together, in each direction. Connections take turns. It injects no faults into requests.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn slow(server: &RedisServer, bytes_per_second: u32) -> Self {
        Self::launch(server.address(), Some(slow::Pace::new(bytes_per_second))).await
    }

    async fn launch(upstream: String, pace: Option<slow::Pace>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("no port for the proxy: {error}"));
        let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
        let shared = Arc::new(Shared {
            upstream,
            armed: Mutex::default(),
            struck: watch::channel(0).0,
            mode: watch::channel(Mode::Open).0,
            count: AtomicU64::new(0),
            dead_below: watch::channel(0).0,
            pace,
        });
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let mut task = JoinSet::new();
        task.spawn(listen(listener, Arc::clone(&shared), Arc::clone(&connections)));
        Self {
            port,
            login: String::new(),
            shared,
            connections,
            injected: Mutex::new(0),
            _listener: task,
        }
    }

    /// `redis://127.0.0.1:port`, with the server's password if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login, self.port)
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        let mut connections = self.connections();
        while connections.try_join_next().is_some() {}
        connections.len()
    }

    /// Closes all connections at once; new ones are taken.
    pub fn cut_all(&self) {
        self.connections().abort_all();
    }

    /// Swallows everything in both directions and keeps the connections, until
    /// [`resume`](Self::resume), which lets what was swallowed through.
    pub fn blackhole(&self) {
        self.shared.mode.send_replace(Mode::Blackhole);
    }

    /// Leaves the connections that stand half-open for good: what is sent on them, in either direction, is
    /// swallowed, and neither side is told. New connections work.
    pub fn half_open(&self) {
        let next = self.shared.count.load(Ordering::Relaxed);
        self.shared.dead_below.send_replace(next);
    }

    /// Cuts all connections and closes each new one at once, until [`resume`](Self::resume).
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refuse);
        self.cut_all();
    }

    /// Back to normal.
    pub fn resume(&self) {
        self.shared.mode.send_replace(Mode::Open);
    }

    /// The next script call is executed, its reply is dropped, and its connection is cut
    /// ("executed, reply lost"). A call answered NOSCRIPT was not executed: the fault then waits
    /// for the next one.
    pub fn lose_next_reply(&self) {
        self.lose_reply_to(is_script);
    }

    /// [`lose_next_reply`](Self::lose_next_reply) for the next request that matches; it is given
    /// the words of the command.
    pub fn lose_reply_to(&self, matches: impl Fn(&[Bytes]) -> bool + Send + 'static) {
        self.inject(Armed {
            matches: Box::new(matches),
            fault: Fault::LoseReply,
        });
    }

    /// The next script call never reaches the server, and its connection is cut ("not executed").
    pub fn drop_next_request(&self) {
        self.drop_request(is_script);
    }

    /// [`drop_next_request`](Self::drop_next_request) for the next request that matches.
    pub fn drop_request(&self, matches: impl Fn(&[Bytes]) -> bool + Send + 'static) {
        self.inject(Armed {
            matches: Box::new(matches),
            fault: Fault::DropRequest,
        });
    }

    /// The next script call is kept here while the client sees its connection cut; it goes to the
    /// server, over the old connection, when it is [released](Held::release) ("executed after the
    /// replay").
    #[must_use]
    pub fn hold_next_request(&self) -> Held {
        self.hold_request(is_script)
    }

    /// [`hold_next_request`](Self::hold_next_request) for the next request that matches.
    #[must_use]
    pub fn hold_request(&self, matches: impl Fn(&[Bytes]) -> bool + Send + 'static) -> Held {
        let (sender, caught) = oneshot::channel();
        self.inject(Armed {
            matches: Box::new(matches),
            fault: Fault::Hold(sender),
        });
        Held {
            caught: Some(caught),
            request: None,
        }
    }

    /// Waits until all faults injected so far have struck.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn struck(&self) {
        let injected = *self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        // The sender is ours, so waiting cannot fail.
        let _ = self
            .shared
            .struck
            .subscribe()
            .wait_for(|count| *count >= injected)
            .await;
    }

    fn inject(&self, armed: Armed) {
        *self.injected.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.shared.armed().push_back(armed);
    }

    fn connections(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a request calls a script or a function.
#[must_use]
pub fn is_script(words: &[Bytes]) -> bool {
    let names: [&[u8]; 3] = [b"EVALSHA", b"EVAL", b"FCALL"];
    words
        .first()
        .is_some_and(|name| names.iter().any(|script| name.eq_ignore_ascii_case(script)))
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Mutex<JoinSet<()>>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *shared.mode.borrow() == Mode::Refuse {
            continue;
        }
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        while connections.try_join_next().is_some() {}
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connection::run(client, number, Arc::clone(&shared)));
    }
}

/// A request in the hands of the proxy.
struct Caught {
    request: Bytes,
    server: TcpStream,
    /// Number of replies to earlier requests that the server still owes.
    owed: usize,
}

impl fmt::Debug for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caught")
    }
}

/// A request that is to be, or was, kept back; see [`Proxy::hold_next_request`]. Dropped, it
/// never reaches the server.
#[derive(Debug)]
pub struct Held {
    caught: Option<oneshot::Receiver<Caught>>,
    request: Option<Caught>,
}

impl Held {
    /// Waits until there is a request.
    ///
    /// # Panics
    /// If the proxy ended before.
    ///
    /// # Cancel safety
    /// Not safe: the request may be dropped.
    pub async fn caught(&mut self) {
        if let Some(receiver) = self.caught.take() {
            let caught = receiver.await;
            self.request = Some(caught.unwrap_or_else(|_| panic!("the proxy ended before a request came")));
        }
    }

    /// Sends the request and gives the server's reply as it stands on the wire; `None` if the
    /// server has closed that connection meanwhile (CLIENT KILL): it was not executed.
    ///
    /// # Panics
    /// If the proxy ended before a request came.
    pub async fn release(mut self) -> Option<Bytes> {
        self.caught().await;
        connection::deliver(self.request.take()?).await
    }
}
