//! The page of a task.

use std::time::Duration;

use asynq::{AsynqSystem, Error, ServerConfig, Task, TaskState};
use asynq_web::access::{RedactionRule, Role};
use axum::http::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{Answer, Site, users};

const SCRIPT: &str = "<script>alert(\"x\")</script>";
const HOUR: Duration = Duration::from_secs(3600);

fn scheduled(id: &str, payload: &[u8]) -> Task {
    Task::new("mail:send", payload)
        .unwrap()
        .with_queue("mail")
        .with_task_id(id)
        .with_process_in(HOUR)
}

/// The page of a task of the queue `mail`, of the user with this token.
async fn page(site: &Site, token: &str, path: &str) -> Answer {
    site.ask(token, Method::GET, &format!("/queues/mail/tasks/{path}"), None)
        .await
}

/// The text that a reader sees of an element's markup.
fn plain(markup: &str) -> String {
    let mut text = String::new();
    let mut is_tag = false;
    for char in markup.chars() {
        match char {
            '<' => is_tag = true,
            '>' => is_tag = false,
            char if !is_tag => text.push(char),
            _ => {}
        }
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&amp;", "&")
}

/// The labels of the acts in the head of a page.
fn acts(page: &Answer) -> Vec<&'static str> {
    let start = page.text.find("page-acts").unwrap();
    let end = start + page.text[start..].find("class=\"card now").unwrap();
    let head = plain(&page.text[start..end]);
    let all = [
        "Run now",
        "Reschedule",
        "Edit payload",
        "Copy",
        "Cancel",
        "Archive",
        "Delete",
    ];
    all.into_iter().filter(|label| head.contains(label)).collect()
}

#[tokio::test]
async fn what_users_write_stays_text() {
    let site = Site::open().await;
    let id = "<b>\"1\"</b>";
    let task = Task::new(SCRIPT, SCRIPT.as_bytes())
        .unwrap()
        .with_queue("mail")
        .with_task_id(id);
    let task = task.with_process_in(HOUR).with_header(SCRIPT, SCRIPT);
    site.client.enqueue(task).await.unwrap();
    for form in ["", "?payload=raw", "?payload=hex", "?payload=%3Cscript%3E"] {
        let shown = page(&site, "", &format!("%3Cb%3E%221%22%3C%2Fb%3E{form}")).await;
        assert_eq!(shown.status, StatusCode::OK, "{form}");
        assert!(
            !shown.text.contains("<script>") && !shown.text.contains("<b>"),
            "{}",
            shown.text
        );
        assert!(shown.text.contains("&lt;b&gt;&quot;1&quot;&lt;/b&gt;"));
        for forbidden in [" style=", " onclick=", "javascript:"] {
            assert!(!shown.text.contains(forbidden), "{forbidden}");
        }
    }
}

