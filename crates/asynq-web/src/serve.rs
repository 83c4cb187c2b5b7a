//! Serves the router on an address of this machine: over HTTP or HTTPS, with limits for slow clients.
//!
//! ```no_run
//! use asynq::memory::MemoryStore;
//! use asynq_web::{Web, serve::{Listen, WebServer}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let web = Web::connect(MemoryStore::new()).await?;
//! let server = WebServer::bind(web, Listen::on("127.0.0.1:0".parse()?)).await?;
//! println!("open http://{}", server.local_addr());
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request, response::Redirect, routing::get};
use axum_server::{Handle, accept::Accept, tls_rustls::RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt as _;

use crate::{Background, Web};

/// Longest time in which a client sends the head of a request, and between two requests on one connection.
const HEAD: Duration = Duration::from_secs(30);

/// Largest head of a request in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Connections that wait for a place. Further ones are closed at once.
const WAITING: usize = 64;

/// Longest time in which a client takes no byte of an answer.
const WRITE: Duration = Duration::from_secs(30);

/// Time between two looks at the certificate.
const RENEW: Duration = Duration::from_secs(10 * 60);

/// Longest time for the rest of the requests when the server stops.
const STOP: Duration = Duration::from_secs(10);

/// Default of [`Listen::max_connections`].
const CONNECTIONS: usize = 512;

/// An address to listen on, and the protection there.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is bound"]
pub struct Listen {
    address: SocketAddr,
    tls: Option<(PathBuf, PathBuf)>,
    insecure_no_auth: bool,
    insecure_http: bool,
    connections: usize,
    prefix: String,
}

impl Listen {
    /// Listens on this address. Port 0 takes any free port.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            insecure_no_auth: false,
            insecure_http: false,
            connections: CONNECTIONS,
            prefix: String::new(),
        }
    }

    /// Serves everything under this path, such as `/asynq`, for a proxy that passes it on. `/healthz` and `/readyz` are also there without it.
    ///
    /// # Errors
    /// A text, if the path does not begin with `/`, or has an empty part or other characters than letters, digits, `-`, `_`, `.` and `~`.
    pub fn prefix(mut self, path: &str) -> Result<Self, String> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_fit = |part: &str| {
            let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            !matches!(part, "" | "." | "..") && part.bytes().all(is_fit)
        };
        let parts = path.strip_prefix('/').map(|parts| parts.split('/').all(is_fit));
        if !path.is_empty() && parts != Some(true) {
            return Err(format!("prefix: {path:?} is no path such as /asynq"));
        }
        self.prefix = path.to_owned();
        Ok(self)
    }

    /// Serves HTTPS with this certificate chain and its key, both in PEM.
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// Listens without authentication on an address that others can reach. Whoever reaches it may do everything.
    pub fn insecure_no_auth(mut self) -> Self {
        self.insecure_no_auth = true;
        self
    }

    /// Takes passwords and tokens without HTTPS on an address that others can reach. Whoever stands between can read them.
    pub fn insecure_http(mut self) -> Self {
        self.insecure_http = true;
        self
    }

    /// Sets the most connections at a time. Further ones wait for at most 30 s, 64 of them at a time; others are closed at once. Default:
    /// 512; at least 1. The process needs a file for each one.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }
}

