//! The table of all pages, and what must hold on each of them.

use crate::{
    axe,
    browser::{Browser, Theme, Width},
    shop::Shop,
};

/// A page of the shop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Its name in names of files.
    pub(crate) name: &'static str,
    /// Its path and query.
    pub(crate) path: &'static str,
    /// A text that it shows.
    pub(crate) shows: &'static str,
}

const fn page(name: &'static str, path: &'static str, shows: &'static str) -> Page {
    Page { name, path, shows }
}

/// All pages, with data. Tests, screenshots and measurements go through it.
pub(crate) const PAGES: &[Page] = &[
    page("overview", "", "payments"),
    page("queue", "queues/payments?state=retry", "declined"),
    page("queue-pending", "queues/reports?state=pending", "report-48103"),
    page("queue-groups", "queues/newsletter?state=aggregating", "readers:us"),
    page("queue-query", "queues/payments?q=error~declined", "meet the query"),
    page(
        "queue-hostile",
        "queues/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E",
        "onerror",
    ),
    page("task", "queues/payments/tasks/charge-html", "the bank answered"),
    page("task-done", "queues/default/tasks/receipt-48103", "250 2.0.0 OK"),
    page("task-active", "queues/images/tasks/photo-7310", "image:resize"),
    page("task-large", "queues/imports/tasks/one-mebibyte", "supplier"),
    page("acts", "acts", "Bulk acts"),
    page("findings", "findings", "imports"),
    page("types", "types", "payment:charge"),
    page("servers", "servers", "inventory"),
    page("tree", "tree", "payment:"),
    page("schedulers", "schedulers", "inventory:sync"),
    page("audit", "audit", "the bank is down until noon"),
    page("redis", "redis", "noeviction"),
    page("find", "find?q=payment", "payments"),
    page("settings", "settings", "Theme"),
    page("design", "_design", "Asynq"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_page_opens_with_data_and_without_errors() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    for page in PAGES {
        browser.go(&site.at(page.path)).await;
        browser.until_text(page.shows).await;
        browser.no_errors().await;
        let hostile = browser
            .js("return document.querySelectorAll('main img, main i, main u, main script:not([src])').length")
            .await;
        assert_eq!(hostile, 0, "{}: texts of others stay texts", page.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_accessible() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    let mut serious = Vec::new();
    for page in PAGES {
        for (theme, width) in [(Theme::Light, Width::Wide), (Theme::Dark, Width::Narrow)] {
            browser.show(theme, width).await;
            browser.go(&site.at(page.path)).await;
            browser.until_text(page.shows).await;
            let name = format!("{}, {}, {}", page.name, theme.name(), width.name());
            let found = axe::find(&browser, &name).await;
            for other in found.others {
                println!("{other}");
            }
            serious.extend(found.serious);
        }
    }
    assert!(serious.is_empty(), "{}", serious.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_fits_into_360_pixels() {
    let shop = Shop::open().await;
    let site = shop.site().await;
    let browser = Browser::open().await;
    browser.show(Theme::Light, Width::Narrow).await;
    let mut wide = Vec::new();
    for page in PAGES {
        browser.go(&site.at(page.path)).await;
        browser.until_text(page.shows).await;
        let width = browser.js("return document.documentElement.scrollWidth").await;
        if width != 360 {
            let script = "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361)\
                          .slice(0, 5).map(e => e.outerHTML.slice(0, 160)).join('\\n')";
            let parts = browser.js(script).await;
            wide.push(format!(
                "{}: {width} px\n{}",
                page.name,
                parts.as_str().unwrap_or_default()
            ));
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}
