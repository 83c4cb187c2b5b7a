//! Servers and what they are running, as each side sees the other.

use std::{collections::BTreeMap, time::Duration};

use asynq::{
    info::{ServerInfo, ServerStatus, WorkerInfo},
    names::TaskId,
};
use asynq_interop::{GoServerInfo, GoTask, GoWorker};
use chrono::Utc;

use crate::{
    pair::{Pair, about, eventually},
    rust_server::RustServer,
    sides::{Producer, Runner, Settings, Side},
    translate::nanos,
};

const QUEUES: [(&str, i32); 3] = [("critical", 6), ("default", 3), ("größe", 1)];

fn settings() -> Settings {
    Settings {
        queues: QUEUES.to_vec(),
        strict: true,
        concurrency: 7,
        shutdown_timeout: Duration::from_millis(100),
        ..Settings::default()
    }
}

/// Our servers and workers in Go's shape.
fn in_gos_shape(servers: Vec<ServerInfo>, workers: &[WorkerInfo]) -> Vec<GoServerInfo> {
    let of = |server: &ServerInfo| {
        let workers: Vec<_> = workers
            .iter()
            .filter(|worker| worker.server_id == server.server_id)
            .collect();
        assert!(
            workers
                .iter()
                .all(|worker| (&worker.host, worker.pid) == (&server.host, server.pid))
        );
        workers.into_iter().map(worker).collect()
    };
    let server = |server: ServerInfo| GoServerInfo {
        active_workers: sorted(of(&server)),
        id: server.server_id,
        host: server.host,
        pid: server.pid.try_into().unwrap(),
        concurrency: server.concurrency.try_into().unwrap(),
        queues: server.queues,
        strict_priority: server.strict_priority,
        started_unix_nanos: nanos(server.start_time),
        status: server.status.as_str().to_owned(),
    };
    servers.into_iter().map(server).collect()
}

fn worker(worker: &WorkerInfo) -> GoWorker {
    GoWorker {
        task_id: worker.task_id.to_string(),
        task_type: worker.task_type.clone(),
        task_payload: Some(worker.payload.to_vec()).filter(|bytes| !bytes.is_empty()),
        queue: worker.queue.to_string(),
        started_unix_nanos: nanos(worker.start_time),
        deadline_unix_nanos: nanos(worker.deadline),
    }
}

fn sorted(mut workers: Vec<GoWorker>) -> Vec<GoWorker> {
    workers.sort_by(|a, b| a.task_id.cmp(&b.task_id));
    workers
}

/// The servers as both see them, once they are as wanted.
async fn servers_when(pair: &mut Pair, what: &str, wanted: impl Fn(&[GoServerInfo]) -> bool) -> Vec<GoServerInfo> {
    let Pair { storage, go, .. } = pair;
    let go = tokio::sync::Mutex::new(go);
    let look = async || {
        let mut gos = go.lock().await.servers().await;
        for server in &mut gos {
            server.active_workers = sorted(std::mem::take(&mut server.active_workers));
        }
        let (servers, workers) = (storage.servers().await.unwrap(), storage.workers().await.unwrap());
        let counts: Vec<_> = servers.iter().map(|server| server.active_worker_count).collect();
        let mut ours = in_gos_shape(servers, &workers);
        let as_counted = ours
            .iter()
            .map(|server| i32::try_from(server.active_workers.len()).unwrap());
        let counted = as_counted.eq(counts);
        for list in [&mut gos, &mut ours] {
            list.sort_by(|a, b| a.id.cmp(&b.id));
        }
        // A beat may come between any two of the looks.
        if counted && ours == gos && wanted(&gos) {
            Ok(gos)
        } else {
            Err((ours, gos))
        }
    };
    eventually(what, look).await
}

#[tokio::test]
async fn gos_tools_see_our_server_and_its_workers() {
    seen(Side::Rust).await;
}

#[tokio::test]
async fn our_tools_see_gos_server_and_its_workers() {
    seen(Side::Go).await;
}

