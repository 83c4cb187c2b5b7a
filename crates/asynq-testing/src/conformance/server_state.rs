//! Records that servers publish about themselves (transitions.md#publish-a-server,
//! transitions.md#withdraw-a-server, transitions.md#servers-and-workers).

use std::collections::BTreeMap;

use asynq_core::{
    info::{ServerInfo, ServerStatus, WorkerInfo},
    published,
};

use super::kit::*;

const TTL: Duration = Duration::from_secs(10);

fn server(fx: &Fixture, server_id: &str) -> ServerInfo {
    ServerInfo {
        host: "h".into(),
        pid: 7,
        server_id: server_id.into(),
        concurrency: 10,
        queues: BTreeMap::from([("default".into(), 6), ("low".into(), 1)]),
        strict_priority: true,
        status: ServerStatus::Active,
        start_time: fx.now(),
        active_worker_count: 2,
    }
}

fn worker(fx: &Fixture, server_id: &str, task: &str) -> WorkerInfo {
    WorkerInfo {
        host: "h".into(),
        pid: 7,
        server_id: server_id.into(),
        task_id: id(task),
        task_type: "t".into(),
        payload: bytes("p"),
        queue: queue(Q),
        start_time: fx.now(),
        deadline: fx.after(1800),
    }
}

async fn write(fx: &Fixture, server_id: &str, tasks: &[&str]) {
    let workers: Vec<_> = tasks.iter().map(|task| worker(fx, server_id, task)).collect();
    fx.storage
        .write_server_state(&server(fx, server_id), &workers, TTL)
        .await
        .unwrap();
}

/// transitions.md#publish-a-server: both keys with their TTL, both names in the indexes with the second of their end.
pub(super) async fn a_server_is_stored_as_go_stores_it(fx: &Fixture) {
    write(fx, "s1", &["a", "b"]).await;
    let raw = fx.raw().await.state;
    let (info, workers) = ("asynq:servers:{h:7:s1}", "asynq:workers:{h:7:s1}");
    assert_eq!(
        raw.keys().collect::<Vec<_>>(),
        ["asynq:servers", info, "asynq:workers", workers]
    );
    assert_eq!(raw["asynq:servers"], zset(&[(info, fx.secs() + 10)]));
    assert_eq!(raw["asynq:workers"], zset(&[(workers, fx.secs() + 10)]));
    assert_eq!(raw[info], RawValue::String(published::encode_server(&server(fx, "s1"))));
    let RawValue::Hash(running) = &raw[workers] else {
        panic!("{:?}", raw[workers])
    };
    let mut stored: Vec<_> = running.values().cloned().collect();
    stored.sort();
    assert_eq!(
        stored,
        ["a", "b"].map(|task| published::encode_worker(&worker(fx, "s1", task)))
    );
    for key in [info, workers] {
        let ttl = fx.ttl_of(key).await.unwrap_or_default();
        assert!((5..=10).contains(&ttl), "{key}: {ttl}");
    }
}

/// layout.md#processes: each beat writes the workers anew; without any there is no key, and the name
/// stays in the index.
pub(super) async fn each_beat_writes_the_workers_anew(fx: &Fixture) {
    write(fx, "s1", &["a", "b"]).await;
    fx.advance(5);
    write(fx, "s1", &["c"]).await;
    let running: Vec<_> = fx
        .storage
        .workers()
        .await
        .unwrap()
        .into_iter()
        .map(|worker| worker.task_id)
        .collect();
    assert_eq!(running, [id("c")]);
    write(fx, "s1", &[]).await;
    let raw = fx.raw().await.state;
    assert!(!raw.contains_key("asynq:workers:{h:7:s1}"));
    assert_eq!(
        raw["asynq:workers"],
        zset(&[("asynq:workers:{h:7:s1}", fx.secs() + 10)])
    );
    assert!(fx.storage.workers().await.unwrap().is_empty());
}

/// Pitfalls 8.4, differences.md#ids-in-two-queues: tasks of the same id in two queues are two workers.
pub(super) async fn the_same_id_in_two_queues_is_two_workers(fx: &Fixture) {
    let (one, mut two) = (worker(fx, "s1", "a"), worker(fx, "s1", "a"));
    two.queue = queue("q2");
    fx.storage
        .write_server_state(&server(fx, "s1"), &[one, two], TTL)
        .await
        .unwrap();
    let mut queues: Vec<_> = fx
        .storage
        .workers()
        .await
        .unwrap()
        .into_iter()
        .map(|worker| worker.queue)
        .collect();
    queues.sort();
    assert_eq!(queues, [queue(Q), queue("q2")]);
}

