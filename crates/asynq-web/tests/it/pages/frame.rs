//! Frame, links, files, errors and settings: all pages have them in common.

use asynq::memory::MemoryStore;
use asynq_web::Web;
use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode, header},
};

use super::task;
use crate::support::{Site, request, send};

const SCRIPT: &str = "<script>alert(1)</script>";

#[tokio::test]
async fn pages_have_no_code_or_style_of_their_own() {
    let site = Site::open().await;
    site.client.enqueue(task("a").with_queue(SCRIPT)).await.unwrap();
    for path in [
        "/",
        "/findings",
        "/settings",
        "/_design",
        "/find?q=%3Cscript%3E",
        "/?group=prefix&sort=-size",
    ] {
        let page = site.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(!page.text.contains(SCRIPT), "{path}: {}", page.text);
        for forbidden in [" style=", " onclick=", " onload=", "<style", "javascript:", "hx-on"] {
            assert!(!page.text.contains(forbidden), "{path} has {forbidden}");
        }
        let scripts = page.text.matches("<script").count();
        assert_eq!(scripts, page.text.matches("<script src=\"").count(), "{path}");
    }
}

#[tokio::test]
async fn every_link_of_a_page_leads_somewhere_also_below_a_prefix() {
    let storage = MemoryStore::new();
    let client = asynq::Client::new(storage.clone()).await.unwrap();
    client.enqueue(task("a").with_queue("a/b c")).await.unwrap();
    let web = Web::connect(storage).await.unwrap().without_authentication().router();
    let router = Router::new().nest("/ops/asynq", web);
    let mut waiting = vec!["/ops/asynq".to_owned()];
    let mut known: Vec<String> = waiting.clone();
    while let Some(path) = waiting.pop() {
        let answer = send(&router, request(Method::GET, &path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} of {known:?}");
        let is_page = answer
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "text/html; charset=utf-8");
        if !is_page || known.len() > 300 {
            continue;
        }
        let links = ["href=\"", "src=\""]
            .into_iter()
            .flat_map(|name| answer.text.split(name).skip(1));
        for link in links.filter_map(|rest| rest.split('"').next()) {
            let link = link.replace("&amp;", "&");
            if link.starts_with('#') || link.is_empty() {
                continue;
            }
            assert!(
                !link.starts_with('/') && !link.contains("://"),
                "{link} of {path} is not relative"
            );
            let target = resolve(&path, &link);
            // The order of a table leads to every other order of it.
            let (page, _) = target.split_once('?').unwrap_or((&target, ""));
            if known
                .iter()
                .filter(|known| known.split('?').next() == Some(page))
                .count()
                < 12
                && !known.contains(&target)
            {
                known.push(target.clone());
                waiting.push(target);
            }
        }
    }
    assert!(known.len() > 10, "{known:?}");
    assert!(known.iter().any(|path| path == "/ops/asynq/settings"), "{known:?}");
}

/// Resolves a relative link as a browser does.
fn resolve(page: &str, link: &str) -> String {
    let (page_path, _) = page.split_once('?').unwrap_or((page, ""));
    let (path, query) = match link.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (link, String::new()),
    };
    if path.is_empty() {
        return format!("{page_path}{query}");
    }
    let mut segments: Vec<&str> = page_path.split('/').collect();
    segments.pop();
    let parts: Vec<&str> = path.split('/').collect();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        match *part {
            "." if is_last => segments.push(""),
            ".." if is_last => {
                segments.pop();
                segments.push("");
            }
            "." => {}
            ".." => drop(segments.pop()),
            part => segments.push(part),
        }
    }
    format!("{}{query}", segments.join("/"))
}

