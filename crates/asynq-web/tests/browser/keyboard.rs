//! The pages without a mouse.

use asynq::{Task, TaskOptions, inspect::Cursor};
use fantoccini::key::Key;

use crate::{browser::Browser, site::Small};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_reached_with_the_keyboard() {
    let small = Small::open().await;
    for queue in ["mail", "payments", "reports"] {
        for number in 0..3 {
            let options = TaskOptions::new().queue(queue).task_id(format!("{queue}-{number}"));
            let task = Task::new("email:send", b"{}").unwrap();
            small.client.enqueue_with(task, options).await.unwrap();
        }
    }
    let browser = Browser::open().await;
    browser.go(&small.site.at("")).await;
    browser.until_text("payments").await;

    // The first stop leads past the navigation, and is seen.
    browser.press_key(Key::Tab).await;
    assert_eq!(browser.js("return document.activeElement.className").await, "skip");
    browser
        .until("document.activeElement.getBoundingClientRect().top >= 0")
        .await;
    browser.press_key(Key::Enter).await;
    browser.until("location.hash === '#main'").await;

    // Each stop shows that it has the focus, and none is a trap.
    let mut stops = std::collections::BTreeSet::new();
    for _ in 0..80 {
        browser.press_key(Key::Tab).await;
        let stop = browser
            .js("const at = document.activeElement; if (at === document.body) return ['', true]; const style = getComputedStyle(at);\
                 return [at.outerHTML.slice(0, 300), style.outlineStyle !== 'none' && style.outlineWidth !== '0px' || style.boxShadow !== 'none']")
            .await;
        assert_eq!(stop[1], true, "no focus is seen on {}", stop[0]);
        stops.insert(stop[0].as_str().unwrap().to_owned());
    }
    for wanted in ["queues/payments", "href=\"./servers\"", "name=\"q\""] {
        assert!(
            stops.iter().any(|stop| stop.contains(wanted)),
            "{wanted} is not reached: {stops:#?}"
        );
    }

    // Rows.
    browser.go(&small.site.at("")).await;
    browser.press("jj").await;
    browser.until("document.activeElement.innerText === 'payments'").await;
    browser.press_key(Key::Enter).await;
    browser.until("location.pathname === '/queues/payments'").await;
    browser.press("jx").await;
    browser
        .until("document.querySelectorAll('[data-select]:checked').length === 1")
        .await;
    browser.press_key(Key::Escape).await;
    browser
        .until("document.querySelectorAll('[data-select]:checked').length === 0")
        .await;

    // Pages, the sheet, the palette.
    browser.press("gs").await;
    browser.until("location.pathname === '/servers'").await;
    browser.press("?").await;
    browser.until("document.getElementById('shortcuts').open").await;
    browser.press_key(Key::Escape).await;
    browser.until("!document.getElementById('shortcuts').open").await;
    browser.press_with_control('k').await;
    browser.until("document.getElementById('palette').open").await;
    browser.press("repor").await;
    browser
        .until("document.querySelector('#palette-list [aria-selected=true]')?.innerText.includes('reports')")
        .await;
    browser.press_key(Key::Enter).await;
    browser.until("location.pathname === '/queues/reports'").await;

    // An act.
    browser
        .js("document.querySelector(\".page-acts [hx-post$='/pause']\").focus()")
        .await;
    browser.press_key(Key::Enter).await;
    browser.until("document.getElementById('ask').open").await;
    browser.press_key(Key::Enter).await;
    browser
        .until("document.querySelector('h1 .badge')?.textContent === 'paused'")
        .await;
    let trail = small.inspector.audit_trail(Cursor::default(), 10).await.unwrap();
    assert_eq!(trail.items[0].act, "pause_queue");
    browser.no_errors().await;
}
