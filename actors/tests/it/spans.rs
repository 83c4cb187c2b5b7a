//! The spans that a system works in: their names and fields are stable.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use asynq_actors::AsynqSystem;
use asynq_core::{Error, Task};
use asynq_memory::MemoryStore;
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::env;

type Fields = BTreeMap<String, String>;
/// Name and fields.
type Span = (&'static str, Fields);
/// The span that it was logged in, and its message.
type Event = (Option<&'static str>, String);

#[derive(Default)]
struct Reader(Fields);

impl Visit for Reader {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// All spans that were opened, and the messages with the span that they were logged in.
#[derive(Clone, Default)]
struct Seen {
    spans: Arc<Mutex<Vec<Span>>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut reader = Reader::default();
        attributes.record(&mut reader);
        self.spans
            .lock()
            .unwrap()
            .push((attributes.metadata().name(), reader.0));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut reader = Reader::default();
        event.record(&mut reader);
        let span = context.event_span(event).map(|span| span.name());
        let text = reader.0.remove("message").unwrap_or_default();
        self.events.lock().unwrap().push((span, text));
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_and_actors_have_spans_with_stable_fields() {
    let seen = Seen::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .handler(|_: Task| async {
            tracing::info!("in the handler");
            Err(Error::other("no"))
        })
        .spawn()
        .await
        .unwrap();
    let task = Task::new("email:send", b"")
        .unwrap()
        .with_task_id("a")
        .with_queue("default");
    system.client().enqueue(task).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    system.shutdown().await;

    let spans = seen.spans.lock().unwrap().clone();
    let fields = |pairs: &[(&str, &str)]| -> Fields {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let run = fields(&[
        ("queue", "default"),
        ("retried", "0"),
        ("task_id", "a"),
        ("task_type", "email:send"),
    ]);
    assert!(spans.contains(&("task", run)), "{spans:?}");
    for path in [
        "system/broker",
        "system/maintenance",
        "system/maintenance/forwarder",
        "system/work/processor",
    ] {
        assert!(
            spans.contains(&("actor", fields(&[("path", path)]))),
            "{path}: {spans:?}"
        );
    }
    let events = seen.events.lock().unwrap().clone();
    for (span, text) in [
        ("task", "in the handler"),
        ("task", "task failed"),
        ("actor", "connected"),
    ] {
        assert!(events.contains(&(Some(span), text.to_owned())), "{text}: {events:?}");
    }
}
