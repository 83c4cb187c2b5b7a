//! Tests of the service: its routes and handlers by themselves, the whole on both brokers, and its end as a process.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod end;

use std::{sync::Arc, time::Duration};

use asynq::{
    AsynqSystem, Client, Connector,
    config::ClientConfig,
    memory::MemoryStore,
    redis::RedisConnectionType,
    testing::{End, EnqueueFault, TestKit},
};
use asynq_testing::RedisServer;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};
use shop::{
    http,
    work::{self, World},
};
use tower::ServiceExt as _;

/// Sends a request to the routes, and reads the answer.
async fn call(routes: &Router, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap();
    let answer = routes.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let text = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(text.to_vec()).unwrap())
}

async fn order(routes: &Router, number: &str, cents: u64) -> StatusCode {
    let order = json!({ "order": number, "email": "ann@example.com", "cents": cents });
    call(routes, Method::POST, "/orders", order.to_string()).await.0
}

async fn remind(routes: &Router, subject: &str, seconds: u64) -> StatusCode {
    let reminder = json!({ "to": "ann@example.com", "subject": subject, "seconds": seconds });
    call(routes, Method::POST, "/reminders", reminder.to_string()).await.0
}

async fn state(routes: &Router, number: &str) -> Value {
    let (status, text) = call(routes, Method::GET, &format!("/orders/{number}"), "").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Routes of which only the client is used.
async fn routes(kit: &TestKit) -> Router {
    let system = AsynqSystem::builder(kit.connector()).spawn().await.unwrap();
    http::router(kit.client().clone(), system.storage().await.unwrap())
}

#[tokio::test]
async fn requests_become_tasks() {
    let kit = TestKit::new().await;
    let routes = routes(&kit).await;
    assert_eq!(order(&routes, "A1", 4200).await, StatusCode::ACCEPTED);
    assert_eq!(remind(&routes, "come back", 300).await, StatusCode::ACCEPTED);
    assert_eq!(
        call(&routes, Method::POST, "/events", "door opened").await.0,
        StatusCode::ACCEPTED
    );

    kit.assert_enqueued("order:place")
        .queue("orders")
        .id("A1")
        .at_once()
        .once();
    kit.assert_enqueued("mail:send")
        .json(&json!({ "to": "ann@example.com", "subject": "come back" }))
        .delayed_by(Duration::from_secs(300))
        .unique_ttl(Duration::from_secs(3600))
        .once();
    kit.assert_enqueued("audit:event").group("events").once();
}

#[tokio::test]
async fn errors_have_a_status_of_http() {
    let kit = TestKit::new().await;
    let routes = routes(&kit).await;
    assert_eq!(order(&routes, "A1", 1).await, StatusCode::ACCEPTED);
    assert_eq!(
        order(&routes, "A1", 1).await,
        StatusCode::CONFLICT,
        "the number is known"
    );
    assert_eq!(remind(&routes, "hello", 60).await, StatusCode::ACCEPTED);
    assert_eq!(remind(&routes, "hello", 60).await, StatusCode::CONFLICT, "a duplicate");
    assert_eq!(
        order(&routes, "  ", 1).await,
        StatusCode::BAD_REQUEST,
        "an id that is blank"
    );
    assert_eq!(
        call(&routes, Method::GET, "/orders/none", "").await.0,
        StatusCode::NOT_FOUND
    );
    kit.fail_next_enqueue(EnqueueFault::Refused);
    assert_eq!(order(&routes, "A2", 1).await, StatusCode::SERVICE_UNAVAILABLE);
    kit.fail_next_enqueue(EnqueueFault::AnswerLost);
    assert_eq!(order(&routes, "A3", 1).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(order(&routes, "A3", 1).await, StatusCode::CONFLICT, "it had arrived");

    let small = ClientConfig::new().max_message_bytes(1024);
    let client = Client::with_config(kit.connector(), small).await.unwrap();
    let system = AsynqSystem::builder(kit.connector()).spawn().await.unwrap();
    let routes = http::router(client, system.storage().await.unwrap());
    assert_eq!(
        order(&routes, &"9".repeat(1024), 1).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_caller_hears_at_once_that_there_are_too_many() {
    // Nothing answers there, so that an enqueue waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("redis://{}", silent.local_addr().unwrap());
    let one = ClientConfig::new()
        .max_waiting(1)
        .enqueue_timeout(Duration::from_secs(1));
    let client = Client::with_config(RedisConnectionType::single(address).unwrap(), one)
        .await
        .unwrap();
    let system = AsynqSystem::builder(MemoryStore::new()).spawn().await.unwrap();
    let routes = http::router(client, system.storage().await.unwrap());
    let (first, second) = tokio::join!(biased; order(&routes, "A1", 1), async {
        let answer = order(&routes, "A2", 1).await;
        drop(silent);
        answer
    });
    assert_eq!(second, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(first, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn handlers_end_as_they_say() {
    let kit = TestKit::new().await;
    let routes = routes(&kit).await;
    let world = World::default();
    let handlers = work::handlers(world.clone());

    order(&routes, "free", 0).await;
    let ran = kit.run_one(&handlers).await.unwrap();
    assert!(matches!(ran.end, End::Archived { .. }), "{ran:?}");
    assert_eq!(ran.task.retried, 0);

    world.bank_is_away_for(1);
    order(&routes, "A1", 4200).await;
    let End::Retried { at, error } = kit.run_one(&handlers).await.unwrap().end else {
        panic!("not tried again");
    };
    assert_eq!(error.to_string(), "the bank is away");
    kit.advance_to(at).await;
    assert!(kit.run_one(&handlers).await.unwrap().end.is_done());
    kit.assert_enqueued("ledger:add").json(&json!({ "cents": 4200 })).once();
    kit.assert_enqueued("label:print").once();
    kit.assert_enqueued("mail:send").once();
}

/// Waits until it holds. On tokio's paused time that takes no time.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect(what);
}

/// A day in the shop: everything that the service does, through its routes.
async fn day(connector: Arc<dyn Connector>) {
    let world = World::default();
    let system = work::start(connector, world.clone(), Duration::from_secs(8))
        .await
        .unwrap();
    let routes = http::router(system.client(), system.storage().await.unwrap());

    world.bank_is_away_for(1);
    assert_eq!(order(&routes, "A1", 4200).await, StatusCode::ACCEPTED);
    assert_eq!(order(&routes, "A1", 4200).await, StatusCode::CONFLICT);
    assert_eq!(order(&routes, "A2", 1800).await, StatusCode::ACCEPTED);
    assert_eq!(order(&routes, "free", 0).await, StatusCode::ACCEPTED);
    assert_eq!(remind(&routes, "come back", 1).await, StatusCode::ACCEPTED);
    assert_eq!(remind(&routes, "come back", 1).await, StatusCode::CONFLICT);
    for event in ["door opened", "door closed"] {
        assert_eq!(
            call(&routes, Method::POST, "/events", event).await.0,
            StatusCode::ACCEPTED
        );
    }

    until("both orders are booked", async || world.booked() == 6000).await;
    until("the mails are sent", async || world.mails().len() == 3).await;
    until("the labels are printed", async || world.labels().len() == 2).await;
    until("the events are stored", async || !world.stored().is_empty()).await;
    until("the schedule ran", async || world.warmed() > 0).await;
    let receipt = async |number: &str| call(&routes, Method::GET, &format!("/orders/{number}/receipt"), "").await;
    assert_eq!(receipt("A1").await, (StatusCode::OK, "paid 4200".to_owned()));
    assert_eq!(
        receipt("free").await,
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            "order free: there is nothing to pay".to_owned()
        )
    );
    assert_eq!(receipt("none").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        state(&routes, "A1").await,
        json!({ "state": "completed", "receipt": "paid 4200", "error": null })
    );
    // Before the others it was refused for good: no retry of it would have been over by now.
    let refused = state(&routes, "free").await;
    assert_eq!(refused["state"], "archived", "{refused}");
    // The context and the reason below it.
    assert_eq!(refused["error"], "order free: there is nothing to pay");

    let mut mails = world.mails();
    mails.sort_unstable();
    assert_eq!(mails, ["come back", "order A1: paid 4200", "order A2: paid 1800"]);
    // One lot; events of one second come in any order.
    let mut lots = world.stored();
    assert_eq!(lots.len(), 1, "{lots:?}");
    lots[0].sort_unstable();
    assert_eq!(lots[0], ["door closed", "door opened"]);
    // Three orders, one of them twice, three mails, two labels, a lot of events, the schedule.
    assert!(world.runs() >= 11, "{}", world.runs());
    // Ends what runs, so that all is written.
    system.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_day_on_the_embedded_broker() {
    let kit = TestKit::on_tokio_time().await;
    day(Arc::new(kit.connector())).await;
}

#[tokio::test]
async fn a_day_on_redis() {
    let server = RedisServer::start().await;
    day(Arc::new(RedisConnectionType::single(server.url()).unwrap())).await;
}
