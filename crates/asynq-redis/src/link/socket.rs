//! Opens the byte stream to a server: TCP, TLS over TCP, or a unix socket.

use std::{io, pin::Pin, time::Duration};

use asynq_core::error::BrokerError;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::settings::{Address, Settings};

/// How long a TCP connection may be silent before the kernel asks the peer.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// How often it asks.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// How many questions may stay unanswered.
const KEEPALIVE_TRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A byte stream to a server.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Send + Sync> Duplex for T {}

/// Opens it. Nothing has been said yet.
pub(crate) async fn connect(settings: &Settings) -> Result<Pin<Box<dyn Duplex>>, BrokerError> {
    match &settings.address {
        Address::Tcp { host, port } => tcp(settings, host, *port).await,
        #[cfg(feature = "sentinel")]
        Address::Master(sentinels) => {
            let (host, port) = sentinels.find_master(settings).await?;
            tcp(settings, &host, port).await
        }
        #[cfg(unix)]
        Address::Unix(_) if settings.uses_tls() => Err(BrokerError::InvalidConnection {
            reason: "a unix socket cannot have TLS".to_owned(),
        }),
        #[cfg(unix)]
        Address::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path)
                .await
                .map_err(BrokerError::unavailable)?;
            Ok(Box::pin(stream))
        }
        #[cfg(not(unix))]
        Address::Unix(_) => Err(BrokerError::InvalidConnection {
            reason: "this system has no unix sockets".to_owned(),
        }),
    }
}

async fn tcp(settings: &Settings, host: &str, port: u16) -> Result<Pin<Box<dyn Duplex>>, BrokerError> {
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(BrokerError::unavailable)?;
    tune(&stream).map_err(BrokerError::unavailable)?;
    #[cfg(feature = "tls")]
    if let Some(tls) = &settings.tls {
        return Ok(Box::pin(tls.wrap(host, stream).await?));
    }
    #[cfg(not(feature = "tls"))]
    let _ = settings;
    Ok(Box::pin(stream))
}

/// Sends small writes at once, and lets the kernel notice a peer that is gone.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// When and how often the kernel asks a silent peer.
pub(crate) fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = keepalive.with_interval(KEEPALIVE_EVERY);
    #[cfg(not(any(target_os = "openbsd", target_os = "windows")))]
    let keepalive = keepalive.with_retries(KEEPALIVE_TRIES);
    keepalive
}
