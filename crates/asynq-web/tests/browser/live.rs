//! Pages that follow what happens.

use asynq::{AsynqSystem, HandlerActorSpec, Task, TaskOptions, redis::RedisConnectionType};
use asynq_testing::RedisServer;
use asynq_web::Web;

use crate::{
    browser::Browser,
    shop::work,
    site::{Site, Small},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_shows_a_restart_as_it_happens() {
    let small = Small::open().await;
    let system = AsynqSystem::builder(small.storage.clone())
        .handler_actor(HandlerActorSpec::new("payment:", || (work::Cashier, ())))
        .spawn()
        .await
        .unwrap();
    let browser = Browser::open().await;
    browser.go(&small.site.at("tree")).await;
    browser.until_text("payment:").await;
    assert!(!browser.text("main").await.contains("restarted 1×"));
    let loaded = browser.js("return performance.timeOrigin").await;
    let crash = Task::new("payment:charge", br#"{"order":1,"test":"crash"}"#).unwrap();
    small.client.enqueue(crash).await.unwrap();
    browser.until_text("restarted 1×").await;
    browser.until_text("the connection to the bank broke").await;
    assert_eq!(
        browser.js("return performance.timeOrigin").await,
        loaded,
        "it is the same page"
    );
    browser.no_errors().await;
    system.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_follows_its_queues() {
    let small = Small::open().await;
    let enqueue = async || {
        let task = Task::new("email:send", b"{}").unwrap();
        small
            .client
            .enqueue_with(task, TaskOptions::new().queue("mail"))
            .await
            .unwrap();
    };
    enqueue().await;
    let browser = Browser::open().await;
    browser.go(&small.site.at("")).await;
    let size = "document.querySelector('#queue-mail td.num')?.innerText";
    browser.until(&format!("{size} === '1'")).await;
    let loaded = browser.js("return performance.timeOrigin").await;
    for _ in 0..4 {
        enqueue().await;
    }
    browser.until(&format!("{size} === '5'")).await;
    assert_eq!(
        browser.js("return performance.timeOrigin").await,
        loaded,
        "it is the same page"
    );
    browser.no_errors().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_shows_and_heals() {
    let redis = RedisServer::builder().persistent().start().await;
    let connection = || RedisConnectionType::single(redis.url()).unwrap();
    let client = asynq::Client::new(connection()).await.unwrap();
    client.enqueue(Task::new("email:send", b"{}").unwrap()).await.unwrap();
    let site = Site::serve(Web::connect_redis(connection()).await.unwrap()).await;
    let browser = Browser::open().await;
    browser.go(&site.at("")).await;
    browser.until_text("default").await;
    let loaded = browser.js("return performance.timeOrigin").await;
    browser.no_errors().await;

    redis.kill();
    let banner = "document.getElementById('outage')";
    browser
        .until(&format!(
            "!{banner}.hidden && {banner}.innerText.includes('does not answer')"
        ))
        .await;
    assert!(browser.text("main").await.contains("default"), "what was known stays");
    redis.restart().await;
    browser.until(&format!("{banner}.hidden")).await;
    assert_eq!(
        browser.js("return performance.timeOrigin").await,
        loaded,
        "it is the same page"
    );

    // A page that is opened during an outage says so, and opens when it is over.
    redis.kill();
    browser.go(&site.at("queues/default")).await;
    browser.until_text("The storage does not answer").await;
    redis.restart().await;
    browser
        .until("document.querySelector('h1')?.innerText.includes('default')")
        .await;
}
