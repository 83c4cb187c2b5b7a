//! The page of a queue, and those of acts on many tasks.

use std::time::Duration;

use asynq::{Task, TaskOptions};
use asynq_web::Web;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Site};

const SCRIPT: &str = "<script>alert(1)</script>";
const HOUR: Duration = Duration::from_secs(3600);

/// Enqueues a task for later.
async fn enqueue(site: &Site, queue: &str, task_type: &str, id: &str, payload: &[u8]) {
    let options = TaskOptions::new().queue(queue).task_id(id).process_in(HOUR);
    let task = Task::new(task_type, payload).unwrap().with_options(options);
    site.client.enqueue(task).await.unwrap();
}

/// The page, which must be there.
async fn page(site: &Site, token: &str, path: &str) -> String {
    let answer: Answer = match token {
        "" => site.get(path).await,
        token => site.ask(token, Method::GET, path, None).await,
    };
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    answer.text
}

/// The values of an attribute, as a browser reads them.
fn values(page: &str, attribute: &str) -> Vec<String> {
    let start = format!(" {attribute}=\"");
    let values = page
        .split(start.as_str())
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    values
        .map(|value| {
            let value = value.replace("&quot;", "\"").replace("&lt;", "<");
            value.replace("&gt;", ">").replace("&amp;", "&")
        })
        .collect()
}

/// The ids of the tasks of a list, in its order.
fn ids(page: &str) -> Vec<String> {
    let rows = values(page, "id").into_iter();
    rows.filter_map(|id| id.strip_prefix("task-").map(str::to_owned))
        .collect()
}

/// The link whose element has these words. It is to the page itself, with other parameters.
fn link(page: &str, words: &str) -> String {
    let before = page.split(words).next().filter(|before| before.len() < page.len());
    let before = before.unwrap_or_else(|| panic!("no {words}"));
    let element = &before[before.rfind("<a ").unwrap()..];
    values(element, "href").remove(0)
}

#[tokio::test]
async fn texts_of_users_stay_texts() {
    let site = Site::open().await;
    let options = TaskOptions::new().group(SCRIPT).queue(SCRIPT);
    let grouped = Task::new(SCRIPT, SCRIPT.as_bytes()).unwrap().with_options(options);
    site.client.enqueue(grouped).await.unwrap();
    enqueue(&site, SCRIPT, SCRIPT, SCRIPT, SCRIPT.as_bytes()).await;
    let path = "/queues/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for query in [
        "",
        "?state=scheduled",
        "?state=aggregating",
        "?state=aggregating&group=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "?q=type%3D%3Cscript%3E",
        "?q=%3Cscript%3Ealert(1)%3C/script%3E",
        "?c=type&c=payload&c=group&c=error",
    ] {
        let page = page(&site, "", &format!("{path}{query}")).await;
        assert!(page.contains("&lt;script&gt;"), "{query}");
        assert!(!page.contains(SCRIPT), "{query}: {page}");
        for forbidden in [" style=", " onclick=", "javascript:", "hx-on"] {
            assert!(!page.contains(forbidden), "{query} has {forbidden}");
        }
    }
    let suggested = page(&site, "", &format!("{path}/suggestions?before=group%3D")).await;
    assert!(
        suggested.contains("&lt;script&gt;") && !suggested.contains(SCRIPT),
        "{suggested}"
    );
}

#[tokio::test]
async fn every_act_of_a_page_is_a_route_of_the_api() {
    let site = Site::open().await;
    for id in ["1", "2"] {
        enqueue(&site, "a/b", "t", id, b"{}").await;
    }
    let started = json!({"act": "run", "rate": 1, "tasks": [{"queue": "a/b", "id": "1"}, {"queue": "a/b", "id": "2"}]});
    let started = site.ask("", Method::POST, "/api/v1/acts", Some(started)).await.json();
    let paths = site.get("/api/v1/openapi.json").await.json();
    let known = |method: &str, path: &str| {
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |known: &str| {
            let known: Vec<&str> = known
                .trim_start_matches("/api/v1")
                .trim_start_matches('/')
                .split('/')
                .collect();
            known.len() == segments.len()
                && known
                    .iter()
                    .zip(&segments)
                    .all(|(known, segment)| known.starts_with('{') || known == segment)
        };
        let paths = paths["paths"].as_object().unwrap();
        paths
            .iter()
            .any(|(path, methods)| fits(path) && methods[method].is_object())
    };
    let mut seen = Vec::new();
    for path in [
        "/queues/a%2Fb".to_owned(),
        format!("/acts/{}", started["id"].as_str().unwrap()),
    ] {
        let page = page(&site, "", &path).await;
        for method in ["post", "put", "delete"] {
            for target in values(&page, &format!("hx-{method}")) {
                let (_, api) = target
                    .split_once("api/v1/")
                    .unwrap_or_else(|| panic!("{target} is no act"));
                let (api, _) = api.split_once('?').unwrap_or((api, ""));
                assert!(known(method, api), "{method} {api} of {path}");
                seen.push(format!("{method} {api}"));
            }
        }
    }
    for act in [
        "post queues/a%2Fb/pause",
        "post queues/a%2Fb/tasks",
        "post acts",
        "delete queues/a%2Fb",
        "delete queues/a%2Fb/counters",
    ] {
        assert!(seen.iter().any(|seen| seen == act), "{act} of {seen:?}");
    }
    assert!(seen.iter().any(|seen| seen.ends_with("/stop")), "{seen:?}");
}

