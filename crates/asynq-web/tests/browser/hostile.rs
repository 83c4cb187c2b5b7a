//! Texts of others stay texts.

use serde_json::json;

use crate::{
    browser::Browser,
    shop::{HOSTILE, SCRIPT, Shop},
};

#[tokio::test(flavor = "multi_thread")]
async fn html_and_script_of_others_stay_text() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    // It would note each call of `alert`.
    let watch = "window.alerts = 0; window.alert = () => { window.alerts += 1 }";
    browser
        .cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": watch}))
        .await;
    let queue = "queues/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E";
    for (path, texts) in [
        ("", &[HOSTILE][..]),
        ("findings", &[HOSTILE]),
        ("find?q=%3Cimg", &[HOSTILE]),
        (queue, &[HOSTILE, "<u>type</u>"]),
        (&format!("{queue}?state=scheduled"), &[HOSTILE, "hostile-later"]),
        (
            &format!("{queue}/tasks/hostile"),
            &[
                HOSTILE,
                "<u>type</u>",
                "<i>header</i>",
                SCRIPT,
                "<img src=x onerror=alert(2)>",
            ],
        ),
        ("queues/payments?state=archived", &["<script>alert('xss')"]),
        ("audit", &["<script>alert('xss')"]),
        ("queues/payments/tasks/charge-html", &[SCRIPT, "x-note"]),
        ("queues/newsletter?state=aggregating", &["<b>readers</b>"]),
        (
            "queues/imports/tasks/message-pack",
            &["<script>alert(3)</script>", "18446744073709551615"],
        ),
        ("queues/imports/tasks/plain-text", &["Kettle <b>steel</b>"]),
    ] {
        browser.go(&site.at(path)).await;
        for text in texts {
            browser.until_text(text).await;
        }
        let elements =
            "return document.querySelectorAll('main img, main i, main u, main script:not([src]), main b').length";
        assert_eq!(browser.js(elements).await, 0, "{path}");
        assert_eq!(browser.js("return window.alerts").await, 0, "{path}");
        browser.no_errors().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_of_all_kinds_are_shown_as_they_are() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    for (id, texts) in [
        (
            "exact-numbers",
            &["9007199254740993", "12345678901234567890.12", "1e400", "-0.0", "10.00"][..],
        ),
        ("message-pack", &["MessagePack", "1204331", "18446744073709551615"]),
        ("plain-text", &["sku;name;price"]),
        ("raw-bytes", &["ff fe fd fc fb fa"]),
        ("no-payload", &["import:catalog"]),
    ] {
        browser.go(&site.at(&format!("queues/imports/tasks/{id}"))).await;
        for text in texts {
            browser.until_text(text).await;
        }
        browser.no_errors().await;
    }
    // A payload of 1 MiB: the page is small, and the whole can be had.
    browser.go(&site.at("queues/imports/tasks/one-mebibyte")).await;
    browser.until_text("supplier").await;
    let bytes = browser
        .js("return performance.getEntriesByType('navigation')[0].decodedBodySize")
        .await;
    assert!(bytes.as_f64().unwrap() < 200_000.0, "{bytes}");
    let whole = "const link = document.querySelector('a[href$=\"/payload\"]'); const answer = await fetch(link.href);\
                 return (await answer.arrayBuffer()).byteLength";
    let whole = browser.js(whole).await.as_f64().unwrap();
    assert!(whole > 1_048_000.0, "{whole}");
    browser.no_errors().await;
}
