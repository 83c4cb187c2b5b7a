//! One connection through the proxy.

use std::{collections::VecDeque, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::oneshot,
};

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    Armed, Caught, Fault, Mode, Shared,
    frame::{self, Request},
};

/// The fate of the reply to a request that is under way.
enum Fate {
    Forward,
    Lose(Armed),
}

#[derive(Default)]
struct Replies {
    expected: VecDeque<Fate>,
    /// Requests and replies can no longer be paired (SUBSCRIBE on RESP2): all is forwarded.
    unpaired: bool,
    resp3: bool,
}

enum End {
    Closed,
    Hold(Bytes, oneshot::Sender<Caught>),
}

pub(super) async fn run(mut client: TcpStream, number: u64, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(&shared.upstream).await else {
        return;
    };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    if let Some(pace) = &shared.pace {
        pace.carry(client, server).await;
        return;
    }
    let replies = Mutex::new(Replies::default());
    let shared = &Place { number, shared };
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            end = upward(from_client, to_server, shared, &replies) => end,
            end = downward(from_server, to_client, shared, &replies) => end.map(|()| End::Closed),
        }
    };
    if let Ok(End::Hold(request, caught)) = end {
        let owed = lock(&replies).expected.len();
        // The test may have lost interest.
        let _ = caught.send(Caught { request, server, owed });
        shared.shared.strike();
    }
}

fn lock(replies: &Mutex<Replies>) -> MutexGuard<'_, Replies> {
    replies.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection among those of the proxy.
struct Place {
    number: u64,
    shared: Arc<Shared>,
}

impl Place {
    /// Waits until bytes may pass; for ever on a connection that is half-open.
    async fn open(&self) {
        let (mut modes, mut dead_below) = (self.shared.mode.subscribe(), self.shared.dead_below.subscribe());
        // The senders live in `shared`, so waiting cannot fail.
        let _ = dead_below.wait_for(|lowest| self.number >= *lowest).await;
        let _ = modes.wait_for(|mode| *mode != Mode::Blackhole).await;
        // The one may have come while the other was waited for.
        let _ = dead_below.wait_for(|lowest| self.number >= *lowest).await;
    }
}

async fn upward(
    mut client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    place: &Place,
    replies: &Mutex<Replies>,
) -> io::Result<End> {
    let shared = &place.shared;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(request) = frame::take_request(&mut buffer) {
            place.open().await;
            match shared.take_fault(&request.words) {
                Some(Armed {
                    fault: Fault::DropRequest,
                    ..
                }) => {
                    shared.strike();
                    return Ok(End::Closed);
                }
                Some(Armed {
                    fault: Fault::Hold(caught),
                    ..
                }) => return Ok(End::Hold(request.bytes, caught)),
                Some(armed) => lock(replies).expected.push_back(Fate::Lose(armed)),
                None => expect_reply(&request, &mut lock(replies)),
            }
            server.write_all(&request.bytes).await?;
        }
        if client.read_buf(&mut buffer).await? == 0 {
            return Ok(End::Closed);
        }
    }
}

fn expect_reply(request: &Request, replies: &mut Replies) {
    let name = request
        .words
        .first()
        .map(|word| word.to_ascii_uppercase())
        .unwrap_or_default();
    if name.ends_with(b"SUBSCRIBE") {
        // On RESP3 it is answered by pushes alone, on RESP2 by any number of replies.
        replies.unpaired |= !replies.resp3;
        return;
    }
    if name == b"HELLO" {
        replies.resp3 = request.words.get(1).is_some_and(|version| &version[..] == b"3");
    }
    replies.expected.push_back(Fate::Forward);
}

async fn downward(
    mut server: ReadHalf<'_>,
    mut client: WriteHalf<'_>,
    place: &Place,
    replies: &Mutex<Replies>,
) -> io::Result<()> {
    let shared = &place.shared;
    let mut buffer = BytesMut::new();
    loop {
        while let Some(reply) = frame::take_reply(&mut buffer) {
            place.open().await;
            let fate = {
                let mut replies = lock(replies);
                let paired = !replies.unpaired && reply.first() != Some(&b'>');
                paired.then(|| replies.expected.pop_front()).flatten()
            };
            match fate {
                Some(Fate::Lose(armed)) if reply.starts_with(b"-NOSCRIPT") => shared.armed().push_front(armed),
                Some(Fate::Lose(_)) => {
                    shared.strike();
                    return Ok(());
                }
                _ => {}
            }
            client.write_all(&reply).await?;
        }
        if server.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Sends a request that was held and reads up to its reply.
pub(super) async fn deliver(caught: Caught) -> Option<Bytes> {
    let Caught {
        request,
        mut server,
        owed,
    } = caught;
    server.write_all(&request).await.ok()?;
    let (mut buffer, mut before) = (BytesMut::new(), owed);
    loop {
        while let Some(reply) = frame::take_reply(&mut buffer) {
            if reply.first() == Some(&b'>') {
                continue;
            }
            if before == 0 {
                return Some(reply);
            }
            before -= 1;
        }
        if server.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}
