//! Middleware of the `tower` family around handlers: timeouts, limits, tracing and others.
//!
//! [`layered`] puts a layer around a handler, and [`ServiceHandler`] makes a handler of any service.
//!
//! ```
//! use asynq::{Result, ServeMux, Task, tower::layered};
//! use tower::limit::ConcurrencyLimitLayer;
//!
//! # fn main() -> Result<()> {
//! let mut mux = ServeMux::new();
//! mux.handle_func("email:", |task: Task| {
//!     println!("{}", task.get_type());
//!     Ok(())
//! });
//! // At most two of these run at once, however many tasks the server runs.
//! let handler = layered(mux, &ConcurrencyLimitLayer::new(2));
//! # let _: &dyn asynq::Handler = &handler;
//! # Ok(())
//! # }
//! ```
//!
//! [`HandlerActorSpec::around`](crate::HandlerActorSpec::around) puts a layer around handler actors:
//!
//! ```
//! use asynq::{HandlerActorSpec, tower::layered};
//! use std::time::Duration;
//! use tower::timeout::TimeoutLayer;
//!
//! # fn limited(spec: HandlerActorSpec) -> HandlerActorSpec {
//! spec.around(|actors| layered(actors, &TimeoutLayer::new(Duration::from_secs(5))))
//! # }
//! ```

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use asynq_core::{BoxError, ConfigError, Error, Handler, Result, States, Task};
use tower_layer::Layer;
use tower_service::Service;

/// A service as a handler. Each run clones the service, waits until the clone is ready, and calls it. A run that is
/// dropped at its deadline drops its clone too, which releases what the clone had reserved.
///
/// [`Error::skip_retry`], [`Error::revoke`] and [`Error::snooze`] keep their meaning in any error of a layer that
/// wraps them (see [`Error::directive`]). Any other error fails the task.
pub struct ServiceHandler<S> {
    // Only cloned under the lock, so a service need not be `Sync`.
    service: Mutex<S>,
    inner: Option<Arc<dyn Handler>>,
}

impl<S> ServiceHandler<S> {
    /// Wraps a service.
    pub fn new(service: S) -> Self {
        Self {
            service: Mutex::new(service),
            inner: None,
        }
    }
}

impl<S> fmt::Debug for ServiceHandler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceHandler")
    }
}

#[async_trait]
impl<S> Handler for ServiceHandler<S>
where
    S: Service<Task, Response = (), Future: Send, Error: Into<BoxError> + Send> + Clone + Send + 'static,
{
    async fn process_task(&self, task: Task) -> Result<()> {
        // A panic in `clone` leaves the service as it was.
        let mut service = self.service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(Error::other)?;
        service.call(task).await.map_err(Error::other)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.check())
    }

    fn check_with(&self, states: &States) -> Result<(), ConfigError> {
        self.inner.as_ref().map_or(Ok(()), |inner| inner.check_with(states))
    }

    fn task_types(&self) -> Option<Vec<String>> {
        self.inner.as_ref()?.task_types()
    }
}

/// A handler as a service that is always ready; the innermost service of [`layered`].
#[derive(Clone)]
pub struct HandlerService(Arc<dyn Handler>);

impl HandlerService {
    /// Wraps a handler.
    pub fn new(handler: impl Handler) -> Self {
        Self(Arc::new(handler))
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerService")
    }
}

impl Service<Task> for HandlerService {
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.process_task(task).await })
    }
}

/// A handler inside a layer, such as a [`ServeMux`](crate::serve_mux::ServeMux). The server still
/// [checks](Handler::check) the handler itself.
pub fn layered<L: Layer<HandlerService>>(handler: impl Handler, layer: &L) -> ServiceHandler<L::Service> {
    let inner = HandlerService::new(handler);
    ServiceHandler {
        inner: Some(Arc::clone(&inner.0)),
        service: Mutex::new(layer.layer(inner)),
    }
}
