use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use futures::FutureExt as _;
use tracing::{Instrument as _, Subscriber, span::Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn thread_name() -> Result<String> {
    Ok(thread::current().name().unwrap_or_default().to_owned())
}

/// Code that tells when it begins, and ends when it is let go.
fn stuck() -> (impl FnOnce() -> Result<()> + Send + 'static, Receiver<()>, Sender<()>) {
    let ((begun, begins), (go, gone)) = (channel(), channel::<()>());
    let code = move || {
        begun.send(()).unwrap();
        // An error where the sender is dropped.
        let _ = gone.recv();
        Ok(())
    };
    (code, begins, go)
}

/// The runtime that a user has.
fn runtime(build: fn() -> Builder) -> Runtime {
    build().enable_all().build().unwrap()
}

#[test]
fn code_runs_on_threads_of_its_own_and_finds_the_callers_runtime() {
    for build in [Builder::new_current_thread, Builder::new_multi_thread] {
        let runtime = runtime(build);
        runtime.block_on(async {
            assert_eq!(run(thread_name).await.unwrap(), THREAD_NAME);
            // A task of the caller's runtime, with its clock.
            let task = run(|| {
                Ok(Handle::current().spawn(async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    thread_name()
                }))
            });
            let spawned_on = task.await.unwrap().await.unwrap().unwrap();
            assert_ne!(spawned_on, THREAD_NAME);
        });
        runtime.block_on(async {
            let waited = run(|| Ok(Handle::current().block_on(async { 7 }))).await;
            assert_eq!(waited.unwrap(), 7);
        });
    }
}

#[test]
fn the_end_of_the_runtime_does_not_wait_for_code_that_never_ends() {
    for build in [Builder::new_current_thread, Builder::new_multi_thread] {
        let (code, begins, go) = stuck();
        let (ended, end) = channel();
        thread::spawn(move || {
            let runtime = runtime(build);
            let call = runtime.spawn(run(code));
            runtime.block_on(async {
                tokio::task::yield_now().await;
                // Its thread needs nothing of this runtime.
                begins.recv_timeout(PATIENCE).unwrap();
            });
            drop(call);
            drop(runtime);
            ended.send(()).unwrap();
        });
        end.recv_timeout(PATIENCE).expect("the runtime has not ended");
        go.send(()).expect("the code still waits");
    }
}

#[tokio::test(start_paused = true)]
async fn paused_time_stands_still_while_code_blocks() {
    let (moved, moves) = channel();
    let call = run(move || Ok(moves.recv_timeout(Duration::from_millis(300)).is_ok()));
    tokio::pin!(call);
    let time_moved = tokio::select! {
        time_moved = &mut call => time_moved,
        () = tokio::time::sleep(Duration::from_secs(3600)) => {
            moved.send(()).unwrap();
            call.await
        }
    };
    assert!(!time_moved.unwrap(), "an hour went by");
}

#[tokio::test]
async fn only_paused_time_counts_as_paused() {
    let paused = || is_paused(&Handle::current());
    for _ in 0..100 {
        assert!(!paused());
    }
    tokio::time::pause();
    assert!(paused());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(paused());
    assert_ne!(run(thread_name).await.unwrap(), THREAD_NAME);
    tokio::time::resume();
    assert!(!paused());
    assert_eq!(run(thread_name).await.unwrap(), THREAD_NAME);
}

#[tokio::test]
async fn a_panic_of_the_code_is_a_panic_of_the_caller() {
    let call = run(|| -> Result<()> { std::panic::panic_any(42_u8) });
    let panic = AssertUnwindSafe(call).catch_unwind().await.unwrap_err();
    assert_eq!(panic.downcast_ref::<u8>(), Some(&42));
}

#[tokio::test]
async fn what_has_not_begun_is_dropped_with_its_caller_and_what_has_goes_on() {
    let pool = threads(1).unwrap();
    let threads = pool.handle().clone();
    let on_pool = |code: Box<dyn FnOnce() -> Result<()> + Send>| run_on(&threads, Handle::current(), code);
    let (code, begins, go) = stuck();
    let (returned, returns) = channel();
    let mut first = Box::pin(on_pool(Box::new(move || {
        let result = code();
        returned.send(()).unwrap();
        result
    })));
    assert!((&mut first).now_or_never().is_none());
    begins.recv_timeout(PATIENCE).unwrap();

    let (told, tells) = channel();
    let mut second = Box::pin(on_pool(Box::new(move || {
        told.send(()).unwrap();
        Ok(())
    })));
    assert!((&mut second).now_or_never().is_none());
    drop((first, second));
    go.send(()).unwrap();
    returns.recv_timeout(PATIENCE).expect("what had begun has ended");
    tells.recv_timeout(PATIENCE).expect_err("it was run for nobody");

    pool.shutdown_background();
    let late = on_pool(Box::new(|| Ok(()))).await;
    assert!(matches!(late, Err(Error::Canceled)), "{late:?}");
}

/// Notes on which threads spans are entered.
#[derive(Clone, Default)]
struct Entered(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Entered {
    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.0.lock().unwrap().push(thread_name().unwrap());
    }
}

#[tokio::test]
async fn code_runs_in_the_span_of_its_caller() {
    let entered = Entered::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(entered.clone()));
    let caller = tracing::error_span!("caller");
    run(|| Ok(())).instrument(caller).await.unwrap();
    let threads = entered.0.lock().unwrap();
    assert!(threads.iter().any(|name| name == THREAD_NAME), "{threads:?}");
}
