//! Acts on queues and tasks, as a user does them.

use std::time::Duration;

use asynq::{Inspector, Task, TaskOptions, TaskState, inspect::Cursor};

use crate::{
    browser::{Browser, PATIENCE, quoted},
    shop::Shop,
    site::Small,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Clicks the button of an act, and confirms it in the dialog with a reason.
async fn act(browser: &Browser, button: &str, reason: &str) {
    browser.click(button).await;
    browser.until("document.getElementById('ask').open").await;
    browser.fill("#ask-reason", reason).await;
    browser.click("#ask-go").await;
}

/// Waits until a task is in a state, `None` if it is gone.
async fn until_state(inspector: &Inspector, queue: &str, id: &str, state: Option<TaskState>) {
    let wait = async {
        while inspector.get_task_info(queue, id).await.ok().map(|task| task.state) != state {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "{queue} {id}: not {state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_and_resumed() {
    let small = Small::open().await;
    small
        .client
        .enqueue(Task::new("email:send", b"1").unwrap())
        .await
        .unwrap();
    let browser = Browser::open().await;
    browser.go(&small.site.at("queues/default")).await;
    act(&browser, ".page-acts [hx-post$='/pause']", "the mail server moves").await;
    browser.until_text("The queue is paused.").await;
    // The page shows it without being loaded again.
    browser
        .until("document.querySelector('h1 .badge')?.textContent === 'paused'")
        .await;
    assert!(small.inspector.get_queue_stats("default").await.unwrap().paused);
    let trail = small.inspector.audit_trail(Cursor::default(), 10).await.unwrap();
    assert_eq!(trail.items[0].actor.as_ref().unwrap().reason, "the mail server moves");
    browser.click(".page-acts [hx-post$='/resume']").await;
    browser.until("!document.querySelector('h1 .badge.warning')").await;
    assert!(!small.inspector.get_queue_stats("default").await.unwrap().paused);
    browser.no_errors().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_go_and_of_ours_are_run_archived_and_deleted() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    let task = |queue: &str, id: &str| site.at(&format!("queues/{queue}/tasks/{id}"));

    // A task of Go that failed, whose next run is far away.
    browser.go(&task("search-index", "product-3")).await;
    act(&browser, "main [hx-post$='/archive']", "not needed").await;
    until_state(&shop.inspector, "search-index", "product-3", Some(TaskState::Archived)).await;
    browser
        .until("document.querySelector('main .page-title').innerText.includes('archived')")
        .await;
    browser.click("main [hx-post$='/run']").await;
    until_state(&shop.inspector, "search-index", "product-3", Some(TaskState::Pending)).await;
    browser
        .until("document.querySelector('main .page-title').innerText.includes('pending')")
        .await;

    // One of ours, which is gone after its deletion.
    browser.go(&task("default", "reminder-48108")).await;
    act(&browser, "main [hx-delete]", "sent by hand").await;
    browser.until("location.search === '?state=scheduled'").await;
    until_state(&shop.inspector, "default", "reminder-48108", None).await;
    browser
        .until("document.getElementById('task-reminder-48112') !== null")
        .await;
    assert_eq!(
        browser
            .js("return document.getElementById('task-reminder-48108')")
            .await,
        serde_json::Value::Null
    );

    // A failed one is run again at once, and fails again.
    let before = shop
        .inspector
        .get_task_info("payments", "charge-48115")
        .await
        .unwrap()
        .retried;
    browser.go(&task("payments", "charge-48115")).await;
    browser.click("main [hx-post$='/run']").await;
    let retried = async {
        loop {
            let task = shop.inspector.get_task_info("payments", "charge-48115").await.unwrap();
            if task.retried > before && task.state == TaskState::Retry {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, retried).await.unwrap();
    browser.no_errors().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_edited_with_its_exact_numbers() {
    let small = Small::open().await;
    let payload = br#"{"order":9007199254740993,"amount":0.10}"#;
    let options = TaskOptions::new().task_id("exact").process_in(HOUR);
    small
        .client
        .enqueue_with(Task::new("payment:charge", payload).unwrap(), options)
        .await
        .unwrap();
    let browser = Browser::open().await;
    browser.go(&small.site.at("queues/default/tasks/exact")).await;
    browser.click("[data-open=edit-dialog]").await;
    let editor = "#edit-dialog [data-editor-text]";
    browser
        .until(&format!(
            "document.querySelector({}).value.includes('9007199254740993')",
            quoted(editor)
        ))
        .await;
    let shown = browser
        .js(&format!("return document.querySelector({}).value", quoted(editor)))
        .await;
    let changed = shown.as_str().unwrap().replace("0.10", "0.20");
    browser.fill(editor, &changed).await;
    browser.click("#edit-dialog .dialog-acts button.primary").await;
    let edited = async {
        loop {
            let task = small.inspector.get_task_info("default", "exact").await.unwrap();
            if task.payload.as_ref() != payload {
                return String::from_utf8(task.payload.to_vec()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let edited = tokio::time::timeout(PATIENCE, edited).await.unwrap();
    assert_eq!(
        edited.replace([' ', '\n'], ""),
        r#"{"order":9007199254740993,"amount":0.20}"#
    );
    browser.until_text("9007199254740993").await;
    browser.no_errors().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tasks_that_meet_a_query_are_deleted_with_progress() {
    const MATCHING: usize = 900;
    let small = Small::open().await;
    for number in 0..MATCHING + 40 {
        let kind = if number % 47 < 2 { "email:keep" } else { "email:old" };
        let task = Task::new(kind, b"{}").unwrap();
        small
            .client
            .enqueue_with(task, TaskOptions::new().process_in(HOUR))
            .await
            .unwrap();
    }
    let count = |kind: &'static str| {
        let inspector = small.inspector.clone();
        async move {
            let query = asynq::query::Query::parse(&format!("type={kind}")).unwrap();
            let limits = asynq::inspector::SearchLimits::default();
            inspector.count(&query, &limits).await.unwrap().tasks
        }
    };
    let (kept, old) = (count("email:keep").await, count("email:old").await);
    assert!(kept > 0 && old >= 800);
    let browser = Browser::open().await;
    let begin = async |old: u64, rate: &str| {
        browser.go(&small.site.at("queues/default?q=type%3Demail%3Aold")).await;
        browser.click("[data-select-page]").await;
        browser.click("#bulk-all").await;
        browser.click("#bulk [data-bulk=delete]").await;
        // The preview counts before anything happens.
        browser.until_text(&format!("{old} tasks")).await;
        assert_eq!(
            browser.js("return document.getElementById('bulk-go').disabled").await,
            true,
            "it wants the name"
        );
        browser.fill("#bulk-dialog input[name=rate]", rate).await;
        browser
            .fill("#bulk-dialog input[name=reason]", "the campaign is over")
            .await;
        browser.fill("#bulk-typed", "default").await;
        browser.click("#bulk-go").await;
        browser.until("/\\/acts\\/[^/]+$/.test(location.pathname)").await;
    };
    let done = "Number(document.querySelector('.act-line strong').innerText)";

    // A slow one shows its progress, and can be stopped.
    begin(old, "20").await;
    browser.until_text(&format!("of {old} tasks deleted")).await;
    browser.until(&format!("{done} > 0 && {done} < {old}")).await;
    act(&browser, ".page-acts [hx-post$='/stop']", "too many").await;
    browser
        .until("document.querySelector('main').innerText.includes('stopped')")
        .await;
    let left = count("email:old").await;
    assert!(left > 0 && left < old, "{left}");

    begin(left, "").await;
    browser.until(&format!("{done} === {left}")).await;
    browser.until_text("the campaign is over").await;
    assert_eq!((count("email:keep").await, count("email:old").await), (kept, 0));
    browser.no_errors().await;
}