#[tokio::test]
async fn pages_of_a_state_neither_skip_nor_repeat_tasks() {
    let site = Site::open().await;
    let mut expected: Vec<String> = (0..150).map(|number| format!("{number:03}")).collect();
    for id in &expected {
        enqueue(&site, "q", "t", id, b"").await;
    }
    for start in [
        "?state=scheduled&size=60",
        "?size=60",
        "?q=type%3Dt&size=60",
        "?state=scheduled&q=size%3C1&size=60&c=type",
    ] {
        let (mut query, mut found) = (start.to_owned(), Vec::new());
        let mut turns = 0;
        let pages = loop {
            turns += 1;
            assert!(turns < 9, "{start}");
            let page = page(&site, "", &format!("/queues/q{query}")).await;
            let part = ids(&page);
            assert!(part.len() <= 60, "{start}: {}", part.len());
            found.extend(part);
            match page.contains("Next page") {
                true => query = link(&page, "Next page"),
                false => break page,
            }
        };
        // The other parameters are kept on the way.
        let first = link(&pages, "First page");
        assert!(!first.contains("cursor") && first.contains("size=60"), "{first}");
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{start}");
    }
}

#[tokio::test]
async fn a_large_queue_makes_a_small_page() {
    let site = Site::open().await;
    let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(300));
    for from in (0..200_000).step_by(1000) {
        let tasks = (from..from + 1000).map(|number| {
            let options = TaskOptions::new().queue("large").task_id(format!("order-{number:032}"));
            Task::new("a:type:of:usual:length", payload.as_bytes())
                .unwrap()
                .with_options(options)
        });
        for enqueued in site.client.enqueue_many(tasks).await {
            enqueued.unwrap();
        }
    }
    for query in [
        "",
        "?state=pending",
        "?state=pending&size=75",
        "?q=type~nothing",
        "?q=type~usual&size=75",
    ] {
        let page = page(&site, "", &format!("/queues/large{query}")).await;
        assert!(page.len() < 200_000, "{query} has {} bytes", page.len());
        assert!(page.contains("200,000"), "{query}");
    }
    // A search says how far it looked, and goes on from there.
    let first = page(&site, "", "/queues/large?q=type~nothing").await;
    assert!(first.contains("Looked at 10,000 of about 200,000"), "{first}");
    let next = link(&first, "Go on searching");
    let second = page(&site, "", &format!("/queues/large{next}")).await;
    assert!(second.contains("Looked at 20,000 of about 200,000"), "{second}");
}

#[tokio::test]
async fn long_texts_and_all_columns_make_a_small_page() {
    let site = Site::open().await;
    let (long, text) = ("type:".repeat(200), "<p> & ".repeat(20_000));
    for number in 0..120 {
        let id = uuid(number);
        enqueue(&site, "q", &long, &id, text.as_bytes()).await;
    }
    let names = [
        "state",
        "type",
        "group",
        "payload",
        "result",
        "retries",
        "progress",
        "error",
        "server",
        "since",
        "due",
        "failed",
        "completed",
        "expires",
        "deadline",
        "timeout",
    ];
    let columns: String = names.iter().map(|name| format!("&c={name}")).collect();
    for query in ["?state=scheduled&size=75", "?size=75"] {
        let page = page(&site, "", &format!("/queues/q{query}{columns}")).await;
        assert_eq!(ids(&page).len(), 75);
        assert!(page.len() < 200_000, "{query} has {} bytes", page.len());
    }
}

/// An id as clients make it.
fn uuid(number: u32) -> String {
    format!("5e1a9f0c-8a36-4c51-9a1a-{number:012}")
}