#[tokio::test]
async fn files_are_kept_for_ever_by_their_version() {
    let site = Site::open().await;
    let page = site.get("/").await.text;
    let css = page
        .split("href=\"./")
        .find(|rest| rest.starts_with("assets/"))
        .unwrap();
    let css = format!("/{}", css.split('"').next().unwrap());
    let file = site.get(&css).await;
    assert_eq!(file.status, StatusCode::OK);
    assert_eq!(
        file.headers[header::CACHE_CONTROL],
        "public, max-age=31536000, immutable"
    );
    assert_eq!(file.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let tag = file.headers[header::ETAG].clone();
    let again = site
        .send(
            request(Method::GET, &css)
                .header(header::IF_NONE_MATCH, tag)
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    let old = site.get("/assets/0123/app.css").await;
    assert_eq!(
        (old.status, old.headers[header::CACHE_CONTROL].to_str().unwrap()),
        (StatusCode::OK, "no-cache")
    );
    assert_eq!(site.get("/assets/0123/users.toml").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn errors_are_pages() {
    let site = Site::with_users().await;
    let refused = site.get("/findings").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.text.contains("You are not signed in"), "{}", refused.text);
    let wrong = site.ask("viewer", Method::GET, "/?page=many", None).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text.starts_with("<!DOCTYPE html>"), "{}", wrong.text);
}

#[tokio::test]
async fn the_settings_of_the_cookie_count() {
    let site = Site::open().await;
    let cookie = "asynq_settings=theme%3Ddark%26density%3Dcompact%26refresh%3Doff";
    let dark = site
        .send(
            request(Method::GET, "/")
                .header(header::COOKIE, cookie)
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert!(
        dark.text
            .contains(r#"<html lang="en" data-theme="dark" data-density="compact">"#),
        "{}",
        dark.text
    );
    assert!(!dark.text.contains("data-refresh"), "{}", dark.text);
    let usual = site.get("/").await.text;
    assert!(
        usual.contains(r#"<html lang="en">"#) && usual.contains(r#"data-refresh="3""#),
        "{usual}"
    );
}

#[tokio::test]
async fn a_thousand_queues_make_a_small_page() {
    let site = Site::open().await;
    for number in 0..1000 {
        let task = task("a").with_queue(format!("shop-{number:04}:mail"));
        site.client.enqueue(task).await.unwrap();
    }
    for path in ["/", "/?sort=-pending", "/?group=prefix", "/?q=shop&page=20"] {
        let page = site.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text.len() < 200_000, "{path} has {} bytes", page.text.len());
        assert!(page.text.contains("Page ") && page.text.contains(" of 20"), "{path}");
    }
    assert!(site.get("/?page=20").await.text.contains("shop-0999:mail"));
    let found = site.get("/?q=0042").await.text;
    assert!(
        found.contains("shop-0042:mail") && !found.contains("shop-0043:mail"),
        "{found}"
    );
}

#[tokio::test]
async fn users_see_only_their_queues_and_the_acts_that_they_may_do() {
    let site = Site::with_users().await;
    for queue in ["mail", "pay"] {
        site.client.enqueue(task("a").with_queue(queue)).await.unwrap();
    }
    let mail = site.ask("mail", Method::GET, "/", None).await.text;
    assert!(mail.contains("queues/mail") && !mail.contains("queues/pay"), "{mail}");
    assert!(mail.contains("api/v1/queues/mail/pause"), "{mail}");
    assert!(
        !mail.contains(r#"href="./redis""#) && !mail.contains(r#"href="./tree""#),
        "{mail}"
    );
    let viewer = site.ask("viewer", Method::GET, "/", None).await.text;
    assert!(viewer.contains("queues/pay") && !viewer.contains("/pause"), "{viewer}");
    let found = site.ask("mail", Method::GET, "/find?q=pay", None).await.text;
    assert!(found.contains("No queue has a name like this"), "{found}");
}

#[tokio::test]
async fn a_read_only_server_offers_no_acts() {
    let site = Site::with(Web::read_only).await;
    site.client.enqueue(task("a")).await.unwrap();
    let page = site.get("/").await.text;
    assert!(page.contains("read-only") && !page.contains("/pause"), "{page}");
}

#[tokio::test]
async fn a_task_is_found_by_its_id() {
    let site = Site::open().await;
    site.client
        .enqueue(task("mail:send").with_queue("mail").with_task_id("order/4711"))
        .await
        .unwrap();
    let page = site.get("/find?q=order/4711").await.text;
    assert!(page.contains(r#"href="./queues/mail/tasks/order%2F4711""#), "{page}");
    let nothing = site.get("/find?q=order").await.text;
    assert!(nothing.contains("No task has this id"), "{nothing}");
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_a_page_for_a_browser() {
    let site = Site::open().await;
    for path in ["/queue/mail", "/servers/", "/contexts/none"] {
        let browser = request(Method::GET, path).header(header::ACCEPT, "text/html,*/*;q=0.8");
        let page = site.send(browser.body(Body::empty()).unwrap()).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND);
        assert!(page.text.contains("There is nothing here"), "{page:?}");
        assert_eq!(site.get(path).await.problem(StatusCode::NOT_FOUND), "not_found");
    }
    let browser = request(Method::GET, "/api/v1/none").header(header::ACCEPT, "text/html");
    let answer = site.send(browser.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.problem(StatusCode::NOT_FOUND), "not_found");
}

#[tokio::test]
async fn commands_are_for_the_context_and_names_are_quoted() {
    let site = Site::with(|web| web.named("eu $shop", None).unwrap()).await;
    for queue in ["a;b $(c)", "-x"] {
        site.client.enqueue(task("a").with_queue(queue)).await.unwrap();
    }
    for path in ["/", "/queues/a%3Bb%20%24%28c%29", "/queues/-x"] {
        let page = site.get(path).await.text;
        let commands: Vec<&str> = page
            .split("asynq --context=")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!commands.is_empty(), "{path}: {page}");
        for command in commands {
            assert!(command.starts_with("'eu $shop' "), "{command}");
            assert!(command.contains("'a;b $(c)'") || command.contains("-- -x"), "{command}");
        }
        assert!(!page.contains("\"asynq queue"), "{path}: {page}");
    }
}
