//! Changes whose client does not wait for the answer.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use asynq::{Client, Inspector, Task, inspect::Cursor, redis::RedisConnectionType};
use asynq_testing::RedisServer;
use asynq_web::Web;
use axum::{body::Body, http::Method};
use tower::ServiceExt as _;

use crate::support::request;

#[tokio::test]
async fn a_change_is_made_and_recorded_if_its_client_hangs_up() {
    let server = RedisServer::start().await;
    let connection = || RedisConnectionType::single(server.url()).unwrap();
    let client = Client::new(connection()).await.unwrap();
    for _ in 0..3 {
        client.enqueue(Task::new("mail", b"1").unwrap()).await.unwrap();
    }
    let inspector = Inspector::connect(connection()).await.unwrap();
    let router = Web::connect_redis(connection())
        .await
        .unwrap()
        .without_authentication()
        .router();
    let delete = request(Method::DELETE, "/api/queues/default/pending_tasks:delete_all");
    {
        let mut answer = pin!(router.oneshot(delete.body(Body::empty()).unwrap()));
        let is_under_way = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await;
        assert!(is_under_way);
    }
    let recorded = async {
        loop {
            let trail = inspector.audit_trail(Cursor::default(), 10).await.unwrap();
            if let Some(entry) = trail.items.first() {
                return entry.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let entry = tokio::time::timeout(Duration::from_secs(60), recorded).await.unwrap();
    assert_eq!(
        (entry.queue.as_deref(), entry.changed),
        (Some("default"), Some(3)),
        "{entry:?}"
    );
    assert_eq!(inspector.get_queue_stats("default").await.unwrap().pending, 0);
}
