//! Beside the layer of `tracing-opentelemetry`.

use std::sync::{Arc, Mutex};

use asynq::{AsynqSystem, ServerConfig, Task, client::TaskContextExt as _, memory::MemoryStore};
use opentelemetry::{global, trace::SpanKind};
use tracing::{Instrument as _, Subscriber, span};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::{ended, exporter};

#[tracing::instrument(name = "inner work")]
async fn inner(task: Task) -> asynq::Result<()> {
    let next = Task::new("next", b"")?.with_queue("layer-next");
    task.context().unwrap().client().enqueue(next).await?;
    Ok(())
}

#[tokio::test]
async fn spans_of_tracing_and_ours_are_one_trace() {
    exporter();
    let layer = tracing_opentelemetry::layer().with_tracer(global::tracer("app"));
    let subscriber = tracing_subscriber::registry().with(layer);
    let _default = tracing::subscriber::set_default(subscriber);
    let system = AsynqSystem::builder(MemoryStore::new())
        .config(ServerConfig::new().queues([("layer", 1)]))
        .handler(inner)
        .spawn()
        .await
        .unwrap();
    let task = Task::new("t", b"").unwrap().with_queue("layer");
    let enqueue = async { system.client().enqueue(task).await.unwrap() };
    enqueue.instrument(tracing::info_span!("outer work")).await;
    let next = ended("send layer-next", 1).await.remove(0);
    let outer = ended("outer work", 1).await.remove(0);
    let sent = ended("send layer", 1).await.remove(0);
    let run = ended("process layer", 1).await.remove(0);
    let inner = ended("inner work", 1).await.remove(0);
    let of_run = crate::named("task")
        .into_iter()
        .find(|span| span.trace() == run.trace());
    let of_run = of_run.unwrap();
    system.shutdown().await;
    assert!(sent.is_child_of(&outer.0.span_context), "{sent:#?}");
    assert!(run.is_child_of(&sent.0.span_context));
    assert!(of_run.is_child_of(&run.0.span_context), "{of_run:#?}");
    assert_eq!(inner.trace(), run.trace());
    assert!(next.is_child_of(&inner.0.span_context), "{next:#?}");
    assert_eq!(next.0.span_kind, SpanKind::Producer);
}

/// The parents of the spans `task`, in the logs.
#[derive(Clone, Default)]
struct Parents(Arc<Mutex<Vec<Option<&'static str>>>>);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Parents {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if attributes.metadata().name() == "task" {
            let parent = context.span(id).unwrap().parent().map(|parent| parent.name());
            self.0.lock().unwrap().push(parent);
        }
    }
}

/// A span around the runtime is around no run.
#[test]
fn the_logs_of_a_run_are_below_no_span() {
    exporter();
    let parents = Parents::default();
    let subscriber = tracing_subscriber::registry().with(parents.clone());
    let _default = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::info_span!("main").in_scope(|| {
        runtime.block_on(async {
            let system = AsynqSystem::builder(MemoryStore::new())
                .config(ServerConfig::new().queues([("around", 1)]))
                .handler(|_: Task| async { Ok(()) })
                .spawn()
                .await
                .unwrap();
            let task = Task::new("t", b"").unwrap().with_queue("around");
            system.client().enqueue(task).await.unwrap();
            ended("process around", 1).await;
            system.shutdown().await;
        });
    });
    assert_eq!(*parents.0.lock().unwrap(), [None]);
}
