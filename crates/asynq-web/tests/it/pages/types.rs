//! The page of the task types.

use std::time::Duration;

use asynq::{
    AsynqSystem, Error, ServerConfig, Task,
    names::QueueName,
    statistics::{Bucket, RunEnd, Span, StatisticsPart, Step},
};
use axum::http::{Method, StatusCode};

use super::planted::{SCRIPT, ago, identity, page, storage};
use crate::{support::Site, v1::until};

/// Counts runs of these types that have just ended.
async fn count(site: &Site, queue: &str, types: &[&str]) {
    let mut bucket = Bucket::new();
    for task_type in types {
        bucket.started(task_type, Duration::from_millis(10));
        bucket.ended(task_type, RunEnd::Done, Duration::from_secs(1));
        bucket.ended(task_type, RunEnd::Retried, Duration::from_secs(2));
    }
    site.client.enqueue(super::task("t").with_queue(queue)).await.unwrap();
    let (minute, hour) = (Step::Minute.start_of(ago(60)), Step::Hour.start_of(ago(0)));
    let parts = [Span::Minute(minute), Span::Hour(hour)].map(|span| StatisticsPart {
        span,
        bucket: bucket.clone(),
    });
    let queue = QueueName::new(queue).unwrap();
    let storage = storage(site).await;
    assert_eq!(
        storage.write_statistics(&queue, &identity("h"), &parts).await.unwrap(),
        0
    );
}

#[tokio::test]
async fn types_are_counted_over_the_queues_that_a_user_sees() {
    let site = Site::with_users().await;
    count(&site, "mail", &["both", "mail:send"]).await;
    count(&site, "default", &["both", "report"]).await;
    let all = page(&site, "viewer", "/types").await;
    for part in [
        "mail:send",
        "report",
        "both",
        "50 %",
        "chart-bar series-retried",
        "chart-line series-third",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    // Both queues have it: it has the most runs, and comes first.
    assert!(all.find(">both<") < all.find(">mail:send<"), "{all}");
    let own = page(&site, "mail", "/types").await;
    assert!(
        own.contains(">mail:send<") && !own.contains("report") && !own.contains("default"),
        "{own}"
    );
    let one = page(&site, "viewer", "/types?queue=default&range=24h").await;
    assert!(one.contains(">report<") && !one.contains(">mail:send<"), "{one}");
    let detail = page(&site, "viewer", "/types?type=report").await;
    assert!(
        detail.contains("<h1>report</h1>") && !detail.contains(">both<"),
        "{detail}"
    );
    assert!(page(&site, "viewer", "/types?q=SEND").await.contains(">mail:send<"));
    for (path, status) in [
        ("/types?queue=default", StatusCode::FORBIDDEN),
        ("/types?queue=maild", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(site.ask("mail", Method::GET, path, None).await.status, status, "{path}");
    }
    let empty = Site::open().await;
    assert!(page(&empty, "", "/types").await.contains("No runs in this time"));
}

#[tokio::test]
async fn errors_of_real_runs_are_grouped() {
    let site = Site::open().await;
    let system = AsynqSystem::builder(site.storage.clone())
        .config(ServerConfig::new().queues([("mail", 1)]))
        .handler(
            |task: Task| async move { Err(Error::other(format!("order {} is {SCRIPT}", task.get_payload().len()))) },
        )
        .spawn()
        .await
        .unwrap();
    for task_type in ["first", "first", "second"] {
        site.client
            .enqueue(super::task(task_type).with_queue("mail").with_max_retry(0))
            .await
            .unwrap();
    }
    until(async || match site.inspector.get_queue_stats("mail").await.unwrap() {
        stats if stats.archived == 3 => Ok(()),
        stats => Err(format!("{stats:?}")),
    })
    .await;
    system.shutdown().await;
    let shown = page(&site, "", "/types").await;
    assert!(
        shown.contains("3 of 3 were looked at") && shown.contains("order &lt;n&gt; is &lt;script&gt;"),
        "{shown}"
    );
    assert!(page(&site, "", "/types?type=none").await.contains("No errors"));
}

#[tokio::test]
async fn many_types_and_queues_are_bounded() {
    let site = Site::open().await;
    let types: Vec<String> = (0..500)
        .map(|nth| format!("{nth:03}:{SCRIPT}{}", "long".repeat(20)))
        .collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    count(&site, "mail", &types).await;
    let shown = page(&site, "", "/types").await;
    assert!(
        shown.contains("Page 1 of 10") && shown.contains("&lt;script&gt;"),
        "{shown}"
    );
    for nth in 0..60 {
        site.client
            .enqueue(super::task("t").with_queue(format!("q{nth}")))
            .await
            .unwrap();
    }
    let shown = page(&site, "", "/types?range=7d").await;
    assert!(shown.contains("11 more are left out"), "{shown}");
    assert!(page(&site, "", "/types?range=30d&sort=run99").await.contains("30 days"));
}