/// transitions.md#servers-and-workers: what was written is read.
pub(super) async fn servers_and_workers_are_read_as_written(fx: &Fixture) {
    assert!(fx.storage.servers().await.unwrap().is_empty());
    write(fx, "s1", &["a"]).await;
    write(fx, "s2", &[]).await;
    let mut servers = fx.storage.servers().await.unwrap();
    servers.sort_by(|a, b| a.server_id.cmp(&b.server_id));
    assert_eq!(servers, [server(fx, "s1"), server(fx, "s2")]);
    assert_eq!(fx.storage.workers().await.unwrap(), [worker(fx, "s1", "a")]);
}

/// transitions.md#withdraw-a-server: nothing of a server is left.
pub(super) async fn a_cleared_server_leaves_nothing(fx: &Fixture) {
    write(fx, "s1", &["a"]).await;
    fx.storage.clear_server_state(&server(fx, "s1")).await.unwrap();
    assert!(fx.raw().await.state.is_empty());
    fx.storage.clear_server_state(&server(fx, "s1")).await.unwrap();
}

/// transitions.md#servers-and-workers, layout.md#inclusive-times: a server lives while its score is not below
/// now; the others are not shown.
pub(super) async fn a_server_that_does_not_beat_is_not_shown(fx: &Fixture) {
    write(fx, "s1", &["a"]).await;
    fx.advance(5);
    write(fx, "s2", &["b"]).await;
    fx.advance(6);
    let servers: Vec<_> = fx
        .storage
        .servers()
        .await
        .unwrap()
        .into_iter()
        .map(|server| server.server_id)
        .collect();
    assert_eq!(servers, ["s2"]);
    let workers: Vec<_> = fx
        .storage
        .workers()
        .await
        .unwrap()
        .into_iter()
        .map(|worker| worker.server_id)
        .collect();
    assert_eq!(workers, ["s2"]);
}

/// Pitfalls 1.4: a TTL is a whole number of seconds, at least one.
pub(super) async fn a_ttl_is_whole_seconds_and_at_least_one(fx: &Fixture) {
    for (ttl, secs) in [(Duration::from_millis(300), 1), (Duration::from_millis(2900), 2)] {
        fx.storage
            .write_server_state(&server(fx, "s1"), &[], ttl)
            .await
            .unwrap();
        assert_eq!(
            fx.raw().await.state["asynq:servers"],
            zset(&[("asynq:servers:{h:7:s1}", fx.secs() + secs)])
        );
    }
}

/// transitions.md#servers-and-workers, rules.md#damage-stays-local: what cannot be read, or is gone, is left
/// out; the others are shown.
pub(super) async fn an_unreadable_server_is_left_out(fx: &Fixture) {
    write(fx, "s1", &["a"]).await;
    let until = fx.secs() + 10;
    fx.edit(|state| {
        let names = [
            "asynq:servers:{h:7:bad}",
            "asynq:servers:{h:7:gone}",
            "asynq:servers:{h:7:list}",
            "asynq:servers:{h:7:s1}",
        ];
        state.insert("asynq:servers".into(), zset(&names.map(|name| (name, until))));
        state.insert(
            "asynq:servers:{h:7:bad}".into(),
            RawValue::String(Bytes::from_static(b"\xff\xff")),
        );
        let workers = ["asynq:workers:{h:7:bad}", "asynq:workers:{h:7:s1}"];
        state.insert("asynq:workers".into(), zset(&workers.map(|name| (name, until))));
        state.insert(
            "asynq:workers:{h:7:bad}".into(),
            hash([("x", Bytes::from_static(b"\xff\xff"))]),
        );
    })
    .await;
    assert_eq!(fx.storage.servers().await.unwrap(), [server(fx, "s1")]);
    assert_eq!(fx.storage.workers().await.unwrap(), [worker(fx, "s1", "a")]);
}

/// transitions.md#servers-and-workers: names that ended leave the indexes when another server announces itself,
/// so that none pile up where no Go program reads.
pub(super) async fn dead_names_leave_the_indexes(fx: &Fixture) {
    write(fx, "s1", &["a"]).await;
    fx.storage.write_scheduler_entries("c1", &[], TTL).await.unwrap();
    let names = async |index: &str| match fx.raw().await.state.remove(index) {
        Some(RawValue::ZSet(entries)) => entries.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        other => panic!("{index}: {other:?}"),
    };
    // One that ends now still lives.
    for (later, living) in [(10, 2), (1, 1)] {
        fx.advance(later);
        write(fx, "s2", &[]).await;
        fx.storage.write_scheduler_entries("c2", &[], TTL).await.unwrap();
        for (index, name) in [
            ("asynq:servers", "asynq:servers:{h:7:s2}"),
            ("asynq:workers", "asynq:workers:{h:7:s2}"),
            ("asynq:schedulers", "asynq:schedulers:{c2}"),
        ] {
            let found = names(index).await;
            assert_eq!((found.len(), found.last()), (living, Some(&bytes(name))), "{index}");
        }
    }
}
