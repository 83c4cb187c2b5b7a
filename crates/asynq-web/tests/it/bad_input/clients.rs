//! Clients that are slow, many, or that do not speak HTTP. Time is paused: it goes on when nobody has anything to do, so the limits
//! of the server are reached at once.

use std::{net::SocketAddr, time::Duration};

use asynq_web::{
    Web,
    serve::{Listen, WebServer},
};
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use crate::support::Site;

/// A server that ends with the value.
async fn serve(listen: Listen) -> (Site, SocketAddr, JoinSet<()>) {
    let site = Site::open().await;
    let web = Web::connect(site.storage.clone()).await.unwrap();
    let server = WebServer::bind(web, listen).await.unwrap();
    let address = server.local_addr();
    let mut running = JoinSet::new();
    running.spawn(async move { server.run(std::future::pending()).await.unwrap() });
    (site, address, running)
}

fn private() -> Listen {
    Listen::on(([127, 0, 0, 1], 0).into())
}

/// Sends bytes, and reads until the connection ends.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(start_paused = true)]
async fn slow_clients_lose_their_connection() {
    let (_site, address, _running) = serve(private()).await;
    let (least, most) = (Duration::from_secs(20), Duration::from_secs(120));
    for (request, beginning) in [
        ("", ""),
        ("GET /heal", ""),
        ("GET /healthz HTTP/1.1\r\nHost: loc", ""),
        (
            "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            "HTTP/1.1 408",
        ),
        (
            "POST /api/queues/q/retry_tasks:batch_run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
            "HTTP/1.1 408",
        ),
    ] {
        let began = Instant::now();
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with(beginning), "{request:?}: {answer:?}");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{request:?}: {answer:?}");
        let took = began.elapsed();
        assert!((least..most).contains(&took), "{request:?} took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_loses_its_connection() {
    let (site, address, _running) = serve(private()).await;
    for number in 0..3000 {
        let task = asynq::Task::new("t", b"").unwrap();
        let queue = asynq::TaskOptions::new().queue(format!("{number:04}{}", "x".repeat(50)));
        site.client.enqueue_with(task, queue).await.unwrap();
    }
    let whole = site.get("/api/queue_stats").await.text.len();
    assert!(whole > 20_000_000, "{whole}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /api/queue_stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    // What was on the way is all that it gets: the server has not kept the rest.
    assert!(read.len() < whole / 2, "{} of {whole}", read.len());
}

#[tokio::test]
async fn many_clients_are_answered() {
    let (_site, address, _running) = serve(private().max_connections(20)).await;
    let request = b"GET /api/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = join_all((0..200).map(|_| exchange(address, request))).await;
    let is_good = |answer: &&String| answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"queues\":[]}\n");
    let bad: Vec<_> = answers.iter().filter(|answer| !is_good(answer)).collect();
    assert!(bad.is_empty(), "{}: {:?}", bad.len(), bad[0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_http_is_refused() {
    let (_site, address, _running) = serve(private()).await;
    let long_path = format!(
        "GET /api/queues/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(100_000)
    );
    let long_header = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(1_000_000)
    );
    let many_headers = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X: y\r\n".repeat(1000)
    );
    for (request, statuses) in [
        ("rubbish\r\n\r\n", &["400"][..]),
        ("\x16\x03\x01\x02\0\x01\0\x01", &["400"]),
        ("GET /api/queues/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", &["400"]),
        ("GET /api/queues/a b HTTP/1.1\r\nHost: localhost\r\n\r\n", &["400"]),
        ("GET api/queues HTTP/1.1\r\nHost: localhost\r\n\r\n", &["400"]),
        ("GET /api/queues HTTP/9.9\r\nHost: localhost\r\n\r\n", &["400", "505"]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["400", "505"]),
        (
            "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
            &["400"],
        ),
        (
            "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            &["400"],
        ),
        (
            "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
            &["400", "501"],
        ),
        (&long_path, &["414", "431"]),
        (&long_header, &["431"]),
        (&many_headers, &["431"]),
    ] {
        let answer = exchange(address, request.as_bytes()).await;
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        // It may have closed the connection without a word.
        assert!(
            status.is_none_or(|status| statuses.contains(&status)),
            "{request:.100?}: {answer:.200}"
        );
    }
    // It still answers.
    let answer = exchange(
        address,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
