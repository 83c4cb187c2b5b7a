//! Threads for code that may block: the functions of users that are not async.
//!
//! The end of a tokio runtime waits for its own blocking threads, for ever where one never ends. So this code runs
//! on the blocking threads of a runtime that is used for nothing else and never ends: the process ends with `main`,
//! whatever its handlers do.

use std::{sync::OnceLock, time::Instant};

use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    task::JoinHandle,
};

use crate::error::{Error, Result};

/// Name of the threads in debuggers and lists of threads.
pub(crate) const THREAD_NAME: &str = "asynq-blocking";

/// The most threads. No limit to speak of: servers run as many handlers at once as their `concurrency` says.
const MAX_THREADS: usize = 1 << 20;

/// Runs code on a thread where it may block. There it finds the runtime and the span of the caller as the current
/// ones. Its panic is a panic of the caller.
///
/// # Errors
/// What the code returns; [`Error::Canceled`] where it will never be run, because its threads are gone.
///
/// # Panics
/// Outside of a tokio runtime, and where the system gives no first thread.
///
/// # Cancel safety
/// Dropped, code that has begun goes on, and what it returns is dropped; code that has not begun is dropped.
pub(crate) async fn run<T: Send + 'static>(code: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let caller = Handle::current();
    let threads = match pool() {
        Some(pool) if !is_paused(&caller) => pool.clone(),
        // Paused time moves on as soon as the runtime has nothing to do, unless code blocks on threads of its own.
        _ => caller.clone(),
    };
    run_on(&threads, caller, code).await
}

async fn run_on<T: Send + 'static>(
    threads: &Handle,
    caller: Handle,
    code: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let span = tracing::Span::current();
    #[expect(clippy::disallowed_methods, reason = "this is the one place where it is right")]
    let call = threads.spawn_blocking(move || {
        let _current = caller.enter();
        span.in_scope(code)
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

/// A call, which is not begun any more once its caller is gone, with its runtime perhaps.
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

/// Returns a runtime of which nothing is used but its blocking threads.
fn threads(most: usize) -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .thread_name(THREAD_NAME)
        .max_blocking_threads(most)
        .build()
}

/// Returns whether tokio's time is paused, as tests have it. Tokio does not tell, but paused time stands still while
/// that of the system moves.
fn is_paused(runtime: &Handle) -> bool {
    /// Some microseconds at the least, and the system's time moves in steps of one or less.
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
