//! The sign-in.

use crate::{
    browser::Browser,
    site::{PASSWORD, Site},
};

/// Fills the form and sends it.
pub(crate) async fn submit(browser: &Browser, name: &str, password: &str) {
    browser.fill("input[name=name]", name).await;
    browser.fill("input[name=password]", password).await;
    browser.click("form button").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_the_right_one_opens_the_pages() {
    let site = Site::with_users().await;
    let browser = Browser::open().await;
    browser.go(&site.url).await;
    browser.until("location.pathname === '/login'").await;
    assert_eq!(
        browser.js("return document.activeElement.name").await,
        "name",
        "one can begin to type"
    );
    // The answer 401 is written to the console by the browser itself.
    browser.no_errors().await;
    submit(&browser, "viewer", "wrong").await;
    browser.until_text("The name or the password is wrong.").await;
    assert!(
        !browser
            .js("return document.cookie")
            .await
            .as_str()
            .unwrap()
            .contains("session")
    );
    submit(&browser, "viewer", PASSWORD).await;
    browser.until("location.pathname === '/'").await;
    browser.until_text("viewer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wrong_passwords_have_to_wait() {
    let site = Site::with_users().await;
    let browser = Browser::open().await;
    browser.go(&site.at("login")).await;
    // Each further attempt has to wait twice as long as the one before, so some attempt comes too early.
    for attempt in 0..20 {
        let before = browser.js("return performance.timeOrigin").await;
        submit(&browser, "operator", &format!("wrong {attempt}")).await;
        let is_new = format!("performance.timeOrigin !== {before} && document.readyState === 'complete'");
        browser.until(&is_new).await;
        if browser.text("[role=alert]").await.starts_with("Too many") {
            break;
        }
    }
    browser.until_text("Too many attempts. Try again in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_ends_the_session() {
    let site = Site::with_users().await;
    let browser = Browser::open().await;
    browser.go(&site.at("login")).await;
    submit(&browser, "admin", PASSWORD).await;
    browser.until("location.pathname === '/'").await;
    browser.click("form[action$=logout] button").await;
    browser.until("location.pathname === '/login'").await;
    browser.go(&site.url).await;
    browser.until("location.pathname === '/login'").await;
    browser.no_errors().await;
}
