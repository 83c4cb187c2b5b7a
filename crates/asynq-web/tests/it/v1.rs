//! The API under `/api/v1`.

mod acts;
mod bounds;
mod events;
mod queues;
mod redis;
mod schedulers;
mod search;
mod statistics;
mod tasks;
mod upkeep;

use std::{future::Future, time::Duration};

use asynq::{Client, Inspector, Task, TaskOptions, inspect::Cursor};
use asynq_web::Web;
use axum::{
    Router,
    body::Body,
    http::{Method, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Answer, Site, request, send};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The API of a storage, and the storage.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) inspector: Inspector,
    pub(crate) router: Router,
}

impl From<Site> for Api {
    fn from(site: Site) -> Self {
        Self {
            client: site.client,
            inspector: site.inspector,
            router: site.router,
        }
    }
}

impl Api {
    /// An API on the embedded broker, where everyone may do everything.
    pub(crate) async fn open() -> Self {
        Site::open().await.into()
    }

    pub(crate) async fn with(settings: impl FnOnce(Web) -> Web) -> Self {
        Site::with(settings).await.into()
    }

    /// With the users of [`Site::with_users`].
    pub(crate) async fn with_users() -> Self {
        Site::with_users().await.into()
    }

    /// Sends a request of the user with this token, to a path below `/api/v1`.
    pub(crate) async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = request(method, &format!("/api/v1{path}"));
        let request = match token {
            "" => request,
            token => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        send(&self.router, request.unwrap()).await
    }

    /// `GET`, without reading the body.
    pub(crate) async fn ask_raw(&self, token: &str, path: &str) -> Response {
        let request =
            request(Method::GET, &format!("/api/v1{path}")).header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask("", Method::GET, path, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        answer.json()
    }

    /// `POST`, which must succeed.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> impl Future<Output = Value> {
        self.change(Method::POST, path.to_owned(), Some(body))
    }

    /// A change, which must succeed; `null` if the answer has no body.
    pub(crate) async fn change(&self, method: Method, path: String, body: Option<Value>) -> Value {
        let answer = self.ask("", method, &path, body).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        match answer.status {
            StatusCode::NO_CONTENT => Value::Null,
            _ => answer.json(),
        }
    }

    /// Enqueues a task with a payload.
    pub(crate) async fn enqueue(&self, queue: &str, id: &str, payload: &[u8], options: TaskOptions) {
        let task = Task::new("t", payload).unwrap();
        let options = options.queue(queue).task_id(id);
        self.client.enqueue_with(task, options).await.unwrap();
    }

    pub(crate) async fn state(&self, queue: &str, id: &str) -> Option<&'static str> {
        Some(self.inspector.get_task_info(queue, id).await.ok()?.state.as_str())
    }

    /// The acts in the audit trail with their reasons, the oldest one first.
    pub(crate) async fn acts(&self) -> Vec<(String, String)> {
        let trail = self.inspector.audit_trail(Cursor::default(), 1000).await.unwrap();
        let acts = trail.items.into_iter().rev();
        acts.map(|entry| (entry.act, entry.actor.map(|actor| actor.reason).unwrap_or_default()))
            .collect()
    }
}

pub(crate) fn later() -> TaskOptions {
    TaskOptions::new().process_in(HOUR)
}

/// A name as it stands in a path.
pub(crate) fn encoded(name: &str) -> String {
    let byte = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.as_bytes().iter().map(byte).collect()
}

/// Waits until a look says so.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        match look().await {
            Ok(value) => return value,
            Err(last) => assert!(tokio::time::Instant::now() < deadline, "{last}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for the end of an act, and returns its record.
pub(crate) async fn ended(api: &Api, token: &str, act: &Value) -> Value {
    let path = format!("/acts/{}", act["id"].as_str().unwrap());
    until(async || {
        let record = api.ask(token, Method::GET, &path, None).await.json();
        match record["ended"].is_string() {
            true => Ok(record),
            false => Err(record.to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn the_description_needs_no_proof() {
    let api = Api::with_users().await;
    let answer = api.ask("", Method::GET, "/openapi.json", None).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["info"]["title"], json!("Asynq"));
}
