//! Middleware and layers around the tasks of a handler actor.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use asynq_actors::{ActorHandler, AsynqSystem};
use asynq_core::{
    BoxError, Directive, Error, PeriodicTaskConfig, PeriodicTaskConfigProvider, Result, ServeMux, ServerConfig, Task,
    TaskState,
    mux::{Middleware, Next},
};
use asynq_memory::MemoryStore;

use super::kit::{House, MINUTE, Stage, config, task};

/// Observations of middleware, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn says(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Tells of a task on its way in and of its result on its way out.
    fn teller(&self, name: &'static str) -> impl Middleware + use<> {
        let seen = self.clone();
        move |task: Task, next: Next| {
            let seen = seen.clone();
            async move {
                seen.says(format!("{name} in"));
                let result = next.run(task).await;
                let outcome = result.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned());
                seen.says(format!("{name} out: {outcome}"));
                result
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_is_the_outermost() {
    let (stage, seen) = (Stage::new(), Seen::default());
    let inner = seen.clone();
    let spec = stage.spec("t").wrap(seen.teller("a"));
    let spec = spec.around(move |actors: ActorHandler| {
        let mut mux = ServeMux::new();
        mux.wrap(inner.teller("b"));
        mux.otherwise(actors);
        mux
    });
    let house = House::open([spec.wrap(seen.teller("c"))]).await;
    let done = house.enqueue(task("t", "ok")).await;
    house.until_done(&done).await;
    assert_eq!(
        seen.all(),
        ["a in", "b in", "c in", "c out: ok", "b out: ok", "a out: ok"]
    );
    let failed = house.enqueue(task("t", "skip")).await;
    assert_eq!(house.until(&failed, TaskState::Archived).await.last_error, "never");
    assert_eq!(seen.all()[3..], ["c out: never", "b out: never", "a out: never"]);
    house.close().await;
    assert_eq!(stage.deeds("start").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_decides_what_becomes_of_the_task() {
    let stage = Stage::new();
    let spec = stage.spec("t").wrap(|task: Task, next: Next| async move {
        match task.get_payload() {
            b"refused" => Err(Error::revoke("not for us")),
            _ => next.run(task).await.or_else(|error| match error.to_string().as_str() {
                "no luck" => Ok(()),
                _ => Err(error),
            }),
        }
    });
    let house = House::open([spec]).await;
    for order in ["refused", "fail"] {
        let gone = house.enqueue(task("t", order)).await;
        house.until_done(&gone).await;
    }
    let orders: Vec<_> = stage.deeds("start").into_iter().map(|deed| deed.order).collect();
    assert_eq!(orders, ["fail"], "what is refused reaches no instance");
    house.close().await;
}

/// A task that is put back uses up no retry, whatever is around; middleware sees it put off.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_put_back_comes_back() {
    let (stage, seen) = (Stage::new(), Seen::default());
    let directives = Seen::default();
    let told = directives.clone();
    let spec = stage.spec("t").rate_limit(1, MINUTE).wrap(seen.teller("a"));
    let spec = spec.wrap(move |task: Task, next: Next| {
        let told = told.clone();
        async move {
            let result: Result<()> = next.run(task).await;
            if let Err(error) = &result {
                let off = matches!(error.directive(), Directive::Snooze(after) if after > Duration::from_secs(10));
                told.says(off.to_string());
            }
            // As with an application's own error type in between.
            result.map_err(Error::other)
        }
    });
    let house = House::open([spec]).await;
    let first = house.enqueue(task("t", "ok")).await;
    house.until_done(&first).await;
    let second = house.enqueue(task("t", "ok")).await;
    let waits = house.until(&second, TaskState::Retry).await;
    assert_eq!((waits.retried, waits.last_error.as_str()), (0, "rate limit of \"t\""));
    assert_eq!(directives.all(), ["true"]);
    house.until_done(&second).await;
    assert_eq!(stage.deeds("start").len(), 2);
    house.close().await;
}

/// Middleware that ends a run early takes the task back from the instance, which is told.
#[tokio::test(start_paused = true)]
async fn one_that_gives_up_takes_the_task_back() {
    let stage = Stage::new();
    let spec = stage.spec("t").wrap(|task: Task, next: Next| async move {
        let limit = Duration::from_secs(3);
        match tokio::time::timeout(limit, next.run(task)).await {
            Ok(result) => result,
            Err(_) => Err(Error::skip_retry("too slow")),
        }
    });
    let house = House::with(config(), [spec], |builder| builder).await;
    let slow = house.enqueue(task("t", "cancel")).await;
    let slow = house.until(&slow, TaskState::Archived).await;
    assert_eq!(slow.last_error, "too slow");
    stage.until(1, "cancelled").await;
    let next = house.enqueue(task("t", "ok")).await;
    house.until_done(&next).await;
    assert_eq!(stage.starts(), 1, "the instance was not killed");
    house.close().await;
}

#[tokio::test(start_paused = true)]
async fn another_task_than_that_of_the_run_is_refused() {
    let stage = Stage::new();
    let spec = stage
        .spec("t")
        .wrap(|_: Task, next: Next| async move { next.run(task("t", "ok")).await });
    let house = House::open([spec]).await;
    let lost = house.enqueue(task("t", "ok")).await;
    let lost = house.until(&lost, TaskState::Retry).await;
    assert!(lost.last_error.contains("has no context"), "{}", lost.last_error);
    assert_eq!(stage.deeds("start"), []);
    house.close().await;
}

/// A provider of periodic tasks that counts how often it was asked.
#[derive(Clone, Default)]
struct Provider(Arc<AtomicU32>);

#[async_trait]
impl PeriodicTaskConfigProvider for Provider {
    async fn get_configs(&self) -> Result<Vec<PeriodicTaskConfig>, BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }
}

/// As with a plain handler, what cannot work refuses the start: all of it at once, and before anybody is asked for
/// periodic tasks.
#[tokio::test(start_paused = true)]
async fn faults_of_what_is_around_are_told_with_all_others() {
    let stage = Stage::new();
    let faulty = |pattern: &str| {
        stage.spec(pattern).around(|actors: ActorHandler| {
            let mut mux = ServeMux::new();
            mux.handle(" ", actors.clone())
                .handle("x", actors.clone())
                .handle("x", actors);
            mux
        })
    };
    let provider = Provider::default();
    let refused = AsynqSystem::builder(MemoryStore::new())
        .config(ServerConfig::new().concurrency(0))
        .handler_actor(faulty("t"))
        .handler_actor(faulty("u"))
        .handler_actor(stage.spec("v").instances(0))
        .periodic_tasks(provider.clone(), None)
        .spawn()
        .await
        .unwrap_err();
    let Error::Config(refused) = refused else {
        panic!("{refused}")
    };
    let told: Vec<_> = refused.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "concurrency must be 1 to 1000000, not 0",
            "handler_actor \"t\": pattern \" \" is refused: asynq: invalid pattern",
            "handler_actor \"t\": pattern \"x\" is refused: asynq: multiple registrations for x",
            "handler_actor \"u\": pattern \" \" is refused: asynq: invalid pattern",
            "handler_actor \"u\": pattern \"x\" is refused: asynq: multiple registrations for x",
            "handler_actor \"v\": instances must be 1 to 1000, not 0",
        ]
    );
    assert_eq!(provider.0.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_around_is_made_once() {
    let made = Arc::<AtomicU32>::default();
    let count = Arc::clone(&made);
    let spec = Stage::new().spec("t").instances(3).around(move |actors: ActorHandler| {
        count.fetch_add(1, Ordering::SeqCst);
        actors
    });
    let house = House::open([spec]).await;
    let info = house.enqueue(task("t", "ok")).await;
    house.until_done(&info).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
    house.close().await;
}
