//! The same Redis, reached in the same ways.

use asynq::{AsynqSystem, redis::RedisConnectionType};
use asynq_interop::{GoClient, GoInspector, GoTask};
use asynq_testing::RedisServer;

use crate::{pair::queue_name, translate};

#[tokio::test]
async fn both_mean_the_same_database() {
    let redis = RedisServer::builder().password("ge heim@:/").start().await;
    let database = |number: u32| format!("redis://:ge%20heim%40%3A%2F@{}/{number}", redis.address());
    let system = AsynqSystem::builder(RedisConnectionType::single(database(2)).unwrap())
        .spawn()
        .await
        .unwrap();
    let task = GoTask::new("t").id("ours");
    system.client().enqueue(translate::task(&task).unwrap()).await.unwrap();

    let mut go = GoInspector::start(&database(2)).await;
    assert_eq!(go.task_info("default", "ours").await.unwrap().state, "pending");
    let mut elsewhere = GoInspector::start(&database(3)).await;
    assert_eq!(elsewhere.queues().await, [""; 0]);

    GoClient::start(&database(2))
        .await
        .enqueue(&GoTask::new("t").id("go's"))
        .await;
    let info = system
        .storage()
        .await
        .unwrap()
        .queue_info(&queue_name("default"))
        .await
        .unwrap();
    assert_eq!(info.pending, 2);
}

#[tokio::test]
async fn both_speak_over_a_unix_socket() {
    let redis = RedisServer::start().await;
    let socket = redis.socket_path();
    let socket = socket.to_str().unwrap();
    let address = RedisConnectionType::single(format!("redis-socket://{socket}")).unwrap();
    let system = AsynqSystem::builder(address).spawn().await.unwrap();
    GoClient::start(socket)
        .await
        .enqueue(&GoTask::new("t").id("go's"))
        .await;
    let info = system
        .storage()
        .await
        .unwrap()
        .queue_info(&queue_name("default"))
        .await
        .unwrap();
    assert_eq!(info.pending, 1);
}
