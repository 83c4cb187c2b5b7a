//! Opens the byte stream to a server: TCP, TLS over TCP, or a unix socket.

use std::{io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use asynq_core::error::BrokerError;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    activity::{Activity, Living},
    settings::{Address, Settings},
};

/// Time for which a TCP connection may be silent before the kernel asks the peer.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// Interval at which it asks.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Number of questions that may stay unanswered.
const KEEPALIVE_TRIES: u32 = 3;
/// Number of bytes that may wait in the kernel to be sent. Bytes that have left it are a sign of life, so bytes
/// that a slow network has yet to take must not hide there; a full window is not affected.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 << 10;
/// Time for which sent bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A byte stream to a server.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Send + Sync> Duplex for T {}

/// The peer of a stream: one address, even where a name has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// With the name by which it was called.
    Tcp {
        host: String,
        at: SocketAddr,
    },
    Unix(PathBuf),
}

#[cfg(feature = "sentinel")]
impl Peer {
    /// If a host name or address and a port mean this.
    pub(crate) async fn is(&self, host: &str, port: u16) -> bool {
        let Self::Tcp { host: name, at } = self else {
            return false;
        };
        if at.port() != port {
            return false;
        }
        if name == host {
            return true;
        }
        let addresses = tokio::net::lookup_host((host, port)).await;
        addresses.is_ok_and(|mut addresses| addresses.any(|address| address == *at))
    }
}

/// A stream that was opened.
pub(crate) struct Opened {
    pub(crate) stream: Pin<Box<dyn Duplex>>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) peer: Peer,
}

/// Opens it. Nothing has been said yet.
pub(crate) async fn connect(settings: &Settings) -> Result<Opened, BrokerError> {
    match &settings.address {
        Address::Tcp { host, port } => by_name(settings, host, *port).await,
        #[cfg(feature = "sentinel")]
        Address::Master(sentinels) => {
            let (host, port) = sentinels.find_master(settings).await?;
            by_name(settings, &host, port).await
        }
        Address::Unix(path) => unix(settings, path.clone()).await,
    }
}

/// Opens one more to where another one leads, if there is one, else to where the settings say.
pub(crate) async fn open(settings: &Settings, peer: Option<&Peer>) -> Result<Opened, BrokerError> {
    match peer {
        Some(peer) => connect_to(settings, peer).await,
        None => connect(settings).await,
    }
}

/// Opens one more to where another one leads.
pub(crate) async fn connect_to(settings: &Settings, peer: &Peer) -> Result<Opened, BrokerError> {
    match peer {
        Peer::Tcp { host, at } => {
            let stream = TcpStream::connect(at).await.map_err(BrokerError::unavailable)?;
            tcp(settings, host, stream).await
        }
        Peer::Unix(path) => unix(settings, path.clone()).await,
    }
}

#[cfg(unix)]
async fn unix(settings: &Settings, path: PathBuf) -> Result<Opened, BrokerError> {
    if settings.uses_tls() {
        return Err(BrokerError::InvalidConnection {
            reason: "a unix socket cannot have TLS".to_owned(),
        });
    }
    let stream = tokio::net::UnixStream::connect(&path).await;
    let (stream, activity) = Living::new(stream.map_err(BrokerError::unavailable)?);
    Ok(Opened {
        stream: Box::pin(stream),
        activity,
        peer: Peer::Unix(path),
    })
}

#[cfg(not(unix))]
async fn unix(_: &Settings, _: PathBuf) -> Result<Opened, BrokerError> {
    Err(BrokerError::InvalidConnection {
        reason: "this system has no unix sockets".to_owned(),
    })
}

async fn by_name(settings: &Settings, host: &str, port: u16) -> Result<Opened, BrokerError> {
    let stream = TcpStream::connect((host, port)).await;
    tcp(settings, host, stream.map_err(BrokerError::unavailable)?).await
}

async fn tcp(settings: &Settings, host: &str, stream: TcpStream) -> Result<Opened, BrokerError> {
    tune(&stream).map_err(BrokerError::unavailable)?;
    let peer = Peer::Tcp {
        host: host.to_owned(),
        at: stream.peer_addr().map_err(BrokerError::unavailable)?,
    };
    let (stream, activity) = Living::new(stream);
    #[cfg(feature = "tls")]
    if let Some(tls) = &settings.tls {
        let stream = Box::pin(tls.wrap(host, stream).await?);
        return Ok(Opened { stream, activity, peer });
    }
    #[cfg(not(feature = "tls"))]
    let _ = settings;
    Ok(Opened {
        stream: Box::pin(stream),
        activity,
        peer,
    })
}

/// Sends small writes at once, and lets the kernel notice a peer that is gone.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    Ok(())
}

/// Returns when and how often the kernel asks a silent peer.
pub(crate) fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = keepalive.with_interval(KEEPALIVE_EVERY);
    #[cfg(not(any(target_os = "openbsd", target_os = "windows")))]
    let keepalive = keepalive.with_retries(KEEPALIVE_TRIES);
    keepalive
}
