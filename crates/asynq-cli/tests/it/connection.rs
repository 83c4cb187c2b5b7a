//! The ways to a Redis: flags, the environment, the configuration; a cluster, sentinels, TLS.

use asynq::{Client, Task, redis::RedisConnectionType};
use asynq_testing::{RedisCluster, RedisSentinel, RedisServer, request::request, tls::TlsFiles};

use crate::support::Fixture;

/// A Redis with one queue, which has its name.
async fn with_queue(name: &str) -> Fixture {
    let fixture = Fixture::start().await;
    fixture.enqueue(request(name, "t")).await;
    fixture
}

#[tokio::test]
async fn flags_come_before_the_environment_and_that_before_the_file() {
    let [flag, own, go, file] = [
        with_queue("flag").await,
        with_queue("own").await,
        with_queue("go").await,
        with_queue("file").await,
    ];
    let address = |fixture: &Fixture| format!("127.0.0.1:{}", fixture.redis.port());
    file.write_home(".asynq.yaml", &format!("uri: {}\n", address(&file)));
    let list = || file.bare(["queue", "ls"]);
    assert_eq!(list().ok().await, "file\n");
    assert_eq!(list().env("URI", &address(&go)).ok().await, "go\n");
    let both = || list().env("URI", &address(&go)).env("ASYNQ_URI", &address(&own));
    assert_eq!(both().ok().await, "own\n");
    assert_eq!(both().args(["-u", &address(&flag)]).ok().await, "flag\n");
}

#[tokio::test]
async fn a_context_comes_with_its_own_login_and_is_chosen_by_flag_or_environment() {
    let server = RedisServer::builder().password("s3cret").start().await;
    let locked = Fixture::start().await;
    let config = format!(
        "context: open\ncontexts:\n  open:\n    uri: {}\n  locked:\n    uri: 127.0.0.1:{}\n    password_env: LOCKED\n",
        locked.redis.url(),
        server.port()
    );
    locked.write_home(".asynq.toml", "");
    locked.write_home(".asynq.yml", &config);
    locked.enqueue(request("open", "t")).await;
    assert_eq!(locked.bare(["queue", "ls"]).ok().await, "open\n");
    let named = || locked.bare(["--context", "locked", "queue", "ls"]);
    assert_eq!(named().env("LOCKED", "s3cret").ok().await, "");
    let by_env = locked
        .bare(["queue", "ls"])
        .env("ASYNQ_CONTEXT", "locked")
        .env("LOCKED", "s3cret");
    assert_eq!(by_env.ok().await, "");
    let unset = named().fails(2).await;
    assert!(unset.contains("LOCKED") && unset.contains("password_env"), "{unset}");
    // A value that is no text is not shown either.
    let odd = std::ffi::OsStr::new("LOCKED");
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"s3cret\xff");
    let odd = locked
        .bare(["--context", "locked", "queue", "ls"])
        .env_os(odd, bytes)
        .fails(2)
        .await;
    assert!(odd.contains("is not UTF-8") && !odd.contains("s3cret"), "{odd}");
    // The environment's address does not get the context's password, and the other way round.
    let elsewhere = named()
        .env("LOCKED", "wrong")
        .env("ASYNQ_PASSWORD", "s3cret")
        .fails(5)
        .await;
    assert!(
        !elsewhere.contains("wrong") && !elsewhere.contains("s3cret"),
        "{elsewhere}"
    );
}