/// A server that cannot start, or that has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can be reached by others, and nothing recognizes users.
    #[error("{0} can be reached by others, and there is no authentication: whoever reaches it could change everything")]
    NoAuthentication(SocketAddr),
    /// The address can be reached by others, and passwords and tokens would be readable on the way.
    #[error("{0} can be reached by others, and passwords and tokens would travel without HTTPS")]
    NoHttps(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use the certificate {} with the key {}", certificate.display(), key.display())]
    Certificate {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The server has failed while it ran.
    #[error("the web server failed")]
    Failed(#[source] io::Error),
}

/// A certificate, and the files that it came from.
#[derive(Debug)]
struct Tls {
    config: RustlsConfig,
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    async fn read(certificate: PathBuf, key: PathBuf) -> Result<Self, ServeError> {
        match tls(&certificate, &key).await {
            Ok(config) => Ok(Self {
                config,
                certificate,
                key,
            }),
            Err(source) => Err(ServeError::Certificate {
                certificate,
                key,
                source,
            }),
        }
    }

    /// Reads the files again from time to time, since certificates are renewed. It does not end.
    async fn keep_new(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            match tls(&self.certificate, &self.key).await {
                Ok(config) => self.config.reload_from_config(config.get_inner()),
                Err(error) => tracing::error!(%error, "the certificate cannot be read again; the last one stays"),
            }
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct WebServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    router: Router,
    background: Background,
    connections: usize,
    prefix: String,
}

impl WebServer {
    /// Binds the address. Connections wait until [`run`](Self::run).
    ///
    /// On a loopback address without authentication, only requests for this machine's own names are answered (see
    /// [`Web::hosts`]).
    ///
    /// # Errors
    /// [`ServeError::NoAuthentication`] and [`ServeError::NoHttps`] on an address that is not a loopback one,
    /// [`ServeError::Bind`], [`ServeError::Certificate`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn bind(mut web: Web, listen: Listen) -> Result<Self, ServeError> {
        let address = listen.address;
        let is_private = address.ip().to_canonical().is_loopback();
        if !web.has_authentication() {
            if !is_private && !listen.insecure_no_auth {
                return Err(ServeError::NoAuthentication(address));
            }
            web = web.without_authentication();
        } else if !is_private && listen.tls.is_none() && !web.is_https() && !listen.insecure_http {
            return Err(ServeError::NoHttps(address));
        }
        let tls = match listen.tls {
            None => None,
            Some((certificate, key)) => {
                web = web.https();
                Some(Tls::read(certificate, key).await?)
            }
        };
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bind().map_err(|source| ServeError::Bind { address, source })?;
        Ok(Self {
            listener,
            address,
            tls,
            background: web.background(),
            router: match listen.prefix.as_str() {
                "" => web.on(address).router(),
                prefix => under(prefix, web.on(address).router()),
            },
            connections: listen.connections,
            prefix: listen.prefix,
        })
    }

    /// Returns the address that is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.prefix)
    }

    /// Answers requests until `stop` is ready. Then it takes no more connections, ends live updates, stops acts on many tasks after their
    /// current step, and gives running requests 10 s.
    ///
    /// # Errors
    /// [`ServeError::Failed`] if the listener fails.
    ///
    /// # Cancel safety
    /// When the future is dropped, no more connections are taken; requests that run go on.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let handle = Handle::new();
        let limits = Limits {
            places: Arc::new(Semaphore::new(self.connections)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        };
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let served = async {
            let handle = handle.clone();
            match &self.tls {
                None => {
                    let server = axum_server::from_tcp(self.listener)?.acceptor(limits);
                    with_timeouts(server).handle(handle).serve(service).await
                }
                Some(tls) => {
                    let server = axum_server::from_tcp_rustls(self.listener, tls.config.clone())?;
                    let server = server.map(|acceptor| acceptor.acceptor(limits));
                    with_timeouts(server).handle(handle).serve(service).await
                }
            }
        };
        let stopped = async {
            stop.await;
            handle.graceful_shutdown(Some(STOP));
            // Live updates end, and acts on many tasks say what they have done.
            if tokio::time::timeout(STOP, self.background.stop()).await.is_err() {
                tracing::error!("acts on many tasks did not stop in time");
            }
        };
        let renewed = async {
            match &self.tls {
                Some(tls) => tls.keep_new().await,
                None => std::future::pending().await,
            }
        };
        let (mut served, mut stopped) = (pin!(served), pin!(stopped));
        let end = tokio::select! {
            () = renewed => return Ok(()),
            end = &mut served => end,
            () = &mut stopped => return served.await.map_err(ServeError::Failed),
        };
        // It ends by itself only if it failed; with the last connection if it was told to.
        match end {
            Ok(()) => stopped.await,
            Err(error) => return Err(ServeError::Failed(error)),
        }
        Ok(())
    }
}

/// Puts the router under a path. Its first page is also found with a slash at the end.
fn under(prefix: &str, router: Router) -> Router {
    let health = ["/healthz", "/readyz"].into_iter().fold(Router::new(), |health, path| {
        let router = router.clone();
        health.route(path, get(move |request: Request| router.oneshot(request)))
    });
    let first = format!("..{}", &prefix[prefix.rfind('/').unwrap_or_default()..]);
    health
        .route(&format!("{prefix}/"), get(async move || Redirect::permanent(&first)))
        .nest(prefix, router)
}

/// Reads a certificate for HTTP/1.1. HTTP/2 is not offered: its connections and streams would need limits of their own.
async fn tls(certificate: &Path, key: &Path) -> io::Result<RustlsConfig> {
    let config = RustlsConfig::from_pem_file(certificate, key).await?;
    let mut offered = ServerConfig::clone(&config.get_inner());
    offered.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(offered)))
}

fn with_timeouts<A>(mut server: axum_server::Server<SocketAddr, A>) -> axum_server::Server<SocketAddr, A> {
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD);
    server
        .http1_only()
        .first_request_timeout(HEAD)
        .accept_error_handler(|peer, error| tracing::debug!(?peer, %error, "a connection was not accepted"))
}

/// Bounds the number of connections, and the time in which one makes no progress.
#[derive(Clone, Debug)]
struct Limits {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Limits {
    type Stream = Pin<Box<TimeoutStream<TcpStream>>>;
    type Service = Counted<S>;
    type Future = futures::future::BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Self { places, waiting } = self.clone();
        Box::pin(async move {
            let place = match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    let _waits = waiting.try_acquire().map_err(io::Error::other)?;
                    let place = tokio::time::timeout(HEAD, places.acquire_owned()).await;
                    place?.map_err(io::Error::other)?
                }
            };
            stream.set_nodelay(true)?;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE));
            let service = Counted {
                service,
                _place: Arc::new(place),
            };
            Ok((Box::pin(stream), service))
        })
    }
}

/// The service of a connection, which holds a place as long as the connection lives.
#[derive(Clone, Debug)]
struct Counted<S> {
    service: S,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<S: tower::Service<Request<B>>, B> tower::Service<Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.service.call(request)
    }
}
