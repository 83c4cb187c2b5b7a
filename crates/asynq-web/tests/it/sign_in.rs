//! Sign-in, sessions and their protection.

use std::time::Duration;

use asynq_web::access::{Role, TrustedProxy, Users, hash_password};
use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::json;

use crate::support::{Answer, Site, request};

/// A site with the user `ann`, whose password is `secret`.
async fn site() -> Site {
    let hash = hash_password("secret").unwrap();
    let users = Users::parse(&format!(
        "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'operator'\n"
    ))
    .unwrap();
    Site::with(|web| web.authenticate(users)).await
}

fn credentials(name: &str, password: &str) -> Request<Body> {
    request(Method::POST, "/api/v1/session")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"name": name, "password": password}).to_string()))
        .unwrap()
}

/// The cookie that an answer sets, as the browser sends it back.
fn cookie(answer: &Answer) -> String {
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

fn with_cookie(method: Method, path: &str, cookie: &str) -> axum::http::request::Builder {
    request(method, path).header(header::COOKIE, cookie)
}

#[tokio::test]
async fn a_session_begins_with_the_password_and_ends_with_the_sign_out() {
    let site = site().await;
    assert_eq!(
        site.get("/api/v1/session").await.problem(StatusCode::UNAUTHORIZED),
        "unauthorized"
    );
    let answer = site.send(credentials("ann", "secret")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    let (cookie, csrf) = (
        cookie(&answer),
        answer.json()["csrf_token"].as_str().unwrap().to_owned(),
    );

    let shown = site
        .send(
            with_cookie(Method::GET, "/api/v1/session", &cookie)
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert_eq!(
        shown.json(),
        json!({"user": "ann", "role": "operator", "role_everywhere": "operator", "csrf_token": csrf, "read_only": false})
    );
    // A change needs the token of the session.
    let end = |csrf: Option<&str>| {
        let request = with_cookie(Method::DELETE, "/api/v1/session", &cookie);
        csrf.into_iter()
            .fold(request, |request, csrf| request.header("x-csrf-token", csrf))
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(site.send(end(None)).await.problem(StatusCode::FORBIDDEN), "csrf");
    assert_eq!(
        site.send(end(Some("another"))).await.problem(StatusCode::FORBIDDEN),
        "csrf"
    );
    assert_eq!(site.send(end(Some(&csrf))).await.status, StatusCode::NO_CONTENT);
    let after = site
        .send(
            with_cookie(Method::GET, "/api/v1/session", &cookie)
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    after.problem(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn guesses_are_refused_and_then_slowed_down() {
    let site = site().await;
    for _ in 0..5 {
        assert_eq!(
            site.send(credentials("ann", "wrong"))
                .await
                .problem(StatusCode::UNAUTHORIZED),
            "unauthorized"
        );
    }
    let slowed = site.send(credentials("ann", "secret")).await;
    assert_eq!(slowed.problem(StatusCode::TOO_MANY_REQUESTS), "too_many_requests");
    let wait: u64 = slowed.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    // An unknown name gets the same answer as a wrong password.
    let (unknown, wrong) = (
        site.send(credentials("bob", "secret")).await,
        site.send(credentials("eve", "")).await,
    );
    assert_eq!((unknown.status, &unknown.text), (wrong.status, &wrong.text));
}

#[tokio::test]
async fn a_session_is_over_after_its_time() {
    let hash = hash_password("secret").unwrap();
    let users = Users::parse(&format!(
        "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'viewer'\n"
    ))
    .unwrap();
    let site = Site::with(|web| {
        web.authenticate(users)
            .session_ends_after(Duration::ZERO, Duration::from_secs(60))
    })
    .await;
    let cookie = cookie(&site.send(credentials("ann", "secret")).await);
    let request = with_cookie(Method::GET, "/api/v1/session", &cookie)
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        site.send(request).await.problem(StatusCode::UNAUTHORIZED),
        "unauthorized"
    );
}

#[tokio::test]
async fn a_change_that_another_site_causes_is_refused() {
    let site = Site::with(|web| web.origin("https://queues.example.com")).await;
    let delete = |name: &str, value: &str| {
        request(Method::DELETE, "/api/v1/session")
            .header(name, value)
            .body(Body::empty())
            .unwrap()
    };
    for (name, value, status) in [
        ("origin", "http://localhost:8080", StatusCode::NO_CONTENT),
        ("origin", "https://queues.example.com", StatusCode::NO_CONTENT),
        ("origin", "https://evil.example.com", StatusCode::FORBIDDEN),
        ("origin", "http://localhost:8081", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-origin", StatusCode::NO_CONTENT),
        ("sec-fetch-site", "none", StatusCode::NO_CONTENT),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "same-site", StatusCode::FORBIDDEN),
        ("accept", "*/*", StatusCode::NO_CONTENT),
    ] {
        let answer = site.send(delete(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn only_the_known_hosts_are_answered() {
    let site = Site::with(|web| web.hosts(["localhost", "127.0.0.1", "[::1]"])).await;
    for (host, status) in [
        ("localhost:8080", StatusCode::OK),
        ("LOCALHOST", StatusCode::OK),
        ("127.0.0.1:1", StatusCode::OK),
        ("[::1]:8080", StatusCode::OK),
        ("[::1]", StatusCode::OK),
        ("evil.example.com", StatusCode::MISDIRECTED_REQUEST),
        ("localhost.evil.example.com", StatusCode::MISDIRECTED_REQUEST),
        ("", StatusCode::MISDIRECTED_REQUEST),
    ] {
        let request = Request::get("/api/v1/session")
            .header(header::HOST, host)
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.send(request).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn the_form_signs_in_and_shows_no_input() {
    let site = site().await;
    let page = site.get("/login").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap()
            .contains("frame-ancestors 'none'")
    );
    let submit = |form: &str| {
        request(Method::POST, "/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap()
    };
    let wrong = site.send(submit("name=%3Cscript%3E&password=x")).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text.contains("The name or the password is wrong.") && !wrong.text.contains("<script>"));
    let right = site.send(submit("name=ann&password=secret")).await;
    assert_eq!(right.status, StatusCode::SEE_OTHER);
    assert_eq!(right.headers[header::LOCATION], "./");
    let request = with_cookie(Method::GET, "/api/v1/session", &cookie(&right))
        .body(Body::empty())
        .unwrap();
    assert_eq!(site.send(request).await.status, StatusCode::OK);
    // Without passwords there is no form.
    assert_eq!(Site::open().await.get("/login").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_second_sign_in_ends_the_first_session_of_the_browser() {
    let site = site().await;
    let first = cookie(&site.send(credentials("ann", "secret")).await);
    let mut again = credentials("ann", "secret");
    again.headers_mut().insert(header::COOKIE, first.parse().unwrap());
    let second = cookie(&site.send(again).await);
    assert_ne!(first, second);
    for (cookie, status) in [(first, StatusCode::UNAUTHORIZED), (second, StatusCode::OK)] {
        let request = with_cookie(Method::GET, "/api/v1/session", &cookie)
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.send(request).await.status, status);
    }
}

#[tokio::test]
async fn tokens_and_proxies_prove_who_sends_a_request() {
    let proxy = TrustedProxy::new("x-forwarded-user", ["127.0.0.1".parse().unwrap()], Role::Viewer).unwrap();
    let site = Site::with(|web| web.authenticate(crate::support::users()).authenticate(proxy)).await;
    let session = async |name: &str, value: &str| {
        let request = request(Method::GET, "/api/v1/session")
            .header(name, value)
            .body(Body::empty())
            .unwrap();
        site.send(request).await
    };
    assert_eq!(session("authorization", "Bearer admin").await.json()["role"], "admin");
    assert_eq!(
        session("authorization", "bearer mail").await.json()["role_everywhere"],
        json!(null)
    );
    assert_eq!(session("x-forwarded-user", "ann").await.json()["user"], "ann");
    for (name, value) in [
        ("authorization", "Bearer Admin"),
        ("authorization", "Bearer "),
        ("authorization", "Bearer é"),
        ("authorization", "Basic YWRtaW46YWRtaW4="),
        ("authorization", ""),
        ("cookie", "asynq_session=admin"),
        ("x-forwarded-user", ""),
    ] {
        let answer = session(name, value).await;
        answer.problem(StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer", "{name}: {value}");
    }
}

#[tokio::test]
async fn a_session_can_end_in_read_only_mode_too() {
    let site = Site::with(|web| web.read_only()).await;
    let end = request(Method::DELETE, "/api/v1/session").body(Body::empty()).unwrap();
    assert_eq!(site.send(end).await.status, StatusCode::NO_CONTENT);
    let pause = request(Method::POST, "/api/v1/queues/mail/pause")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        site.send(pause).await.problem(StatusCode::METHOD_NOT_ALLOWED),
        "read_only"
    );
    assert_eq!(site.get("/api/v1/session").await.json()["read_only"], true);
}

#[tokio::test]
async fn a_router_that_was_told_nothing_about_users_refuses_everyone() {
    let web = asynq_web::Web::connect(asynq::memory::MemoryStore::new())
        .await
        .unwrap();
    let router = web.router();
    for (path, status) in [
        ("/api/v1/queues", StatusCode::UNAUTHORIZED),
        ("/api/queues", StatusCode::UNAUTHORIZED),
        ("/metrics", StatusCode::UNAUTHORIZED),
        ("/", StatusCode::UNAUTHORIZED),
        ("/healthz", StatusCode::OK),
    ] {
        let answer = crate::support::send(&router, request(Method::GET, path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn guesses_count_for_the_client_behind_a_trusted_proxy() {
    let hash = hash_password("secret").unwrap();
    let users = Users::parse(&format!(
        "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'viewer'\n"
    ))
    .unwrap();
    let proxies = ["127.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let site = Site::with(|web| web.authenticate(users).trusted_proxies(proxies)).await;
    let attempt = async |password: &str, forwarded: &str| {
        let mut request = credentials("ann", password);
        request
            .headers_mut()
            .insert("x-forwarded-for", forwarded.parse().unwrap());
        site.send(request).await.status
    };
    for _ in 0..5 {
        assert_eq!(
            attempt("wrong", "9.9.9.9, 203.0.113.7, 10.0.0.2").await,
            StatusCode::UNAUTHORIZED
        );
    }
    // Whatever the client itself wrote before counts for nothing.
    assert_eq!(
        attempt("secret", "8.8.8.8, 203.0.113.7").await,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(attempt("secret", "203.0.113.8").await, StatusCode::OK);
}

#[tokio::test]
async fn over_https_a_page_that_came_without_it_is_another_site() {
    let site = Site::with(|web| web.https()).await;
    for (origin, status) in [
        ("https://localhost:8080", StatusCode::NO_CONTENT),
        ("http://localhost:8080", StatusCode::FORBIDDEN),
    ] {
        let end = request(Method::DELETE, "/api/v1/session").header("origin", origin);
        assert_eq!(
            site.send(end.body(Body::empty()).unwrap()).await.status,
            status,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn a_large_body_of_a_stranger_is_refused() {
    let site = site().await;
    let long = credentials("ann", &"x".repeat(10_000));
    assert_eq!(
        site.send(long).await.problem(StatusCode::PAYLOAD_TOO_LARGE),
        "too_large"
    );
}

#[tokio::test]
async fn health_needs_no_proof_and_tells_nothing() {
    let site = Site::with_users().await;
    assert_eq!(site.get("/healthz").await.text, "ok\n");
    assert_eq!(site.get("/readyz").await.text, "ok\n");
    assert_eq!(site.get("/nothing").await.problem(StatusCode::NOT_FOUND), "not_found");
    let post = request(Method::POST, "/healthz").body(Body::empty()).unwrap();
    assert_eq!(
        site.send(post).await.problem(StatusCode::METHOD_NOT_ALLOWED),
        "method_not_allowed"
    );
}

#[tokio::test]
async fn the_first_page_sends_strangers_to_the_sign_in_under_any_prefix() {
    let site = site().await;
    let nested = axum::Router::new().nest("/asynq", site.router.clone());
    let first = crate::support::send(&nested, request(Method::GET, "/asynq").body(Body::empty()).unwrap()).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER);
    assert_eq!(first.headers[header::LOCATION], "asynq/login");
    assert_eq!(site.get("/").await.headers[header::LOCATION], "./login");
    let form = request(Method::POST, "/asynq/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("name=ann&password=secret"))
        .unwrap();
    let back = crate::support::send(&nested, form).await;
    assert_eq!(back.headers[header::LOCATION], "../asynq");
    let inside = with_cookie(Method::GET, "/asynq", &cookie(&back))
        .body(Body::empty())
        .unwrap();
    assert!(
        crate::support::send(&nested, inside)
            .await
            .text
            .contains("href=\"asynq/settings\"")
    );
    let cookie = cookie(&site.send(credentials("ann", "secret")).await);
    let page = site
        .send(with_cookie(Method::GET, "/", &cookie).body(Body::empty()).unwrap())
        .await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.text.contains(">ann<") && page.text.contains("Sign out"),
        "{page:?}"
    );

    let proxy = TrustedProxy::new("x-user", ["127.0.0.1".parse().unwrap()], Role::Viewer).unwrap();
    let site = Site::with(|web| web.authenticate(proxy)).await;
    let page = request(Method::GET, "/")
        .header("x-user", "<b>&\"'")
        .body(Body::empty())
        .unwrap();
    assert!(site.send(page).await.text.contains("&lt;b&gt;&amp;&quot;'"));
    let stranger = site.get("/").await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert!(stranger.text.contains("You are not signed in"), "{stranger:?}");
}

#[tokio::test]
async fn the_sign_in_leads_back_to_the_page_that_was_asked_for_and_nowhere_else() {
    let site = site().await;
    let asked = site.get("/findings?x=1&y=a%2Fb").await;
    assert_eq!(
        asked.headers[header::LOCATION],
        "./login?next=findings%3Fx%3D1%26y%3Da%252Fb"
    );
    let form = site.get("/login?next=findings%3Fx%3D1").await.text;
    assert!(form.contains(r#"action="login?next=findings%3Fx%3D1""#), "{form}");
    for (next, leads_to) in [
        ("findings%3Fx%3D1", "./findings?x=1"),
        ("%2F%2Fevil.example", "./evil.example"),
        ("%5C%5Cevil.example", "./evil.example"),
        ("https%3A%2F%2Fevil.example", "./https://evil.example"),
        ("a%0d%0ab", "./ab"),
        ("%3Fsort%3D-size", "./?sort=-size"),
        ("", "./"),
    ] {
        let form = request(Method::POST, &format!("/login?next={next}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from("name=ann&password=secret"))
            .unwrap();
        let answer = site.send(form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{next}");
        assert_eq!(answer.headers[header::LOCATION], leads_to);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_page_does_not_keep_its_session_alive() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let hash = hash_password("secret").unwrap();
    let users = Users::parse(&format!(
        "[[user]]\nname = 'ann'\npassword = '{hash}'\nrole = 'viewer'\n"
    ))
    .unwrap();
    let site = Site::with(|web| web.authenticate(users).session_ends_after(minutes(60), minutes(600))).await;
    let cookie = cookie(&site.send(credentials("ann", "secret")).await);
    let ask = |live: bool| {
        let request = with_cookie(Method::GET, "/", &cookie).header("hx-request", "true");
        let request = if live {
            request.header("asynq-live", "1")
        } else {
            request
        };
        site.send(request.body(Body::empty()).unwrap())
    };
    // A use keeps it.
    for _ in 0..3 {
        tokio::time::advance(minutes(40)).await;
        assert_eq!(ask(false).await.status, StatusCode::OK);
    }
    tokio::time::advance(minutes(40)).await;
    assert_eq!(ask(true).await.status, StatusCode::OK);
    tokio::time::advance(minutes(30)).await;
    let over = ask(true).await;
    // Not the sign-in, which would stand in place of a part of the page.
    assert_eq!(over.status, StatusCode::UNAUTHORIZED);
    assert!(over.headers.get(header::LOCATION).is_none());
}