#[tokio::test]
async fn a_database_and_a_user_are_chosen() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.redis.client().await;
    admin
        .ok(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all"])
        .await;
    let login = ["-U", "ann", "-p", "pw", "-n", "3"];
    let words = [&login[..], &["task", "enqueue", "-t", "a", "-l", "1", "-q", "third"]].concat();
    assert_eq!(fixture.asynq(words).run().await.status, 0);
    assert_eq!(fixture.asynq(["-n", "3", "queue", "ls"]).ok().await, "third\n");
    assert_eq!(fixture.asynq(["queue", "ls"]).ok().await, "");
    assert_eq!(
        fixture
            .bare(["-u", &format!("{}/3", fixture.redis.url()), "queue", "ls"])
            .ok()
            .await,
        "third\n"
    );
    let wrong = fixture.bare(["queue", "ls"]).env("ASYNQ_DB", "three").fails(2).await;
    assert!(wrong.contains("ASYNQ_DB") && wrong.contains("three"), "{wrong}");
}

#[tokio::test]
async fn tls_is_used_and_its_certificate_checked() {
    let files = TlsFiles::generate();
    let server = RedisServer::builder().tls(files).start().await;
    let fixture = Fixture::start().await;
    let address = server
        .tls_url()
        .trim_start_matches("rediss://")
        .trim_end_matches('/')
        .to_owned();
    let stranger = fixture.bare(["-u", &address, "--tls", "stats"]).run().await;
    assert_eq!(
        stranger.status, 5,
        "nobody trusts the authority of the test: {}",
        stranger.stderr
    );
    for words in [
        ["-u", &address, "--tls", "--insecure"],
        ["-u", &server.tls_url(), "--tls_server=localhost", "--insecure"],
    ] {
        assert_eq!(fixture.bare(words).args(["queue", "ls"]).ok().await, "");
    }
}

#[tokio::test]
async fn a_cluster_is_listed_with_its_slots_and_acted_on() {
    let cluster = RedisCluster::start().await;
    let fixture = Fixture::start().await;
    let nodes = cluster.urls().join(",");
    let flags = ["--cluster", "--cluster_addrs", nodes.as_str()];
    let client = Client::new(RedisConnectionType::cluster(cluster.urls()).unwrap())
        .await
        .unwrap();
    for queue in ["b", "default", "low"] {
        client
            .enqueue(Task::new("a", b"1").unwrap().with_queue(queue))
            .await
            .unwrap();
    }
    let asynq = |words: &[&'static str]| fixture.bare(flags).args(words.to_vec());
    let table = asynq(&["queue", "ls"]).ok().await;
    assert!(
        table.starts_with("Queue    Cluster KeySlot  Cluster Nodes\n"),
        "{table}"
    );
    assert_eq!(table.lines().count(), 5);
    let json = asynq(&["queue", "ls"]).json().await;
    assert_eq!(json.as_array().unwrap().len(), 3);
    assert!(
        json[0]["key_slot"].is_u64() && !json[0]["nodes"].as_array().unwrap().is_empty(),
        "{json}"
    );
    let stats = asynq(&["stats"]).ok().await;
    assert!(
        stats.contains("Redis Cluster Info") && stats.contains("OK     3            3"),
        "{stats}"
    );
    let act = asynq(&["-y", "task", "archive", "--query", "type=a"]).run().await;
    assert_eq!(
        (act.status, act.stdout.as_str()),
        (0, "3 tasks archived\n"),
        "{}",
        act.stderr
    );
    assert_eq!(asynq(&["task", "count", "state=archived"]).ok().await, "3 tasks\n");
    assert_eq!(asynq(&["doctor"]).run().await.status, 0);
    client.close().await;
}

#[tokio::test]
async fn sentinels_tell_the_master() {
    let sentinel = RedisSentinel::start().await;
    let fixture = Fixture::start().await;
    let port = sentinel.sentinel().port();
    let uri = format!("redis-sentinel://127.0.0.1:{port}?master={}", RedisSentinel::MASTER);
    let words = ["-u", uri.as_str(), "task", "enqueue", "-t", "a", "-l", "1"];
    assert_eq!(fixture.bare(words).run().await.status, 0);
    let count = fixture
        .bare(["-u", uri.as_str(), "task", "count", "state=pending"])
        .ok()
        .await;
    assert_eq!(count, "1 task\n");
}
