//! The weight of the pages and the time until they are there, beside asynqmon's: `cargo xtask pages`.

use std::fmt::Write as _;

use asynq_interop::Asynqmon;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, quoted},
    pages::PAGES,
    shop::Shop,
};

/// Loads of each page.
const LOADS: usize = 20;

/// The views of asynqmon: name, path, and a text that is there with its data.
const ASYNQMON: [(&str, &str, &str); 7] = [
    ("overview", "", "search-index"),
    ("queue", "queues/payments?status=retry", "payment:charge"),
    ("task", "queues/payments/tasks/charge-html", "not bold"),
    ("servers", "servers", "inventory"),
    ("schedulers", "schedulers", "inventory:sync"),
    ("redis", "redis", "noeviction"),
    ("settings", "settings", "Polling"),
];

/// One load of a page, in milliseconds and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    first_byte: f64,
    shown: f64,
    html: u64,
    all: u64,
    requests: u64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it measures; `cargo xtask pages` runs it"]
async fn pages_beside_those_of_asynqmon() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let asynqmon = Asynqmon::start(&shop.redis.address(), &[]).await;
    let browser = Browser::open().await;
    let mut table = String::from(
        "| page | | HTML | all bytes | requests | first byte (median) | data shown (median) |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    // A build with optimizations has no page of the design.
    for page in PAGES.iter().filter(|page| page.name != "design") {
        let load = median(&browser, &site.at(page.path), page.shows).await;
        row(&mut table, page.name, "asynq", load);
        if let Some((name, path, shows)) = ASYNQMON.into_iter().find(|(name, ..)| *name == page.name) {
            let url = format!("http://{}/{path}", asynqmon.address());
            row(&mut table, name, "asynqmon", median(&browser, &url, shows).await);
        }
    }
    println!("{table}");
}

fn row(table: &mut String, page: &str, program: &str, load: Load) {
    let kilobytes = |bytes: u64| format!("{:.1} kB", bytes as f64 / 1000.0);
    let _ = writeln!(
        table,
        "| {page} | {program} | {} | {} | {} | {:.1} ms | {:.0} ms |",
        kilobytes(load.html),
        kilobytes(load.all),
        load.requests,
        load.first_byte,
        load.shown
    );
}

/// Loads a page several times with an empty cache.
async fn median(browser: &Browser, url: &str, shows: &str) -> Load {
    browser.cdp("Network.enable", json!({})).await;
    browser
        .cdp("Network.setCacheDisabled", json!({"cacheDisabled": true}))
        .await;
    // It notes the time at which the text is there.
    let watch = format!(
        "(() => {{ const look = () => {{ if (document.body && document.body.innerText.includes({})) window.asynqShown = performance.now(); \
         else requestAnimationFrame(look) }}; look() }})()",
        quoted(shows)
    );
    let script = browser
        .cdp("Page.addScriptToEvaluateOnNewDocument", json!({"source": watch}))
        .await;
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        browser.go(url).await;
        browser.until("window.asynqShown").await;
        loads.push(load(browser).await);
    }
    browser
        .cdp(
            "Page.removeScriptToEvaluateOnNewDocument",
            json!({"identifier": script["identifier"]}),
        )
        .await;
    let middle = |of: fn(&Load) -> f64| {
        let mut values: Vec<f64> = loads.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Load {
        first_byte: middle(|load| load.first_byte),
        shown: middle(|load| load.shown),
        ..loads[0]
    }
}

async fn load(browser: &Browser) -> Load {
    let measured = browser
        .js("const page = performance.getEntriesByType('navigation')[0];\
             const parts = performance.getEntriesByType('resource').filter(part => part.startTime < window.asynqShown);\
             return {first: page.responseStart - page.requestStart, shown: window.asynqShown, html: page.encodedBodySize,\
             all: parts.reduce((sum, part) => sum + part.encodedBodySize, page.encodedBodySize), requests: parts.length + 1}")
        .await;
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    Load {
        first_byte: number(&measured["first"]),
        shown: number(&measured["shown"]),
        html: number(&measured["html"]) as u64,
        all: number(&measured["all"]) as u64,
        requests: number(&measured["requests"]) as u64,
    }
}
