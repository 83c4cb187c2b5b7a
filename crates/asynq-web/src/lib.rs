//! The web server for the queues of Asynq: pages, a JSON API, sign-in, metrics and health checks, as an axum [`Router`](axum::Router) to
//! mount in an application, or served by the program `asynq web`. It works on Redis of every kind and on the embedded broker, for
//! queues of Go and of Rust.
//!
//! ```
//! use asynq::memory::MemoryStore;
//! use asynq_web::Web;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let storage = MemoryStore::new();
//! let queues = Web::connect(storage).await?.without_authentication().router();
//! let app: axum::Router = axum::Router::new().nest("/asynq", queues);
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! Mount it like this only behind the sign-in of your application: whoever reaches it may do everything. Or let it recognize users
//! itself ([`Web::authenticate`]).
//!
//! | path | |
//! | --- | --- |
//! | `/` | the pages, for people |
//! | `/api/v1/…` | the API; `/api/v1/openapi.json` describes it |
//! | `/api/…` | the API of asynqmon, for its scripts |
//! | `/metrics` | metrics for Prometheus |
//! | `/healthz`, `/readyz` | the process answers; the storage answers |
//! | `/login` | the sign-in, if users have passwords |
//! | `/contexts/{name}/…` | the same for another storage: see [`Web::beside`] |

pub mod access;
pub mod records;
pub mod serve;

mod acts;
mod app;
mod background;
mod budget;
mod cluster;
mod context;
mod extract;
mod guard;
mod health;
mod http_client;
mod live;
mod metrics;
mod mon;
mod pages;
mod problem;
mod pulse;
mod queue_reads;
mod range_queries;
mod readings;
#[cfg(test)]
mod rights;
mod routes;
mod sign_in;
mod v1;
mod web;
#[cfg(feature = "webhook")]
mod webhook;

#[cfg(feature = "webhook")]
pub use self::webhook::{Webhook, WebhookError};
pub use self::{
    background::Background,
    context::{Context, Environment},
    problem::Problem,
    web::Web,
};
