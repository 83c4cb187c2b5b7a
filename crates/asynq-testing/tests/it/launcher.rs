//! A private server ends with the process that started it, however that ends.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use asynq_testing::{RedisServer, Resp};
use tokio::time::timeout;

const CALLED: &str = "ASYNQ_TESTING_STARTS_A_SERVER";

/// Started as a process of its own by the test below.
#[tokio::test]
async fn a_process_that_starts_a_server() {
    if std::env::var_os(CALLED).is_none() {
        return;
    }
    let server = RedisServer::start().await;
    println!("server at {}", server.address());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_process_leaves_no_server_behind() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launcher::a_process_that_starts_a_server", "--nocapture"])
        .env(CALLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    // The harness prints the name of the test before it, on the same line.
    let mut found = lines.map_while(Result::ok);
    let address = found.find_map(|line| line.split_once("server at ").map(|(_, address)| address.to_owned()));
    let mut client = Resp::connect(&address.unwrap()).await.unwrap();
    client.cmd(&["PING"]).await;
    process.kill().unwrap();
    process.wait().unwrap();
    // The end of the connection tells.
    let ended = timeout(Duration::from_secs(60), client.reply()).await;
    assert!(ended.is_ok_and(|reply| reply.is_err()), "the server lives on");
}
