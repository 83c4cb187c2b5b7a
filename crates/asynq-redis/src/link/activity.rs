//! Signs of life of a connection: bytes that move.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Signs of life of the peer of a connection.
#[derive(Debug)]
pub(crate) struct Activity {
    begun: Instant,
    /// Milliseconds since `begun`.
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// Notes that the peer is there.
    pub(crate) fn sign(&self) {
        self.last.store(millis(self.begun.elapsed()), Ordering::Relaxed);
    }

    /// Returns how long ago that was.
    pub(crate) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A byte stream that notes signs of life: bytes that arrive, and bytes that leave once the peer has
/// made room for them.
///
/// A write that the kernel takes at once says nothing of the peer, so calls that are sent into a dead
/// connection are no sign.
#[derive(Debug)]
pub(crate) struct Living<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The last write had to wait for room.
    held_up: bool,
}

impl<S> Living<S> {
    pub(crate) fn new(stream: S) -> (Self, Arc<Activity>) {
        let activity = Arc::new(Activity::new());
        let living = Self {
            stream,
            activity: Arc::clone(&activity),
            held_up: false,
        };
        (living, activity)
    }

    fn wrote(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.held_up = true,
            Poll::Ready(Ok(bytes)) if *bytes > 0 => {
                if self.held_up {
                    self.held_up = false;
                    self.activity.sign();
                }
            }
            Poll::Ready(_) => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Living<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.activity.sign();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Living<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::advance,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn bytes_that_arrive_are_a_sign_of_life() {
        let (ours, mut theirs) = duplex(8);
        let (mut ours, activity) = Living::new(ours);
        advance(SECOND).await;
        assert_eq!(activity.silence(), SECOND);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(activity.silence(), SECOND, "not read yet");
        ours.read_u8().await.unwrap();
        assert_eq!(activity.silence(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_leave_are_one_only_after_the_peer_made_room() {
        let (ours, mut theirs) = duplex(8);
        let (mut ours, activity) = Living::new(ours);
        advance(SECOND).await;
        ours.write_all(b"12345678").await.unwrap();
        assert_eq!(activity.silence(), SECOND, "the buffer took them");
        let mut more = Box::pin(ours.write_all(b"9"));
        assert!(futures::poll!(&mut more).is_pending());
        advance(SECOND).await;
        assert_eq!(activity.silence(), 2 * SECOND);
        theirs.read_u8().await.unwrap();
        more.await.unwrap();
        assert_eq!(activity.silence(), Duration::ZERO);
    }
}
