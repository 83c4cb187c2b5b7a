//! The page of the servers.

use super::planted::{SCRIPT, page, serve, storage, worker};
use crate::support::Site;

#[tokio::test]
async fn servers_and_their_tasks_are_those_of_the_queues_of_a_user() {
    let site = Site::with_users().await;
    let storage = storage(&site).await;
    let workers = [
        worker("alpha", "mail", "m1", "mail:send", 30),
        worker("alpha", "default", "d1", "report", 60),
    ];
    serve(&*storage, "alpha", &["mail", "default"], &workers).await;
    serve(&*storage, "beta", &["default"], &[]).await;
    let all = page(&site, "viewer", "/servers").await;
    for part in [
        "alpha",
        "beta",
        "queues/default",
        "queues/mail",
        "2<span class=\"hint\"> / 100",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let own = page(&site, "mail", "/servers").await;
    assert!(
        own.contains("alpha") && !own.contains("beta") && !own.contains("queues/default"),
        "{own}"
    );
    let tasks = page(&site, "viewer", "/servers?tab=tasks").await;
    assert!(tasks.contains("queues/mail/tasks/m1") && tasks.contains("queues/default/tasks/d1"));
    // Payloads are no part of this page.
    assert!(!tasks.contains("secret"));
    // The longest run comes first.
    assert!(tasks.find("tasks/d1") < tasks.find("tasks/m1"));
    assert!(!tasks.contains("/cancel\""));
    let own = page(&site, "mail", "/servers?tab=tasks").await;
    assert!(!own.contains("tasks/d1"), "{own}");
    assert!(
        own.contains("hx-post=\"./api/v1/queues/mail/tasks/m1/cancel\""),
        "{own}"
    );
    let operated = page(&site, "operator", "/servers?tab=tasks&sort=queue").await;
    assert_eq!(operated.matches("/cancel\"").count(), 2);
    for (query, shown) in [("q=REPORT", "tasks/d1"), ("q=m1", "tasks/m1")] {
        let found = page(&site, "viewer", &format!("/servers?tab=tasks&{query}")).await;
        assert_eq!(found.matches("data-open-row").count(), 1, "{query}");
        assert!(found.contains(shown), "{query}");
    }
    let one = page(&site, "viewer", "/servers?server=id-beta").await;
    assert!(!one.contains("data-open-row"), "{one}");
    assert!(
        page(&site, "viewer", "/servers?server=gone")
            .await
            .contains("This server has ended")
    );
}

#[tokio::test]
async fn what_is_late_is_marked_and_nothing_is_an_empty_page() {
    let empty = Site::open().await;
    assert!(page(&empty, "", "/servers").await.contains("No server runs"));
    assert!(
        page(&empty, "", "/servers?tab=tasks")
            .await
            .contains("No task runs now")
    );
    let site = Site::open().await;
    let storage = storage(&site).await;
    let mut late = worker("alpha", "mail", "m1", "t", 100);
    late.deadline = late.start_time;
    serve(&*storage, "alpha", &["mail"], &[late]).await;
    assert!(page(&site, "", "/servers?tab=tasks").await.contains("badge bad\">late"));
    assert!(
        page(&site, "", "/servers?q=none")
            .await
            .contains("No server fits the filter")
    );
}

#[tokio::test]
async fn names_of_others_stay_text() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    serve(
        &*storage,
        SCRIPT,
        &[SCRIPT],
        &[worker(SCRIPT, SCRIPT, SCRIPT, SCRIPT, 5)],
    )
    .await;
    for path in [
        "/servers",
        "/servers?tab=tasks",
        "/servers?q=%3Cscript%3Ealert",
        "/tree",
    ] {
        assert!(page(&site, "", path).await.contains("&lt;script&gt;"), "{path}");
    }
}

#[tokio::test]
async fn ten_thousand_workers_are_shown_page_by_page() {
    let site = Site::open().await;
    let storage = storage(&site).await;
    for server in 0..100 {
        let host = format!("worker-{server}.region.example.com");
        let workers: Vec<_> = (0..100)
            .map(|nth| {
                let id = format!("{server:08}-8a36-4c51-9a1a-{nth:012}");
                worker(&host, "a queue with a long name", &id, "a:rather:long:type", nth)
            })
            .collect();
        let queues: Vec<String> = (0..40).map(|nth| format!("queue-with-a-name-{nth}")).collect();
        let queues: Vec<&str> = queues.iter().map(String::as_str).collect();
        serve(&*storage, &host, &queues, &workers).await;
    }
    let servers = page(&site, "", "/servers").await;
    assert!(servers.contains("10,000") && servers.contains("Page 1 of 2") && servers.contains("and 28 more"));
    let tasks = page(&site, "", "/servers?tab=tasks").await;
    assert_eq!(tasks.matches("data-open-row").count(), 50);
    let last = page(&site, "", "/servers?tab=tasks&page=200&sort=-type").await;
    assert!(last.contains("Page 200 of 200"), "{last}");
    assert_eq!(last.matches("data-open-row").count(), 50);
}