#[tokio::test]
async fn a_wrong_query_is_shown_with_its_place() {
    let site = Site::open().await;
    enqueue(&site, "q", "t", "1", b"").await;
    enqueue(&site, "other", "t", "2", b"").await;
    let wrong = page(&site, "", "/queues/q?q=type%3Dt+state%3Dsleeping").await;
    assert!(wrong.contains("type=t state=<mark>sleeping</mark>"), "{wrong}");
    assert!(
        wrong.contains("Expected a state") && wrong.contains(r#"aria-invalid="true""#),
        "{wrong}"
    );
    assert!(wrong.contains(r#"value="type=t state=sleeping""#), "{wrong}");
    let unknown = page(&site, "", "/queues/q?q=colour%3Dred").await;
    assert!(
        unknown.contains("<mark>colour") && unknown.contains("Expected a field"),
        "{unknown}"
    );
    // A query does not reach beyond the queue, also not with parentheses.
    let escape = page(&site, "", "/queues/q?q=type%3Dt)+or+(queue%3Dother").await;
    assert!(escape.contains("query-fault") && ids(&escape).is_empty(), "{escape}");
    let either = page(&site, "", "/queues/q?q=id%3D1+or+id%3D2").await;
    assert_eq!(ids(&either), ["1"]);
    let long = page(&site, "", &format!("/queues/q?q=id%3D{}", "x".repeat(5000))).await;
    assert!(long.contains("at most 4096 bytes"), "{long}");
    for path in [
        "/queues/q?state=asleep",
        "/queues/q?size=many",
        "/queues/q?cursor=x",
        "/queues/q?state=scheduled&cursor=x",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.text.starts_with("<!DOCTYPE html>"), "{path}");
    }
}

#[tokio::test]
async fn a_budget_that_is_used_up_is_told_beside_the_bar() {
    let site = Site::with(|web| web.search_budget(300)).await;
    for number in 0..500 {
        enqueue(&site, "q", "t", &number.to_string(), b"").await;
    }
    let first = page(&site, "", "/queues/q?q=type%3Dnothing").await;
    let next = link(&first, "Go on searching");
    let refused = page(&site, "", &format!("/queues/q{next}")).await;
    assert!(refused.contains("Try again in"), "{refused}");
    // The place is kept.
    let cursor = |link: &str| {
        let start = link.find("cursor=").unwrap();
        link[start..].split('&').next().unwrap().to_owned()
    };
    assert_eq!(cursor(&link(&refused, "Go on from here")), cursor(&next));
}

#[tokio::test]
async fn acts_are_offered_to_those_who_may_do_them() {
    let site = Site::with_users().await;
    for queue in ["mail", "pay"] {
        enqueue(&site, queue, "t", "1", b"").await;
    }
    let viewer = page(&site, "viewer", "/queues/mail").await;
    for act in [
        "hx-post",
        "hx-put",
        "hx-delete",
        "data-select",
        "data-bulk",
        "enqueue-title",
    ] {
        assert!(!viewer.contains(act), "a viewer sees {act}");
    }
    let operator = page(&site, "operator", "/queues/mail").await;
    for act in ["queues/mail/pause", "api/v1/acts", "data-select", "enqueue-title"] {
        assert!(operator.contains(act), "an operator does not see {act}");
    }
    assert!(!operator.contains("hx-delete"), "{operator}");
    let admin = page(&site, "admin", "/queues/mail").await;
    assert!(
        admin.contains("queues/mail?force=true") && admin.contains(r#"data-typed="mail""#),
        "{admin}"
    );
    let other = site.ask("mail", Method::GET, "/queues/pay", None).await;
    assert_eq!(other.status, StatusCode::FORBIDDEN);
    assert!(other.text.contains("You may not see this"), "{}", other.text);
    let suggestions = site
        .ask("mail", Method::GET, "/queues/pay/suggestions?before=type%3D", None)
        .await;
    assert_eq!(suggestions.status, StatusCode::FORBIDDEN);
    let acts = site.ask("viewer", Method::GET, "/acts", None).await;
    assert_eq!(acts.status, StatusCode::FORBIDDEN);
    let gone = site.ask("viewer", Method::GET, "/queues/nothing", None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_read_only_server_shows_queues_without_acts() {
    let site = Site::with(Web::read_only).await;
    enqueue(&site, "mail", "t", "1", b"").await;
    let page = page(&site, "", "/queues/mail").await;
    assert_eq!(ids(&page), ["1"]);
    for act in ["hx-post", "hx-put", "hx-delete", "data-select", "data-bulk"] {
        assert!(!page.contains(act), "{act}");
    }
}

#[tokio::test]
async fn columns_and_states_are_those_that_are_asked_for() {
    let site = Site::open().await;
    enqueue(&site, "q", "mail:send", "1", br#"{"to":"ann"}"#).await;
    enqueue(&site, "q", "mail:send", "2", b"").await;
    site.inspector.archive_task("q", "2").await.unwrap();
    let heads = |page: &str| {
        let table = page.split("<table class=\"tasks\"").nth(1).unwrap();
        let head = table.split("</thead>").next().unwrap();
        let heads = head.split("<th scope=\"col\"").skip(1);
        let heads = heads.filter_map(|head| head.split_once('>')?.1.split('<').next());
        heads
            .filter(|head| !head.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let scheduled = page(&site, "", "/queues/q?state=scheduled").await;
    assert_eq!(heads(&scheduled), ["Id", "Type", "Payload", "Retries", "Due"]);
    assert_eq!(ids(&scheduled), ["1"]);
    assert!(scheduled.contains("{&quot;to&quot;:&quot;ann&quot;}"), "{scheduled}");
    let archived = page(&site, "", "/queues/q?state=archived&c=timeout&c=type&c=nothing").await;
    assert_eq!(heads(&archived), ["Id", "Type", "Timeout"]);
    assert_eq!(ids(&archived), ["2"]);
    assert_eq!(ids(&page(&site, "", "/queues/q").await), ["1", "2"]);
}

#[tokio::test]
async fn parts_that_look_for_news_get_only_themselves() {
    let site = Site::open().await;
    enqueue(&site, "q", "t", "1", b"").await;
    let part = async |target: &'static str| {
        let request = crate::support::request(Method::GET, "/queues/q").header("hx-target", target);
        let answer = site.send(request.body(axum::body::Body::empty()).unwrap()).await;
        (
            answer.text.contains(r#"id="queue-top""#),
            answer.text.contains(r#"id="queue-tasks""#),
        )
    };
    assert_eq!(part("queue-top").await, (true, false));
    assert_eq!(part("queue-tasks").await, (false, true));
    assert_eq!(part("main").await, (true, true));
}

#[tokio::test]
async fn an_act_tells_its_progress_until_its_end() {
    let site = Site::with_users().await;
    for id in ["1", "2", "3"] {
        enqueue(&site, "q", "t", id, b"").await;
    }
    let list = |ids: &[&str]| -> Value { ids.iter().map(|id| json!({"queue": "q", "id": id})).collect() };
    let slow = json!({"act": "run", "tasks": list(&["1", "2", "3", SCRIPT]), "rate": 1, "reason": SCRIPT});
    let slow = site
        .ask("operator", Method::POST, "/api/v1/acts", Some(slow))
        .await
        .json();
    let path = format!("/acts/{}", slow["id"].as_str().unwrap());
    let running = page(&site, "operator", &format!("{path}?of=4")).await;
    assert!(running.contains("every 1s") && running.contains("/stop"), "{running}");
    assert!(running.contains(" of 4 tasks made pending"), "{running}");
    assert!(!running.contains(SCRIPT), "{running}");
    let stopped = site
        .ask("operator", Method::POST, &format!("/api/v1{path}/stop"), None)
        .await;
    assert_eq!(stopped.status, StatusCode::ACCEPTED);
    let missing = json!({"act": "delete", "tasks": list(&[SCRIPT])});
    let missing = site
        .ask("operator", Method::POST, "/api/v1/acts", Some(missing))
        .await
        .json();
    let missing = format!("/acts/{}", missing["id"].as_str().unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    for path in [path, missing.clone()] {
        loop {
            let ended = page(&site, "operator", &path).await;
            // A page of what has ended asks no more.
            if !ended.contains("every 1s") {
                assert!(!ended.contains("/stop"), "{ended}");
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{ended}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let refused = page(&site, "operator", &missing).await;
    assert!(
        refused.contains("&lt;script&gt;") && !refused.contains(SCRIPT),
        "{refused}"
    );
    let listed = page(&site, "operator", "/acts").await;
    assert!(
        listed.contains("stopped") && listed.contains("1 selected task"),
        "{listed}"
    );
    assert!(!listed.contains("every 2s"), "{listed}");
    // An act of another user is not there.
    let other = site.ask("mail", Method::GET, &missing, None).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    assert!(page(&site, "mail", "/acts").await.contains("No acts"));
}

#[tokio::test]
async fn suggestions_know_the_groups_of_the_queue() {
    let site = Site::open().await;
    let options = TaskOptions::new().group("europe west").queue("q");
    site.client
        .enqueue(Task::new("t", b"").unwrap().with_options(options))
        .await
        .unwrap();
    let suggested = async |before: &str| {
        let before = form_urlencoded(before);
        values(
            &page(&site, "", &format!("/queues/q/suggestions?before={before}")).await,
            "data-text",
        )
    };
    assert_eq!(suggested("state=retry and group=eu").await, ["\"europe west\" "]);
    // A type that is here now needs no statistics.
    assert_eq!(suggested("not type=").await, ["t "]);
    assert_eq!(suggested("orph").await, ["orphaned="]);
    assert_eq!(suggested("state=comp").await, ["completed "]);
    let long = site
        .get(&format!("/queues/q/suggestions?before={}", "x".repeat(13_000)))
        .await;
    assert_eq!(long.status, StatusCode::BAD_REQUEST);
}

/// A text as a parameter of a URL.
fn form_urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
