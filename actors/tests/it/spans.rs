//! The spans that a system works in: their names and fields are stable.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use asynq_actors::AsynqSystem;
use asynq_core::{Error, RetryDelay, ServerConfig, Task};
use asynq_memory::MemoryStore;
use tracing::{
    Dispatch, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

use crate::env;

type Fields = BTreeMap<String, String>;
/// Name and fields.
type Span = (&'static str, Fields);
/// The span that it was logged in, its level and its message.
type Event = (Option<&'static str>, Level, String);

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
pub(crate) struct Seen {
    spans: Arc<Mutex<Vec<Span>>>,
    events: Arc<Mutex<Vec<Event>>>,
    /// The fields of the events and of their spans, beside these.
    fields: Arc<Mutex<Vec<Fields>>>,
}

impl Seen {
    /// The fields of each event with that text.
    pub(crate) fn told(&self, level: Level, text: &str) -> Vec<Fields> {
        let (events, fields) = (self.events.lock().unwrap(), self.fields.lock().unwrap());
        let all = events.iter().zip(fields.iter());
        all.filter(|((_, at, said), _)| (*at, said.as_str()) == (level, text))
            .map(|(_, fields)| fields.clone())
            .collect()
    }

    /// Hears what this thread says, while these are kept. The second one hears nothing: with a single one
    /// `tracing` asks the thread that is the first to come by a place, which may be another test's, whether
    /// anybody listens there.
    pub(crate) fn hears(&self) -> (DefaultGuard, Dispatch) {
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()));
        (guard, Dispatch::new(tracing_subscriber::registry()))
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut reader = Reader::default();
        attributes.record(&mut reader);
        let span = context.span(id).unwrap();
        if let Some(parent) = span.parent() {
            reader.0.insert("inside".to_owned(), parent.name().to_owned());
        }
        span.extensions_mut().insert(reader.0.clone());
        self.spans
            .lock()
            .unwrap()
            .push((attributes.metadata().name(), reader.0));
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut reader = Reader::default();
        event.record(&mut reader);
        let span = context.event_span(event);
        if let Some(span) = &span {
            reader.0.extend(span.extensions().get::<Fields>().unwrap().clone());
        }
        let span = span.map(|span| span.name());
        let text = reader.0.remove("message").unwrap_or_default();
        let level = *event.metadata().level();
        self.events.lock().unwrap().push((span, level, text));
        self.fields.lock().unwrap().push(reader.0);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_and_actors_have_spans_with_stable_fields() {
    let seen = Seen::default();
    let _guards = seen.hears();
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .config(ServerConfig::new().concurrency(7))
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
    tokio::time::sleep(Duration::from_secs(1)).await;
    system.shutdown().await;

    let spans = seen.spans.lock().unwrap().clone();
    let fields = |pairs: &[(&str, &str)]| -> Fields {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let run = fields(&[("id", "a"), ("queue", "default"), ("type", "email:send")]);
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
    let started = [("storage", "memory"), ("queues", "default=1"), ("concurrency", "7")];
    assert_eq!(seen.told(Level::INFO, "server started"), [fields(&started)]);
    assert_eq!(seen.told(Level::INFO, "server ended"), [fields(&[("exit", "Stopped")])]);
    let events = seen.events.lock().unwrap().clone();
    for (span, level, text) in [
        ("task", Level::INFO, "in the handler"),
        ("task", Level::WARN, "task failed, retrying"),
        ("actor", Level::INFO, "connected"),
    ] {
        assert!(
            events.contains(&(Some(span), level, text.to_owned())),
            "{text}: {events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_failed_run_is_logged_with_what_comes_next() {
    let seen = Seen::default();
    let _guards = seen.hears();
    let system = AsynqSystem::builder(MemoryStore::new())
        .env(env())
        .config(ServerConfig::new().retry_delay(RetryDelay::new(|_, _, _| Duration::from_secs(60))))
        .handler(|task: Task| async move {
            Err(match task.get_type() {
                "panics" => panic!("no luck"),
                "skips" => Error::skip_retry("no such order"),
                "revokes" => Error::revoke("not needed"),
                "snoozes" => Error::snooze(Duration::from_secs(9)),
                _ => Error::other("no answer"),
            })
        })
        .spawn()
        .await
        .unwrap();
    for (task_type, retries) in [
        ("fails", 4),
        ("last", 0),
        ("panics", 4),
        ("skips", 4),
        ("revokes", 4),
        ("snoozes", 4),
    ] {
        let task = Task::new(task_type, b"").unwrap().with_task_id(task_type);
        system.client().enqueue(task.with_max_retry(retries)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    system.shutdown().await;

    let told: BTreeMap<String, (Level, String, Fields)> = seen
        .events
        .lock()
        .unwrap()
        .iter()
        .zip(seen.fields.lock().unwrap().iter())
        .filter(|((span, ..), _)| *span == Some("task"))
        .filter_map(|((_, level, text), fields)| {
            Some((fields.get("id")?.clone(), (*level, text.clone(), fields.clone())))
        })
        .collect();
    for (id, level, text, error) in [
        ("fails", Level::WARN, "task failed, retrying", "no answer"),
        ("last", Level::ERROR, "task failed for good, archiving it", "no answer"),
        (
            "panics",
            Level::WARN,
            "task failed, retrying",
            concat!("panic error cause by: panic [", file!(), ":]: no luck"),
        ),
        (
            "skips",
            Level::ERROR,
            "task failed for good, archiving it",
            "no such order",
        ),
        ("revokes", Level::INFO, "task revoked, dropping it", "not needed"),
    ] {
        let (told_level, told_text, fields) = &told[id];
        assert_eq!((*told_level, told_text.as_str()), (level, text), "{id}");
        // The line is any.
        let told_error = fields["error"].replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(told_error, error, "{id}");
        assert_eq!(fields["type"], id);
        if level != Level::INFO {
            let of = if id == "last" { "1" } else { "5" };
            assert_eq!((fields["attempt"].as_str(), fields["of"].as_str()), ("1", of), "{id}");
        }
    }
    assert_eq!(told["fails"].2["again_in"], "60s");
    assert_eq!(told["snoozes"].0, Level::DEBUG);
}
