//! Answers of calls.

use asynq_core::{broker::Env, error::BrokerError};
use asynq_testing::{Proxy, RedisServer};
use futures::future::join_all;

use super::*;

#[tokio::test]
async fn a_lost_reply_is_ambiguous_and_nothing_is_sent_twice() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    proxy.lose_next_reply();
    is(within(count(&link, "n")).await, ambiguous);
    assert_eq!(server.client().await.cmd(&["GET", "n"]).await.text(), "1");
    assert_eq!(within(count(&link, "n")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_lost_request_is_ambiguous_too() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    proxy.drop_next_request();
    is(within(count(&link, "n")).await, ambiguous);
    assert_eq!(server.client().await.cmd(&["EXISTS", "n"]).await.int(), 0);
}

#[tokio::test]
async fn all_calls_under_way_end_with_their_connection() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    proxy.lose_next_reply();
    let calls = (0..20).map(|n| {
        let link = link.clone();
        async move { count(&link, &n.to_string()).await }
    });
    let answers = within(join_all(calls)).await;
    assert!(answers.iter().all(|answer| match answer {
        Ok(_) => true,
        Err(error) => ambiguous(error),
    }));
    assert!(answers.iter().any(Result::is_err));
}

#[tokio::test]
async fn without_a_server_a_call_is_unavailable_and_a_new_server_is_found() {
    let server = RedisServer::builder().persistent().start().await;
    let link = Link::open(
        Settings {
            wait_timeout: Duration::from_millis(50),
            ..settings(&server.url())
        },
        Env::default(),
    )
    .await
    .unwrap();
    let before = link.connection();
    assert_ne!(before, 0);
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    server.kill();
    let mut states = link.core.state.subscribe();
    within(states.wait_for(|state| matches!(state, State::Down(Some(_)))))
        .await
        .unwrap();
    assert_eq!(link.connection(), 0);
    is(count(&link, "n").await, unavailable);
    is(
        link.eval_on(before, &COUNT, vec!["n".into()], vec![]).await,
        unavailable,
    );
    assert!(
        link.pipeline(&[cmd(&["PING"]), cmd(&["PING"])])
            .await
            .iter()
            .all(|answer| unavailable(answer.as_ref().unwrap_err()))
    );
    server.restart().await;
    let now = replaced(&link, before).await;
    assert_eq!(link.connection(), now);
    // The script is gone with the old process.
    assert_eq!(
        link.eval_on(now, &COUNT, vec!["n".into()], vec![])
            .await
            .map(int)
            .unwrap(),
        2
    );
    is(
        link.eval_on(before, &COUNT, vec!["n".into()], vec![]).await,
        unavailable,
    );
}

#[tokio::test]
async fn a_call_waits_for_the_server_to_come_back() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    server.kill();
    within(
        link.core
            .state
            .subscribe()
            .wait_for(|state| matches!(state, State::Down(_))),
    )
    .await
    .unwrap();
    let (answer, ()) = tokio::join!(within(count(&link, "n")), server.restart());
    assert_eq!(answer.unwrap(), 1);
}

#[tokio::test]
async fn the_database_is_selected_again() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&format!("{}/3", proxy.url())).await;
    let before = link.connection();
    proxy.cut_all();
    replaced(&link, before).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
    let mut client = server.client().await;
    assert_eq!(client.cmd(&["EXISTS", "n"]).await.int(), 0);
    client.ok(&["SELECT", "3"]).await;
    assert_eq!(client.cmd(&["EXISTS", "n"]).await.int(), 1);
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut client = server.client().await;
    for expected in 1..4 {
        client.ok(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(count(&link, "n").await.unwrap(), expected);
        assert_eq!(
            client.cmd(&["SCRIPT", "EXISTS", COUNT.hash()]).await.array()[0].int(),
            1
        );
    }
}

#[tokio::test]
async fn scripts_that_may_not_be_loaded_are_refused() {
    let server = RedisServer::start().await;
    server
        .client()
        .await
        .ok(&["ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-script"])
        .await;
    let link = open(&format!("redis://u:p@127.0.0.1:{}", server.port())).await;
    assert_eq!(refusal(count(&link, "n").await.unwrap_err()), "NOPERM");
}

#[tokio::test]
async fn out_of_memory_is_typed() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    server.client().await.ok(&["CONFIG", "SET", "maxmemory", "1"]).await;
    is(count(&link, "n").await, |error| {
        matches!(error, BrokerError::OutOfMemory)
    });
    is(link.command(&cmd(&["SET", "n", "1"])).await, |error| {
        matches!(error, BrokerError::OutOfMemory)
    });
    let answers = link.pipeline(&[cmd(&["SET", "n", "1"]), cmd(&["DEL", "n"])]).await;
    assert!(matches!(
        answers[..],
        [Err(BrokerError::OutOfMemory), Ok(Value::Int(0))]
    ));
}

#[tokio::test]
async fn a_wrong_type_is_typed() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    link.command(&cmd(&["LPUSH", "n", "1"])).await.unwrap();
    is(count(&link, "n").await, |error| {
        matches!(error, BrokerError::WrongType { .. })
    });
}

