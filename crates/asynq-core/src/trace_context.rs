//! The trace context of code: the span that is the current one, and its baggage. Without the feature `otel` it is
//! empty, and costs nothing.

#[cfg(not(feature = "otel"))]
pub use self::off::{Attached, TraceContext};
#[cfg(feature = "otel")]
pub use self::on::{Attached, TraceContext};

#[cfg(feature = "otel")]
mod on {
    use futures::future::Either;
    use opentelemetry::{Context, ContextGuard, context::FutureExt as _};

    /// A context of OpenTelemetry, or none.
    #[derive(Clone, Debug, Default)]
    pub struct TraceContext(Option<Context>);

    /// Keeps a context the current one of the thread until it is dropped.
    #[derive(Debug)]
    pub struct Attached(#[expect(dead_code, reason = "held, not looked at")] Option<ContextGuard>);

    impl TraceContext {
        /// Returns the current context of the thread.
        #[must_use]
        pub fn current() -> Self {
            Self(Some(Context::current()))
        }

        /// Returns the context, if there is one.
        #[must_use]
        pub fn get(&self) -> Option<&Context> {
            self.0.as_ref()
        }

        /// Returns whether there is none.
        #[must_use]
        pub fn is_none(&self) -> bool {
            self.0.is_none()
        }

        /// Makes it the current context of the thread; without effect if there is none.
        #[must_use]
        pub fn attach(&self) -> Attached {
            Attached(self.0.clone().map(Context::attach))
        }

        /// Makes it the current context of the future.
        pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
            match self.0.clone() {
                Some(context) => Either::Left(future.with_context(context)),
                None => Either::Right(future),
            }
        }
    }

    impl From<Context> for TraceContext {
        fn from(context: Context) -> Self {
            Self(Some(context))
        }
    }
}

#[cfg(not(feature = "otel"))]
mod off {
    /// A context of OpenTelemetry, or none. Without the feature `otel`: none.
    #[derive(Clone, Debug, Default)]
    pub struct TraceContext(());

    /// Keeps a context the current one of the thread until it is dropped.
    #[derive(Debug)]
    pub struct Attached(());

    impl TraceContext {
        /// Returns the current context of the thread.
        #[must_use]
        pub fn current() -> Self {
            Self(())
        }

        /// Returns whether there is none.
        #[must_use]
        pub fn is_none(&self) -> bool {
            true
        }

        /// Makes it the current context of the thread; without effect if there is none.
        #[must_use]
        pub fn attach(&self) -> Attached {
            Attached(())
        }

        /// Makes it the current context of the future.
        pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
            future
        }
    }
}
