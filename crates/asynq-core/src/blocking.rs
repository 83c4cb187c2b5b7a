//! Threads for code that may block: application functions that are not async.
//!
//! The end of a tokio runtime waits for its blocking threads, for ever if one of them never ends. Code that may block
//! therefore runs on the blocking threads of a separate runtime, which is used for nothing else and never ends. The
//! process then ends with `main`, even if a handler still blocks.

use std::{sync::OnceLock, time::Instant};

use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    task::JoinHandle,
};

use crate::{
    error::{Error, Result},
    trace_context::TraceContext,
};

/// Name of the threads in debuggers and lists of threads.
pub(crate) const THREAD_NAME: &str = "asynq-blocking";

/// Largest number of threads. In effect there is no limit: `concurrency` limits the handlers that a server runs at
/// once.
const MAX_THREADS: usize = 1 << 20;

/// Runs code on a thread where it may block. On this thread, the caller's runtime, span and trace context are the current ones. A
/// panic of the code is a panic of the caller.
///
/// # Errors
/// The error that the code returns. [`Error::Canceled`] if the code will never run because its threads are gone.
///
/// # Panics
/// Outside of a tokio runtime, and if the system cannot create a first thread.
///
/// # Cancel safety
/// If the future is dropped, code that has begun continues, and its result is dropped. Code that has not begun never
/// runs.
pub(crate) async fn run<T: Send + 'static>(code: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let caller = Handle::current();
    let threads = match pool() {
        Some(pool) if !is_paused(&caller) => pool.clone(),
        // Paused time advances as soon as the runtime is idle, unless code blocks on threads of that runtime.
        _ => caller.clone(),
    };
    run_on(&threads, caller, code).await
}

async fn run_on<T: Send + 'static>(
    threads: &Handle,
    caller: Handle,
    code: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (span, trace) = (tracing::Span::current(), TraceContext::current());
    #[expect(clippy::disallowed_methods, reason = "this is the one place where it is right")]
    let call = threads.spawn_blocking(move || {
        let _current = caller.enter();
        span.in_scope(|| {
            let _traced = trace.attach();
            code()
        })
    });
    let mut call = Call(call);
    match (&mut call.0).await {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Canceled),
        },
    }
}

/// A call that never begins if its caller is gone, for example with the caller's runtime.
struct Call<T>(JoinHandle<T>);

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        // Without effect on code that has begun.
        self.0.abort();
    }
}

/// The threads of the process, made at the first use.
fn pool() -> Option<&'static Handle> {
    static POOL: OnceLock<Option<Runtime>> = OnceLock::new();
    let pool = POOL.get_or_init(|| match threads(MAX_THREADS) {
        Ok(pool) => Some(pool),
        Err(error) => {
            tracing::warn!(%error, "no threads of their own for blocking handlers: the end of the runtime waits for them");
            None
        }
    });
    pool.as_ref().map(Runtime::handle)
}

/// Returns a runtime of which only the blocking threads are used.
fn threads(most: usize) -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .thread_name(THREAD_NAME)
        .max_blocking_threads(most)
        .build()
}

/// Returns whether tokio's time is paused, as in tests. Tokio has no function for this, but paused time stands still
/// while the time of the system advances.
fn is_paused(runtime: &Handle) -> bool {
    /// At least some microseconds, because the system's time advances in steps of up to one microsecond.
    const LOOKS: u32 = 1 << 16;

    // No other kind of runtime can be paused.
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return false;
    }
    let (paused, moving) = (tokio::time::Instant::now(), Instant::now());
    let moved = (0..LOOKS).any(|_| {
        std::hint::spin_loop();
        Instant::now() > moving
    });
    moved && tokio::time::Instant::now() == paused
}

#[cfg(test)]
mod tests;