#[tokio::test]
async fn an_error_stays_text_and_leads_to_tasks_with_the_same() {
    let site = Site::open().await;
    let system = AsynqSystem::builder(site.storage.clone())
        .config(ServerConfig::new().queues([("mail", 1)]))
        .handler(|_: Task| async { Err(Error::other(format!("{SCRIPT} of user 17 failed"))) })
        .spawn()
        .await
        .unwrap();
    let task = Task::new("t", b"")
        .unwrap()
        .with_queue("mail")
        .with_task_id("1")
        .with_max_retry(0);
    site.client.enqueue(task).await.unwrap();
    let is_archived = async || {
        let task = site.inspector.get_task_info("mail", "1").await.unwrap();
        task.state == TaskState::Archived
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_archived().await {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let shown = page(&site, "", "1").await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(!shown.text.contains("<script>"));
    let text = plain(&shown.text);
    for part in [
        "Failed for good",
        "<script>alert(\"x\")</script> of user <n> failed",
        "Run 1 failed for good",
        "asynq task run --queue=mail --id=1",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(
        shown.text.contains("?state=archived&amp;q=error%7E%22"),
        "{}",
        shown.text
    );
    assert_eq!(acts(&shown), ["Run now", "Reschedule", "Copy", "Delete"]);
    system.shutdown().await;
}

#[tokio::test]
async fn data_are_shown_by_what_they_are() {
    let site = Site::open().await;
    for (id, payload) in [
        (
            "json",
            &br#"{"id":12345678901234567890123,"b":1.10,"a":{"x":[true,null]}}"#[..],
        ),
        ("msgpack", b"\x81\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("text", b"hello & goodbye"),
        ("bytes", b"\xff\x00ab"),
        ("empty", b""),
    ] {
        site.client.enqueue(scheduled(id, payload)).await.unwrap();
    }
    for (path, part) in [
        ("json", "{\n  \"id\": 12345678901234567890123,\n  \"b\": 1.10,\n"),
        ("json?payload=raw", r#"{"id":12345678901234567890123,"b":1.10,"a""#),
        ("json?payload=hex", "00000000  7b 22 69 64 22 3a 31 32  33"),
        ("msgpack", "{\n  \"id\": 18446744073709551615\n}"),
        ("msgpack?payload=raw", "gaJpZM///////////w=="),
        ("text", "hello & goodbye"),
        ("bytes", "ff 00 61 62"),
        ("bytes?payload=raw", "/wBhYg=="),
        ("empty", "It is empty."),
    ] {
        let text = plain(&page(&site, "", path).await.text);
        assert!(text.contains(part), "{path}: {text}");
    }
    let json = page(&site, "", "json").await.text;
    assert!(
        json.contains(r#"<span class="j-n">&quot;id&quot;</span>: <span class="j-d">12345678901234567890123</span>"#)
    );
}

#[tokio::test]
async fn a_large_payload_makes_a_small_page_and_a_whole_file() {
    let site = Site::open().await;
    let rows = r#"{"id":1,"name":"<a \"b\">"},"#.repeat(40_000);
    let large = [
        ("json", format!("[{}1]", rows).into_bytes()),
        ("quotes", vec![b'"'; 1 << 20]),
        ("lines", b"\n".repeat(1 << 20)),
        ("bytes", vec![255; 1 << 20]),
        ("deep", ("[".repeat(100) + &"]".repeat(100)).into_bytes()),
        ("medium", vec![b'&'; 9 << 10]),
    ];
    for (id, payload) in &large {
        site.client.enqueue(scheduled(id, payload)).await.unwrap();
        for form in ["", "?payload=raw", "?payload=hex"] {
            let shown = page(&site, "", &format!("{id}{form}")).await;
            assert_eq!(shown.status, StatusCode::OK, "{id}{form}");
            assert!(shown.text.len() < 200_000, "{id}{form} has {}", shown.text.len());
        }
        let file = page(&site, "", &format!("{id}/payload")).await;
        assert_eq!(file.status, StatusCode::OK, "{id}");
        assert_eq!(file.headers[header::CONTENT_LENGTH], payload.len().to_string());
        assert_eq!(file.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let name = file.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert!(
            name.starts_with(&format!("attachment; filename=\"{id}-payload.")),
            "{name}"
        );
    }
    let cut = plain(&page(&site, "", "json").await.text);
    assert!(cut.contains("Download all 1.0"), "{cut}");
    let heavy = (0..60).fold(scheduled("heavy", &large[0].1), |task, n| {
        task.with_header(format!("h{n}"), "\"".repeat(600))
    });
    site.client.enqueue(heavy).await.unwrap();
    let heavy = page(&site, "", "heavy").await;
    assert!(heavy.text.len() < 200_000, "{}", heavy.text.len());
    assert!(
        plain(&heavy.text).contains(" more"),
        "the headers that are left out are counted"
    );
    let none = page(&site, "", "json/result").await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn hidden_data_are_nowhere_on_the_page_and_in_no_file() {
    let rule = RedactionRule::new(["mail:*"], Role::Admin);
    let site = Site::with(|web| web.authenticate(users()).redact(rule)).await;
    site.client
        .enqueue(scheduled("1", b"{\"card\":\"4711-secret\"}"))
        .await
        .unwrap();
    for token in ["viewer", "operator", "mail"] {
        for form in ["", "?payload=raw", "?payload=hex"] {
            let shown = page(&site, token, &format!("1{form}")).await;
            assert_eq!(shown.status, StatusCode::OK);
            assert!(
                !shown.text.contains("4711") && !shown.text.contains("34 37 31 31"),
                "{token}"
            );
            assert!(plain(&shown.text).contains("hidden from you by the rule mail:* (shown to the role admin)"));
        }
        let file = page(&site, token, "1/payload").await;
        assert_eq!(file.status, StatusCode::FORBIDDEN, "{token}");
        assert!(!file.text.contains("4711"));
    }
    let shown = page(&site, "admin", "1").await;
    assert!(plain(&shown.text).contains("4711-secret"));
    assert_eq!(
        page(&site, "admin", "1/payload").await.text,
        "{\"card\":\"4711-secret\"}"
    );
}

#[tokio::test]
async fn acts_fit_the_state_and_the_role() {
    let site = Site::with_users().await;
    site.client.enqueue(scheduled("1", b"1")).await.unwrap();
    let shown = page(&site, "viewer", "1").await;
    assert_eq!(acts(&shown), [""; 0]);
    assert!(!shown.text.contains("copy-dialog") && !shown.text.contains("payload-source"));
    let shown = page(&site, "operator", "1").await;
    assert_eq!(
        acts(&shown),
        ["Run now", "Reschedule", "Edit payload", "Copy", "Archive", "Delete"]
    );
    assert!(plain(&shown.text).contains("Runs in 59m"));
    site.inspector.run_task("mail", "1").await.unwrap();
    let shown = page(&site, "mail", "1").await;
    assert_eq!(acts(&shown), ["Copy", "Archive", "Delete"]);
    assert!(plain(&shown.text).contains("No running server takes tasks from this queue."));
    site.inspector.archive_task("mail", "1").await.unwrap();
    let shown = page(&site, "mail", "1").await;
    assert_eq!(acts(&shown), ["Run now", "Reschedule", "Copy", "Delete"]);
    // The path of each act is one of the API.
    let path = "api/v1/queues/mail/tasks/1/run";
    assert!(shown.text.contains(&format!("hx-post=\"../../../{path}\"")));
    let run = site
        .ask("mail", Method::POST, &format!("/{path}"), Some(json!({})))
        .await;
    assert_eq!(run.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nobody_changes_anything_in_read_only_mode() {
    let site = Site::with(|web| web.read_only()).await;
    site.client.enqueue(scheduled("1", b"1")).await.unwrap();
    let shown = page(&site, "", "1").await;
    assert_eq!(acts(&shown), [""; 0]);
    assert!(!shown.text.contains("hx-post") && !shown.text.contains("hx-put") && !shown.text.contains("hx-delete"));
}

#[tokio::test]
async fn a_task_that_is_not_there_and_one_that_is_damaged_have_pages() {
    let site = Site::with_users().await;
    site.client.enqueue(scheduled("gone", b"1")).await.unwrap();
    for path in ["none", "none/payload", "none/result"] {
        let missing = page(&site, "viewer", path).await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND, "{path}");
        assert!(missing.text.contains("There is nothing here"), "{path}");
    }
    // The message of another task.
    site.client.enqueue(scheduled("other", b"1")).await.unwrap();
    let other = site.storage.raw_state().remove("asynq:{mail}:t:other");
    site.storage.plant("asynq:{mail}:t:gone", other).unwrap();
    let damaged = page(&site, "operator", "gone").await;
    assert_eq!(damaged.status, StatusCode::UNPROCESSABLE_ENTITY);
    for part in ["The data of this task cannot be read", "asynq doctor mail", "Delete"] {
        assert!(plain(&damaged.text).contains(part), "{part}");
    }
    let viewed = page(&site, "viewer", "gone").await;
    assert!(!viewed.text.contains("hx-delete"));
}
