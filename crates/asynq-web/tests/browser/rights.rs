//! Rights: each user sees and does what their role allows.

use asynq_web::Web;

use crate::{
    browser::Browser,
    shop::Shop,
    sign_in,
    site::{PASSWORD, users},
};

/// Buttons that change something.
const ACTS: &str =
    "document.querySelectorAll('main [hx-post], main [hx-put], main [hx-delete], [data-select], [data-bulk]').length";

#[tokio::test(flavor = "multi_thread")]
async fn users_see_and_change_what_their_role_allows() {
    let shop = Shop::open().await;
    let site = shop.site_with_users().await;
    let browser = Browser::open().await;
    let enter = async |name: &str, path: &str| {
        browser.client.delete_all_cookies().await.unwrap();
        browser.go(&site.at(path)).await;
        browser.until("location.pathname === '/login'").await;
        sign_in::submit(&browser, name, PASSWORD).await;
        browser.until("location.pathname !== '/login'").await;
    };

    // The sign-in leads on to the page that was asked for.
    enter("viewer", "queues/payments?state=retry").await;
    browser
        .until("location.pathname === '/queues/payments' && location.search === '?state=retry'")
        .await;
    browser.until_text("charge-48110").await;
    assert_eq!(
        browser.js(&format!("return {ACTS}")).await,
        0,
        "a viewer changes nothing"
    );
    let status = "const answer = await fetch('../api/v1/queues/payments/pause', {method: 'POST', headers: {'X-CSRF-Token': \
                  document.querySelector('meta[name=csrf-token]').content}}); return answer.status";
    assert_eq!(browser.js(status).await, 403);
    browser.errors().await;
    browser.go(&site.at("acts")).await;
    browser.until_text("You may not see this").await;

    enter("mail", "queues/payments").await;
    browser.until_text("You may not see this").await;
    assert!(
        !browser.text("body").await.contains("charge-"),
        "nothing of the queue is told"
    );
    browser.go(&site.at("")).await;
    browser.until_text("Overview").await;
    let text = browser.text("body").await;
    assert!(!text.contains("payments") && !text.contains("search-index"), "{text}");

    enter("operator", "queues/payments?state=retry").await;
    browser.until_text("charge-48110").await;
    assert_ne!(browser.js(&format!("return {ACTS}")).await, 0);
    assert_eq!(
        browser
            .js("return document.querySelectorAll('main [hx-delete]').length")
            .await,
        0,
        "only an admin deletes a queue"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_changed_in_read_only_mode() {
    let shop = Shop::open().await;
    let site = shop.site_with(Web::read_only).await;
    let browser = Browser::open().await;
    for path in [
        "",
        "queues/payments?state=retry",
        "queues/payments/tasks/charge-48110",
        "schedulers",
        "servers",
        "acts",
    ] {
        browser.go(&site.at(path)).await;
        browser.until_text("read-only").await;
        assert_eq!(browser.js(&format!("return {ACTS}")).await, 0, "{path}");
    }
    let status = "const answer = await fetch('api/v1/queues/payments/pause', {method: 'POST'}); return answer.status";
    browser.go(&site.at("")).await;
    assert_eq!(browser.js(status).await, 405);
    assert!(!shop.inspector.get_queue_stats("payments").await.unwrap().paused);
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_need_a_reason_where_one_is_demanded() {
    let shop = Shop::open().await;
    let site = shop.site_with(|web| web.authenticate(users()).require_reason()).await;
    let browser = Browser::open().await;
    browser.go(&site.at("login?next=queues%2Fpayments")).await;
    sign_in::submit(&browser, "admin", PASSWORD).await;
    browser.click(".page-acts [hx-post$='/pause']").await;
    browser.until("document.getElementById('ask').open").await;
    assert_eq!(
        browser.js("return document.getElementById('ask-go').disabled").await,
        true
    );
    browser.fill("#ask-reason", "the bank is down").await;
    browser.click("#ask-go").await;
    browser
        .until("document.querySelector('h1 .badge')?.textContent === 'paused'")
        .await;
    browser.no_errors().await;
}
