//! A way that carries few bytes in a second.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::sleep,
};

/// Number of bytes that pass in one turn.
const TURN: usize = 8 << 10;

/// The turns of all connections; the lock is handed on in the order in which it was asked for.
pub(super) struct Pace {
    bytes_per_second: u32,
    up: Mutex<()>,
    down: Mutex<()>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            up: Mutex::new(()),
            down: Mutex::new(()),
        }
    }

    /// Carries bytes both ways until one side closes.
    pub(super) async fn carry(&self, mut client: TcpStream, mut server: TcpStream) {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            _ = self.copy(from_client, to_server, &self.up) => {}
            _ = self.copy(from_server, to_client, &self.down) => {}
        }
    }

    async fn copy(
        &self,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        turns: &Mutex<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; TURN];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            {
                let _turn = turns.lock().await;
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                sleep(Duration::from_secs(1) * count / self.bytes_per_second).await;
            }
            to.write_all(&buffer[..count]).await?;
        }
    }
}
