//! Directives of a handler's error, heard through the error types that applications use.

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use asynq::{
    IsFailure,
    config::ServerConfig,
    error::{BoxError, Error, Result},
    extract::{FromTask, Rejection, States},
    serve_mux::ServeMux,
    task::Task,
    testing::{End, TestKit},
    tower::layered,
};

const LATER: Duration = Duration::from_secs(90);

/// An application's own error.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("the order cannot be charged")]
    Charge(#[from] Error),
    #[error(transparent)]
    Other(BoxError),
}

/// Says what the payload asks for.
fn says(task: &Task) -> Result<()> {
    Err(match task.get_payload() {
        b"skip" => Error::skip_retry("no such order"),
        b"revoke" => Error::revoke("not needed"),
        b"snooze" => Error::snooze(LATER),
        _ => Error::other("no answer"),
    })
}

/// An argument that is refused as the payload says.
struct Picky;

impl FromTask for Picky {
    fn from_task(task: &Task, _: &States) -> Result<Self, Rejection> {
        says(task)
            .map(|()| Self)
            .map_err(|error| Rejection::Payload(Error::other(OrderError::from(error))))
    }
}

/// A layer that boxes errors in one of its own, as the layers of `tower` do.
#[derive(Clone)]
struct Boxing;

impl<S> tower::Layer<S> for Boxing {
    type Service = tower::util::MapErr<S, fn(Error) -> BoxError>;

    fn layer(&self, inner: S) -> Self::Service {
        tower::util::MapErr::new(inner, |error| OrderError::Other(OrderError::from(error).into()).into())
    }
}

/// Handlers that wrap what they say, one for each way of wrapping.
fn wrapping() -> ServeMux {
    let mut mux = ServeMux::new();
    mux.route_on("anyhow", |task: Task| async move {
        says(&task)?;
        anyhow::Ok(())
    })
    .route_on("anyhow with context", |task: Task| async move {
        says(&task).context("charging").with_context(|| "order 7")
    })
    .route_on("eyre", |task: Task| async move {
        says(&task)?;
        eyre::Ok(())
    })
    .route_on("eyre with context", |task: Task| async move {
        eyre::WrapErr::wrap_err(says(&task), "charging")
    })
    .route_on("thiserror", |task: Task| async move {
        says(&task)?;
        Ok::<_, OrderError>(())
    })
    .route_on("box", |task: Task| async move {
        says(&task)?;
        Ok::<_, BoxError>(())
    })
    .route_on("all of them", |task: Task| async move {
        let charge = || -> anyhow::Result<()> { Ok(says(&task).map_err(OrderError::from)?) };
        let boxed = charge().context("order 7").map_err(BoxError::from);
        boxed.map_err(OrderError::Other).map_err(io::Error::other)
    })
    .route_on("io", |task: Task| async move { says(&task).map_err(io::Error::other) })
    .route_on("arc", |task: Task| async move { says(&task).map_err(Arc::new) })
    .route_on("spawned", |task: Task| async move {
        let spawned = tokio::task::JoinSet::from_iter([async move { says(&task) }])
            .join_next()
            .await;
        spawned.context("nothing was spawned")???;
        anyhow::Ok(())
    })
    .route_on("argument", |_: Picky| async {});
    mux.handle("layer", layered(|task: Task| async move { says(&task) }, &Boxing));
    mux
}

#[tokio::test]
async fn a_handler_is_heard_through_every_wrapping() {
    let mux = wrapping();
    let types: Vec<String> = mux.patterns().map(str::to_owned).collect();
    assert_eq!(types.len(), 12, "{types:?}");
    for task_type in types {
        let kit = TestKit::new().await;
        for says in ["skip", "revoke", "snooze", "fail"] {
            let task = Task::new(&task_type, says.as_bytes()).unwrap().with_task_id(says);
            kit.client().enqueue(task).await.unwrap();
        }
        let ran = kit.drain(&mux).await;
        let until = kit.now() + LATER;
        assert!(
            matches!(
                ran.iter().map(|ran| &ran.end).collect::<Vec<_>>()[..],
                [End::Archived { .. }, End::Revoked { .. }, End::Snoozed { until: at }, last]
                    if *at == until && (matches!(last, End::Retried { .. }) || task_type == "argument")
            ),
            "{task_type}: {ran:#?}"
        );
    }
}

#[tokio::test]
async fn rules_find_the_errors_of_the_application() {
    let config = ServerConfig::new().is_failure(IsFailure::new(|error| error.find::<OrderError>().is_none()));
    let kit = TestKit::new().await.server_config(&config).unwrap();
    for task_type in ["anyhow with context", "thiserror"] {
        let task = Task::new(task_type, b"fail").unwrap().with_task_id(task_type);
        kit.client().enqueue(task).await.unwrap();
    }
    kit.drain(&wrapping()).await;
    let mut retried = Vec::new();
    for task_type in ["anyhow with context", "thiserror"] {
        let info = kit.inspector().get_task_info("default", task_type).await.unwrap();
        retried.push(info.retried);
    }
    assert_eq!(retried, [1, 0], "the second one holds an order error and is no failure");
}
