//! The end of the program, as a container sees it: TERM, and it is gone by itself, whatever its handlers do.

use std::{process::Stdio, time::Duration};

use asynq::{
    AsynqSystem, Connector as _, RetryDelay,
    client::Client,
    config::ServerConfig,
    error::{BrokerError, Error},
    inspector::Inspector,
    redis::RedisConnectionType,
    task::TaskState,
};
use asynq_testing::{RedisServer, Resp};
use rustix::process::{Pid, Signal, kill_process};
use shop::{
    tasks::Label,
    work::{self, World},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the next label that is sent to a printer.
async fn label(printer: &TcpListener) -> (String, BufReader<TcpStream>) {
    let (connection, _) = timeout(PATIENCE, printer.accept()).await.unwrap().unwrap();
    let mut connection = BufReader::new(connection);
    let mut label = String::new();
    connection.read_line(&mut label).await.unwrap();
    (label, connection)
}

/// Waits until the service answers callers, and so hears signals. What it says from then on is to be kept open.
async fn up(service: &mut Child) -> Lines<BufReader<ChildStdout>> {
    let mut said = BufReader::new(service.stdout.take().unwrap()).lines();
    let address = loop {
        let line = timeout(PATIENCE, said.next_line()).await.unwrap().unwrap().unwrap();
        if let Some((_, address)) = line.split_once("listening address=") {
            break address.to_owned();
        }
    };
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request = b"GET /orders/none HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
    caller.write_all(request).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, caller.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    said
}

#[tokio::test]
async fn the_service_ends_though_a_handler_blocks_for_ever_and_its_task_is_run_again() {
    let server = RedisServer::start().await;
    let redis = RedisConnectionType::single(server.url()).unwrap();
    let client = Client::connect(redis.clone(), PATIENCE).await.unwrap();
    let printer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let printer_at = printer.local_addr().unwrap().to_string();

    let mut service = Command::new(env!("CARGO_BIN_EXE_shop"))
        .env("REDIS_URL", server.url())
        .env("ADDRESS", "127.0.0.1:0")
        .env("PRINTER", &printer_at)
        .env("GRACE_SECONDS", "0")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let said = up(&mut service).await;
    let parcel = Label {
        text: "parcel 7".to_owned(),
    };
    let task = client.enqueue(parcel).await.unwrap();
    // It is out of paper: no answer comes, and the handler waits for it without a limit.
    let (sent, unanswered) = label(&printer).await;
    assert_eq!(sent, "parcel 7\n");

    let process = i32::try_from(service.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(process).unwrap(), Signal::TERM).unwrap();
    let status = timeout(PATIENCE, service.wait()).await;
    let status = status.expect("a handler that never ends holds the process").unwrap();
    assert!(status.success(), "{status}");
    drop((said, unanswered));

    // Nothing was written for the task, and its lease ends. Here its time has come.
    let inspector = Inspector::new(redis.connect(redis.env()).await.unwrap());
    let info = inspector.get_task_info("default", task.id.as_str()).await.unwrap();
    assert_eq!((info.state, info.retried), (TaskState::Active, 0));
    let mut raw = Resp::connect(&server.address()).await.unwrap();
    let lease = ["asynq:{default}:lease", "XX", "CH", "1", task.id.as_str()];
    assert_eq!(raw.cmd(&[&["ZADD"], &lease[..]].concat()).await.int(), 1);

    let system = AsynqSystem::builder(redis)
        .config(
            ServerConfig::new()
                .recoverer_interval(Duration::from_millis(500))
                .retry_delay(RetryDelay::new(|_, _, _| Duration::from_millis(1))),
        )
        .handler(work::handlers(World::with_printer(printer_at)))
        .spawn()
        .await
        .unwrap();
    let (sent, mut answers) = label(&printer).await;
    assert_eq!(sent, "parcel 7\n");
    answers.write_all(b"printed\n").await.unwrap();
    system.drain().await;
    let gone = inspector.get_task_info("default", task.id.as_str()).await;
    assert!(
        matches!(gone, Err(Error::Broker(BrokerError::TaskNotFound { .. }))),
        "{gone:?}"
    );
    system.shutdown().await;
}
