//! A proxy on loopback that delays what passes, as a network would: each way by half of a round trip.
//!
//! It has a thread for each direction and step, since the timers of an event loop are too coarse for half a
//! millisecond.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Listens until the process ends, and returns the address.
pub(crate) fn start(to: SocketAddr, round_trip: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the proxy")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming() {
            let joined = client.and_then(|client| join(&client, &TcpStream::connect(to)?, round_trip / 2));
            if let Err(error) = joined {
                eprintln!("the proxy lost a connection: {error}");
            }
        }
    });
    Ok(address)
}

fn join(client: &TcpStream, server: &TcpStream, delay: Duration) -> std::io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        to.set_nodelay(true)?;
        let (mut from, to) = (from.try_clone()?, to.try_clone()?);
        let (passes, passed) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            // An error is the end as well: the other side is told of it by the end of the channel.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if passes.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || write(&passed, to));
    }
    Ok(())
}

/// Writes what has been on its way for long enough.
fn write(passed: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    while let Ok((due, bytes)) = passed.recv() {
        #[expect(
            clippy::disallowed_methods,
            reason = "the thread has nothing else to do, and tokio's clock is too coarse"
        )]
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_both_ways_and_no_sooner_than_said() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let trip = Duration::from_millis(20);
        let proxy = start(listener.local_addr().unwrap(), trip).unwrap();
        let mut client = TcpStream::connect(proxy).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let began = Instant::now();
        client.write_all(b"ping").unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        server.write_all(b"pong").unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
        assert!(began.elapsed() >= trip, "{:?}", began.elapsed());
        drop(server);
        assert_eq!(client.read(&mut bytes).unwrap(), 0, "the end passes, too");
    }
}
