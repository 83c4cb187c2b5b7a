//! A router on the embedded broker, and requests to it.

use std::net::SocketAddr;

use asynq::{Client, Inspector, memory::MemoryStore};
use asynq_web::{
    Web,
    access::{Role, Users, hash_token},
};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// A router with its storage.
pub(crate) struct Site {
    pub(crate) storage: MemoryStore,
    pub(crate) client: Client,
    pub(crate) inspector: Inspector,
    pub(crate) router: Router,
}

impl Site {
    /// A site where everyone may do everything.
    pub(crate) async fn open() -> Self {
        Self::with(|web| web).await
    }

    /// A site with these settings, open to all if they set no authentication.
    pub(crate) async fn with(settings: impl FnOnce(Web) -> Web) -> Self {
        let storage = MemoryStore::new();
        let web = settings(Web::connect(storage.clone()).await.unwrap());
        let web = match web.has_authentication() {
            true => web,
            false => web.without_authentication(),
        };
        Self {
            client: Client::new(storage.clone()).await.unwrap(),
            inspector: Inspector::connect(storage.clone()).await.unwrap(),
            router: web.router(),
            storage,
        }
    }

    /// A site whose users are `viewer`, `operator` and `admin`, each with its name as its token, and `mail`, who is an
    /// operator of the queues `mail*` only.
    pub(crate) async fn with_users() -> Self {
        Self::with(|web| web.authenticate(users())).await
    }

    /// Sends a request, and returns its answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    /// `GET`, without proof.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// A request of the user with this token, with a body in JSON.
    pub(crate) async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = request(method, path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }
}

/// The users of [`Site::with_users`].
pub(crate) fn users() -> Users {
    let roles = Role::ALL.map(|role| user(role.as_str(), role.as_str(), "*"));
    Users::parse(&(roles.concat() + &user("mail", "operator", "mail*"))).unwrap()
}

fn user(name: &str, role: &str, queues: &str) -> String {
    let token = hash_token(name);
    format!("[[user]]\nname = '{name}'\ntoken = '{token}'\nrole = '{role}'\nqueues = ['{queues}']\n")
}

/// A request to this path, as a connection on this machine brings it.
pub(crate) fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:8080")
        .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))))
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is an error of the API, and returns its code.
    #[track_caller]
    pub(crate) fn problem(&self, status: StatusCode) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status.as_u16());
        assert!(
            problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{problem}"
        );
        problem["code"].as_str().unwrap().to_owned()
    }
}
