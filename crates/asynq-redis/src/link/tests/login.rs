//! The beginning of a connection.

use asynq_core::{broker::Env, clock::Clock, error::BrokerError};
use asynq_testing::RedisServer;
use chrono::TimeDelta;

use super::{super::policy::eviction_policy, fake::Fake, *};

async fn whoami(link: &Link) -> String {
    text(link.command(&cmd(&["ACL", "WHOAMI"])).await.unwrap())
}

#[tokio::test]
async fn passwords() {
    let server = RedisServer::builder().password("s3cret/@").start().await;
    let at = format!("127.0.0.1:{}", server.port());
    for resp3 in [true, false] {
        let open = |url: String| {
            Link::open(
                Settings {
                    resp3,
                    ..settings(&url)
                },
                Env::default(),
            )
        };
        let link = open(format!("redis://:s3cret%2F%40@{at}")).await.unwrap();
        assert_eq!(whoami(&link).await, "default");
        assert_eq!(link.core.state.live().unwrap().unwrap().is_resp3(), resp3);
        let wrong = open(format!("redis://:wrong@{at}")).await.unwrap_err();
        assert!(!format!("{wrong:?} {wrong}").contains("wrong@"));
        assert_eq!(refusal(wrong), "WRONGPASS");
        assert_eq!(refusal(open(format!("redis://{at}")).await.unwrap_err()), "NOAUTH");
    }
}

#[tokio::test]
async fn a_password_that_nobody_asked_for_does_no_harm() {
    let server = RedisServer::start().await;
    for resp3 in [true, false] {
        let url = format!("redis://:pw@127.0.0.1:{}", server.port());
        let link = Link::open(
            Settings {
                resp3,
                ..settings(&url)
            },
            Env::default(),
        )
        .await
        .unwrap();
        assert_eq!(count(&link, if resp3 { "a" } else { "b" }).await.unwrap(), 1);
        link.subscribe("c").await.unwrap();
    }
}

#[tokio::test]
async fn users() {
    let server = RedisServer::start().await;
    let mut client = server.client().await;
    client
        .ok(&["ACL", "SETUSER", "ann", "on", ">p:w", "~*", "&*", "+@all"])
        .await;
    client
        .ok(&["ACL", "SETUSER", "open", "on", "nopass", "~*", "+@all"])
        .await;
    let port = server.port();
    assert_eq!(
        whoami(&open(&format!("redis://ann:p%3Aw@127.0.0.1:{port}")).await).await,
        "ann"
    );
    let no_password = Settings {
        username: Some("open".to_owned()),
        ..settings(&server.url())
    };
    assert_eq!(
        whoami(&Link::open(no_password, Env::default()).await.unwrap()).await,
        "open"
    );
    // As in Go: a user alone is not a login.
    assert_eq!(
        whoami(&open(&format!("redis://ann@127.0.0.1:{port}")).await).await,
        "default"
    );
}

#[tokio::test]
async fn a_unix_socket() {
    let server = RedisServer::start().await;
    let link = open(&format!("redis-socket://{}?db=2", server.socket_path().display())).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let mut client = server.client().await;
    client.ok(&["SELECT", "2"]).await;
    assert_eq!(client.cmd(&["GET", "n"]).await.text(), "1");
    is(
        Link::open(settings("unix:///nonexistent/s"), Env::default()).await,
        unavailable,
    );
}

#[tokio::test]
async fn databases() {
    let server = RedisServer::start_with(&["--databases", "4"]).await;
    let link = open(&format!("{}/3", server.url())).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let beyond = Link::open(settings(&format!("{}/4", server.url())), Env::default())
        .await
        .unwrap_err();
    assert_eq!(
        beyond.to_string(),
        "invalid connection: database 4: DB index is out of range"
    );
}

#[tokio::test]
async fn nobody_there() {
    let server = RedisServer::start().await;
    let url = server.url();
    drop(server);
    is(Link::open(settings(&url), Env::default()).await, unavailable);
    is(
        Link::open(settings("redis://no-such-host.invalid"), Env::default()).await,
        unavailable,
    );
}

#[tokio::test]
async fn a_silent_peer_is_not_waited_for_longer_than_the_limit() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let hasty = Settings {
        connect_timeout: Duration::from_millis(50),
        ..settings(&url)
    };
    is(within(Link::open(hasty, Env::default())).await, unavailable);
}

#[tokio::test]
async fn an_old_server_is_spoken_to_in_resp2() {
    let server = RedisServer::builder()
        .args(["--rename-command", "HELLO", ""])
        .password("pw")
        .start()
        .await;
    let link = open(&server.url()).await;
    assert!(!link.core.state.live().unwrap().unwrap().is_resp3());
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let wrong = format!("redis://:no@127.0.0.1:{}", server.port());
    assert_eq!(
        refusal(Link::open(settings(&wrong), Env::default()).await.unwrap_err()),
        "WRONGPASS"
    );
}

#[tokio::test]
async fn connections_have_names() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let clients = text(link.command(&cmd(&["CLIENT", "LIST"])).await.unwrap());
    assert!(clients.contains(" name=asynq "), "{clients}");
}

#[tokio::test]
async fn the_eviction_policy_is_found_with_few_permissions() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let mut client = server.client().await;
    client
        .ok(&["ACL", "SETUSER", "few", "on", ">p", "~*", "+@all", "-config"])
        .await;
    client
        .ok(&["ACL", "SETUSER", "none", "on", ">p", "~*", "+@all", "-config", "-info"])
        .await;
    for (login, expected) in [
        ("", Some("allkeys-lru")),
        ("few:p@", Some("allkeys-lru")),
        ("none:p@", None),
    ] {
        let link = open(&format!("redis://{login}127.0.0.1:{}", server.port())).await;
        let wire = link.core.state.live().unwrap().unwrap();
        assert_eq!(eviction_policy(&wire).await.as_deref(), expected);
    }
}

#[tokio::test]
async fn the_clock_follows_the_server_from_a_second_on() {
    for (ahead, corrected) in [(3600, true), (-2, true), (0, false)] {
        let fake = Fake::start(move |words| (words[0] == "TIME").then(|| fake::time(TimeDelta::seconds(ahead)))).await;
        let env = Env {
            clock: Clock::system(),
            ..Env::default()
        };
        // An answer that takes too long tells nothing: then it is asked again.
        until(|| async {
            Link::open(settings(&fake.url()), env.clone()).await.unwrap();
            !corrected || env.clock.offset() != TimeDelta::zero()
        })
        .await;
        let offset = env.clock.offset();
        if corrected {
            assert!(
                (offset - TimeDelta::seconds(ahead)).abs() < TimeDelta::milliseconds(500),
                "{offset}"
            );
        } else {
            assert_eq!(offset, TimeDelta::zero());
        }
    }
}

#[tokio::test]
async fn a_server_that_hides_its_time_leaves_the_clock_alone() {
    let fake = Fake::start(|words| (words[0] == "TIME").then(|| "-NOPERM no\r\n".to_owned())).await;
    let env = Env::default();
    let link = Link::open(settings(&fake.url()), env.clone()).await.unwrap();
    assert_eq!(env.clock.offset(), TimeDelta::zero());
    assert_eq!(link.env().clock.offset(), TimeDelta::zero());
}

#[tokio::test]
async fn garbage_is_not_a_server() {
    let fake = Fake::start(|_| Some("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned())).await;
    let refused = within(Link::open(settings(&fake.url()), Env::default()))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, BrokerError::Unavailable { .. } | BrokerError::Protocol { .. }),
        "{refused:?}"
    );
}
