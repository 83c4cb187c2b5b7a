use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::extract::{FromTask, Headers, State};

fn task(task_type: &str) -> Task {
    Task::new(task_type, b"7").unwrap()
}

type Log = Arc<Mutex<Vec<String>>>;

fn says(log: &Log, word: &'static str) -> impl Fn(Task) -> std::future::Ready<Result<()>> + Send + Sync + 'static {
    let log = Arc::clone(log);
    move |_| {
        log.lock().unwrap().push(word.to_owned());
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn the_longest_prefix_wins_and_what_has_none_is_not_found() {
    let log = Log::default();
    let mut mux = ServeMux::new();
    mux.handle_async_func("email:", says(&log, "email"));
    mux.handle_async_func("email:welcome", says(&log, "welcome"));
    for task_type in ["email:reminder", "email:welcome", "email:welcome:again"] {
        mux.process_task(task(task_type)).await.unwrap();
    }
    assert_eq!(*log.lock().unwrap(), ["email", "welcome", "welcome"]);
    let error = mux.process_task(task("emai")).await.unwrap_err();
    assert_eq!(error.to_string(), "handler not found for task \"emai\"");
}

#[tokio::test]
async fn what_no_pattern_matches_may_have_a_handler() {
    let log = Log::default();
    let mut mux = ServeMux::new();
    assert!(mux.is_empty());
    mux.handle_async_func("email:", says(&log, "email"))
        .otherwise(says(&log, "other"));
    assert!(!mux.is_empty());
    for task_type in ["email:send", "video"] {
        mux.process_task(task(task_type)).await.unwrap();
    }
    assert_eq!(*log.lock().unwrap(), ["email", "other"]);
}

#[tokio::test]
async fn middleware_goes_around_everything_the_first_outermost() {
    let log = Log::default();
    let around = |word: &'static str| {
        let log = Arc::clone(&log);
        move |task: Task, next: Next| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push(format!("{word} in"));
                let result = next.run(task).await;
                log.lock().unwrap().push(format!("{word} out {}", result.is_ok()));
                result
            }
        }
    };
    let mut inner = ServeMux::new();
    inner
        .handle_async_func("email:send", says(&log, "send"))
        .wrap(around("inner"));
    let mut mux = ServeMux::new();
    mux.wrap(around("a")).handle("email:", inner).wrap(around("b"));
    mux.process_task(task("email:send")).await.unwrap();
    let expected = [
        "a in",
        "b in",
        "inner in",
        "send",
        "inner out true",
        "b out true",
        "a out true",
    ];
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), expected);
    assert!(mux.process_task(task("video")).await.is_err());
    assert_eq!(*log.lock().unwrap(), ["a in", "b in", "b out false", "a out false"]);
}

#[tokio::test]
async fn faults_of_the_registration_are_kept_those_of_inner_muxes_too() {
    let nothing = |_: Task| async { Ok(()) };
    let mut inner = ServeMux::new();
    inner.handle_async_func("a", nothing).handle_async_func("a", nothing);
    let mut mux = ServeMux::new();
    mux.handle_func("", |_| Ok(())).handle("x", inner);
    let faults = mux.check().unwrap_err().faults;
    let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "pattern \"\" is refused: asynq: invalid pattern",
            "pattern \"a\" is refused: asynq: multiple registrations for a",
        ]
    );
}

#[tokio::test]
async fn functions_that_block_run_elsewhere_and_their_panics_come_back() {
    let here = std::thread::current().id();
    let mut mux = ServeMux::new();
    mux.handle_func("t", move |task| {
        assert_ne!(std::thread::current().id(), here);
        assert_ne!(task.get_type(), "t:panics");
        Err(Error::skip_retry("no"))
    });
    assert!(matches!(mux.process_task(task("t")).await, Err(Error::SkipRetry(_))));
    let panics = std::panic::AssertUnwindSafe(mux.process_task(task("t:panics")));
    assert!(futures::FutureExt::catch_unwind(panics).await.is_err());
}

/// A payload that names its type, as the derive makes one.
#[derive(Debug)]
struct Number(u32);

impl FromTask for Number {
    const TASK_TYPE: Option<&'static str> = Some("number");

    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        std::str::from_utf8(task.get_payload())
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Self)
            .ok_or(Rejection::Payload(Error::other("not a number")))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an error of the user's own")]
struct Own;

#[tokio::test]
async fn routes_are_called_with_what_they_ask_for() {
    async fn add(sum: State<AtomicUsize>, number: Number, _: Headers) -> Result<(), Own> {
        if number.0 == 0 {
            return Err(Own);
        }
        sum.fetch_add(number.0 as usize, Ordering::Relaxed);
        Ok(())
    }
    let mut mux = ServeMux::new().with_state(AtomicUsize::new(0));
    mux.route(add)
        .route_on("plain", || async {})
        .route_on("later", |_: Task| async {
            Err::<(), _>(Error::snooze(std::time::Duration::from_secs(9)))
        });
    assert_eq!(mux.patterns().collect::<Vec<_>>(), ["later", "number", "plain"]);
    mux.process_task(task("number")).await.unwrap();
    assert_eq!(mux.states.get::<AtomicUsize>().unwrap().load(Ordering::Relaxed), 7);
    mux.process_task(task("plain")).await.unwrap();
    let zero = Task::new("number", b"0").unwrap();
    let error = mux.process_task(zero).await.unwrap_err();
    assert!(matches!(&error, Error::Handler(own) if own.is::<Own>()), "{error}");
    // An error of ours keeps its meaning on the way through a box.
    assert!(matches!(mux.process_task(task("later")).await, Err(Error::Snooze(_))));
}

#[tokio::test]
async fn what_cannot_be_read_is_archived_unless_told_otherwise() {
    let number = |_: Number| async {};
    let bad = || Task::new("number", b"x").unwrap();
    let mut mux = ServeMux::new();
    mux.route(number);
    let error = mux.process_task(bad()).await.unwrap_err();
    assert!(
        matches!(&error, Error::SkipRetry(_)) && error.to_string() == "not a number",
        "{error}"
    );
    let mut mux = ServeMux::new().bad_payload(BadPayload::Retry);
    mux.route(number);
    assert!(matches!(mux.process_task(bad()).await, Err(Error::Handler(_))));
    // What the app forgot is no fault of the task.
    let mut mux = ServeMux::new();
    mux.route_on("t", |_: State<u8>| async {});
    let error = mux.process_task(task("t")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Handler(_)) && error.to_string().contains("u8"),
        "{error}"
    );
}
