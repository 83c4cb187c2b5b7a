//! Callers that give up an enqueue, or do not go on with it, on Redis.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use asynq::{client::Client, redis::RedisConnectionType, task::Task};
use asynq_testing::RedisServer;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);

fn task(id: &str) -> Task {
    Task::new("t", b"").unwrap().with_task_id(id)
}

/// Polls it so often, each time that it is woken. Whether it has ended.
async fn poll_times<T>(mut polled: Pin<&mut impl Future<Output = T>>, times: usize) -> bool {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match polled.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn an_enqueue_that_is_dropped_at_any_point_is_stored_once_and_leaves_its_queue_free() {
    let server = RedisServer::start().await;
    let mut raw = server.client().await;
    let client = Client::new(RedisConnectionType::single(server.url()).unwrap())
        .await
        .unwrap();
    client.enqueue(task("first")).await.unwrap();
    let mut stored = 1;
    for behind in [false, true] {
        for polls in 0.. {
            let mut dropped = Box::pin(client.enqueue(task(&format!("{behind}-{polls}"))));
            let ended = timeout(LIMIT, poll_times(dropped.as_mut(), polls)).await.unwrap();
            if behind {
                let other = task(&format!("{behind}-{polls}-behind"));
                let mut other = Box::pin(client.enqueue(other));
                assert!(!poll_times(other.as_mut(), 1).await);
                drop(dropped);
                timeout(LIMIT, other).await.expect("it is held up").unwrap();
                stored += 1;
            } else {
                drop(dropped);
            }
            let next = client.enqueue(task(&format!("{behind}-{polls}-next")));
            timeout(LIMIT, next).await.expect("its queue is not free").unwrap();
            stored += 1 + i64::from(polls > 0);
            let began = Instant::now();
            while raw.cmd(&["LLEN", "asynq:{default}:pending"]).await.int() < stored {
                assert!(began.elapsed() < LIMIT, "lost after {polls} polls");
                sleep(Duration::from_millis(5)).await;
            }
            if ended {
                assert!(polls > 1, "it needs no answer");
                break;
            }
        }
    }
    client.close().await;
    assert_eq!(raw.cmd(&["LLEN", "asynq:{default}:pending"]).await.int(), stored);
}

/// The answer of a call that its caller does not poll is read all the same: nothing is taken for a silent
/// connection.
#[tokio::test]
async fn an_enqueue_that_nobody_polls_costs_no_connection() {
    let server = RedisServer::start().await;
    let mut raw = server.client().await;
    let client = Client::new(RedisConnectionType::single(server.url()).unwrap())
        .await
        .unwrap();
    client.enqueue(task("first")).await.unwrap();
    let mut lazy = Box::pin(client.enqueue(task("lazy")));
    assert!(!poll_times(lazy.as_mut(), 1).await);
    let before = raw.cmd(&["CLIENT", "LIST"]).await.text();
    // A connection that owes an answer is given up after 3 s.
    sleep(Duration::from_secs(5)).await;
    let numbers = |list: &str| -> Vec<String> {
        let ids = list.lines().filter_map(|line| line.split(' ').next());
        ids.map(str::to_owned).collect()
    };
    let after = raw.cmd(&["CLIENT", "LIST"]).await.text();
    assert!(
        numbers(&before).iter().all(|id| numbers(&after).contains(id)),
        "{before}\n{after}"
    );
    timeout(Duration::from_secs(1), lazy)
        .await
        .expect("there is no answer")
        .unwrap();
    client.close().await;
}