async fn seen(side: Side) {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(side.other(), &pair.redis).await;
    let before = nanos(Utc::now());
    let mut runner = Runner::start(side, &pair, &settings()).await;
    let pid = match &runner {
        Runner::Go(server) => server.pid().unwrap(),
        Runner::Rust(_) => std::process::id(),
    };
    let idle = servers_when(&mut pair, "one idle server", |servers| servers.len() == 1)
        .await
        .remove(0);
    let queues: BTreeMap<_, _> = QUEUES
        .iter()
        .map(|(name, priority)| ((*name).to_owned(), *priority))
        .collect();
    let shown = (
        idle.pid,
        idle.concurrency,
        &idle.queues,
        idle.strict_priority,
        idle.status.as_str(),
    );
    assert_eq!(shown, (pid, 7, &queues, true, "active"));
    assert_eq!((idle.active_workers.len(), idle.id.len()), (0, 36));
    assert_eq!(idle.host, gethostname::gethostname().to_string_lossy());
    about(idle.started_unix_nanos, before, Duration::from_secs(30));

    let orders = r#"{"do":"wait_cancel"}"#;
    let deadline = Utc::now().timestamp() + 600;
    client
        .enqueue(
            &GoTask::new("slow")
                .payload(orders)
                .id("a")
                .queue("größe")
                .deadline_unix(deadline),
        )
        .await;
    client
        .enqueue(&GoTask::new("slow too").payload(orders).id("b").timeout_ms(90_000))
        .await;
    let runs = [runner.started("a").await, runner.started("b").await];
    let both = |servers: &[GoServerInfo]| servers.iter().any(|server| server.active_workers.len() == 2);
    let busy = servers_when(&mut pair, "two workers", both).await.remove(0);
    for (worker, run) in busy.active_workers.iter().zip(&runs) {
        let shown = (
            &worker.task_id,
            &worker.task_type,
            worker.task_payload.as_deref(),
            &worker.queue,
        );
        assert_eq!(shown, (&run.id, &run.r#type, Some(orders.as_bytes()), &run.queue));
        about(worker.started_unix_nanos, run.at_unix_nanos, Duration::from_secs(30));
        about(
            worker.deadline_unix_nanos,
            run.deadline_unix_nanos,
            Duration::from_secs(1),
        );
    }
    assert_eq!(busy.active_workers[0].deadline_unix_nanos, deadline * 1_000_000_000);
    assert_eq!(
        GoServerInfo {
            active_workers: Vec::new(),
            ..busy
        },
        idle
    );

    match &mut runner {
        Runner::Go(server) => server.stop().await,
        Runner::Rust(server) => server.system.stop_fetching(),
    }
    let stopped = |servers: &[GoServerInfo]| is_one(servers, ServerStatus::Stopped);
    servers_when(&mut pair, "a stopped server", stopped).await;

    runner.shutdown().await;
    assert_eq!(servers_when(&mut pair, "no server", <[_]>::is_empty).await, []);
    let raw = pair.raw().await;
    let left: Vec<_> = raw
        .keys()
        .filter(|key| key.contains("servers") || key.contains("workers"))
        .collect();
    assert_eq!(left, [""; 0]);
}

fn is_one(servers: &[GoServerInfo], status: ServerStatus) -> bool {
    matches!(servers, [server] if server.status == status.as_str())
}

#[tokio::test]
async fn servers_of_both_sides_are_listed_side_by_side() {
    let mut pair = Pair::start().await;
    let ours = Runner::start(Side::Rust, &pair, &Settings::queues(&["a"])).await;
    let gos = Runner::start(Side::Go, &pair, &Settings::queues(&["b"])).await;
    let mut servers = servers_when(&mut pair, "two servers", |servers| servers.len() == 2).await;
    servers.sort_by(|a, b| a.queues.cmp(&b.queues));
    assert_eq!(servers[0].pid, std::process::id());
    assert_ne!(servers[0].pid, servers[1].pid);
    gos.shutdown().await;
    servers_when(&mut pair, "ours alone", |servers| {
        servers.len() == 1 && servers[0].queues.contains_key("a")
    })
    .await;
    ours.shutdown().await;
    servers_when(&mut pair, "no server", <[_]>::is_empty).await;
}

/// While a shutdown waits for its tasks, the server and what it is running are still shown.
#[tokio::test]
async fn a_draining_server_is_still_listed() {
    let mut pair = Pair::start().await;
    let mut client = Producer::start(Side::Go, &pair.redis).await;
    let settings = Settings {
        shutdown_timeout: Duration::from_secs(60),
        ..Settings::default()
    };
    let mut server = RustServer::start(&pair.redis, &settings).await;
    client
        .enqueue(&GoTask::new("t").payload(r#"{"do":"wait_cancel"}"#).id("a"))
        .await;
    server.started("a").await;
    let seen = async {
        let draining = |servers: &[GoServerInfo]| is_one(servers, ServerStatus::Closed);
        let servers = servers_when(&mut pair, "a draining server", draining).await;
        assert_eq!(servers[0].active_workers.len(), 1, "{servers:?}");
        assert_eq!(server.system.cancel_task(&TaskId::new("a").unwrap()), 1);
    };
    let ((), exit) = tokio::join!(seen, server.system.shutdown());
    assert_eq!(exit, asynq::Exit::Stopped);
    assert_eq!(pair.look("default", "a").await.unwrap().last_err, "context canceled");
    servers_when(&mut pair, "no server", <[_]>::is_empty).await;
}