#[tokio::test]
async fn a_replica_is_read_only_and_left_as_soon_as_there_is_better() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let before = link.connection();
    let mut client = server.client().await;
    client.ok(&["REPLICAOF", "127.0.0.1", "1"]).await;
    is(count(&link, "n").await, |error| matches!(error, BrokerError::ReadOnly));
    // Calls that only read are answered all the while.
    replaced(&link, before).await;
    link.command(&cmd(&["GET", "n"])).await.unwrap();
    client.ok(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(count(&link, "n").await.unwrap(), 1);
}

#[tokio::test]
async fn a_busy_server_is_busy() {
    let server = RedisServer::start_with(&["--lua-time-limit", "10"]).await;
    let link = open(&server.url()).await;
    let other = open(&server.url()).await;
    static FOREVER: Script = Script::new("forever", "while true do end");
    let (ended, ()) = tokio::join!(link.eval(&FOREVER, vec![], vec![]), async {
        until(|| async { matches!(other.command(&cmd(&["PING"])).await, Err(BrokerError::Busy { .. })) }).await;
        is(
            Link::open(
                Settings {
                    db: 1,
                    ..settings(&server.url())
                },
                Env::default(),
            )
            .await,
            |error| matches!(error, BrokerError::Busy { .. }),
        );
        other.command(&cmd(&["SCRIPT", "KILL"])).await.unwrap();
    });
    assert_eq!(refusal(ended.unwrap_err()), "ERR");
}

#[tokio::test]
async fn bare_text_of_a_script_is_refused_with_its_words() {
    static BARE: Script = Script::new("bare", "return redis.error_reply('NOT FOUND')");
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let Err(BrokerError::Refused { source }) = link.eval(&BARE, vec![], vec![]).await else {
        panic!("it is refused")
    };
    assert_eq!(source.to_string(), "NOT FOUND");
    assert_eq!(source.downcast_ref::<crate::failure::ErrorReply>().unwrap().code, "NOT");
}

#[tokio::test]
async fn a_pipeline_answers_each_command_for_itself() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    assert!(link.pipeline(&[]).await.is_empty());
    let answers = link
        .pipeline(&[
            cmd(&["INCR", "a"]),
            cmd(&["LPUSH", "a", "x"]),
            cmd(&["NOPE"]),
            cmd(&["INCR", "a"]),
        ])
        .await;
    assert!(matches!(
        answers[..],
        [
            Ok(Value::Int(1)),
            Err(BrokerError::WrongType { .. }),
            Err(BrokerError::Refused { .. }),
            Ok(Value::Int(2))
        ]
    ));
}

#[tokio::test]
async fn a_lost_pipeline_is_ambiguous_in_each_part() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(&server).await;
    let link = open(&proxy.url()).await;
    proxy.lose_reply_to(|words| words[0] == "INCR" && words[1] == "b");
    let answers = within(link.pipeline(&[cmd(&["INCR", "a"]), cmd(&["INCR", "b"])])).await;
    assert!(answers.iter().all(|answer| ambiguous(answer.as_ref().unwrap_err())));
}

#[tokio::test]
async fn many_calls_share_the_connection_and_get_their_own_answers() {
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    static ECHO: Script = Script::new("echo", "return tonumber(ARGV[1])");
    let calls = (0..2000).map(|n: i64| {
        let link = link.clone();
        async move {
            (
                n,
                link.eval(&ECHO, vec![], vec![n.to_string().into()])
                    .await
                    .map(int)
                    .unwrap(),
            )
        }
    });
    assert!(within(join_all(calls)).await.into_iter().all(|(sent, got)| sent == got));
}

#[tokio::test]
async fn large_and_binary_arguments_pass() {
    static GIVE: Script = Script::new("give", "return {ARGV[1], KEYS[1]}");
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let answer = link
        .eval(&GIVE, vec![vec![0, 255, 10, 13]], vec![large.clone()])
        .await
        .unwrap();
    assert_eq!(
        answer,
        Value::Array(vec![Value::BulkString(large), Value::BulkString(vec![0, 255, 10, 13])])
    );
}

#[tokio::test]
async fn a_replica_that_says_so_inside_of_an_answer_is_left_as_well() {
    static NESTED: Script = Script::new("nested", "return { 'x', { redis.pcall('SET', KEYS[1], 'x') } }");
    let server = RedisServer::start().await;
    let link = open(&server.url()).await;
    let mut client = server.client().await;
    client.ok(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let before = link.connection();
    let answer = link.eval(&NESTED, vec![b"n".to_vec()], vec![]).await.unwrap();
    assert!(
        matches!(&answer, Value::Array(values) if values.len() == 2),
        "{answer:?}"
    );
    replaced(&link, before).await;
    client.ok(&["REPLICAOF", "NO", "ONE"]).await;
    let before = link.connection();
    let answer = link.eval(&NESTED, vec![b"n".to_vec()], vec![]).await.unwrap();
    assert!(!format!("{answer:?}").contains("READONLY"), "{answer:?}");
    assert_eq!(link.connection(), before);
}
