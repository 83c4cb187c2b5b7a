//! Live updates, as server-sent events.

use std::{convert::Infallible, iter::Peekable, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    servers::{TreeRecord, seen},
    upkeep::sees_finding,
};
use crate::{
    app::App,
    guard::{Caller, recognize_again},
    live::{Change, Events, Listener, View, What},
    problem::Result,
    records::{FindingRecord, QueueRecord},
};

/// Time between two comments that keep the connection open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time between two looks whether the user may still be here.
const LOOK: Duration = Duration::from_secs(3);
/// Largest data of an event. An item of a list that is larger comes alone.
const BYTES: usize = 256 << 10;
/// Events that wait for a listener who reads slowly.
const WAITING: usize = 16;
/// Time after which such a listener is left.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which a browser connects again, in milliseconds.
const RETRY: u32 = 3000;

/// Sends live updates as server-sent events, of the queues that this user may see.
///
/// First comes all that is known, then what has changed, at most every two seconds. Events: `snapshot` before all that is known, which
/// takes the place of what came before; `queues` with an array of the numbers of queues and, in `unreadable`, an array of those that
/// cannot be read any more; `gone` with an array of the names of queues that were deleted; `servers`, `trees` and `findings` as the paths
/// of these names answer, servers without their workers; and `storage` with `{"answers": false}` when the storage is lost. The data of an
/// event have at most 256 KiB: longer lists of queues come in several events, and `left_out` counts the servers, trees and findings that
/// are missing. Only the last of the events that belong together has an id. A comment comes every 15 seconds. The stream ends with the
/// session, and when the listener reads too slowly: connect again, as browsers do by themselves.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "Id of the last event that was received.")),
    responses((status = 200, content_type = "text/event-stream", body = String)),
)]
pub(crate) async fn events(State(app): State<App>, caller: Caller, parts: Parts) -> Result<Response> {
    let started = app.background.started().timestamp_millis();
    let seen = parts.headers.get("last-event-id").and_then(|id| {
        let (of, number) = id.to_str().ok()?.split_once('-')?;
        // Numbers of another run of the server mean nothing.
        number.parse().ok().filter(|_| of == started.to_string())
    });
    let (listener, snapshot) = app.live.listen(&caller.user().name, seen)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let stream = Stream {
        app,
        caller,
        parts,
        sender,
        started,
    };
    let background = stream.app.background.clone();
    background.spawn(stream.run(listener, snapshot));
    let body = Body::from_stream(stream::unfold(receiver, async |mut receiver| {
        let event: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), receiver))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy of the kind of nginx would hold the events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

/// The stream of one listener.
struct Stream {
    app: App,
    caller: Caller,
    parts: Parts,
    sender: mpsc::Sender<Bytes>,
    started: i64,
}

impl Stream {
    /// Sends until the listener goes, is too slow, or may no longer be here.
    async fn run(mut self, mut listener: Listener, snapshot: Option<Arc<Change>>) {
        if !self.send(format!("retry: {RETRY}\n\n").into()).await {
            return;
        }
        if let Some(snapshot) = snapshot
            && !self.change(&snapshot).await
        {
            return;
        }
        let (mut heartbeat, mut look) = (Instant::now() + HEARTBEAT, Instant::now() + LOOK);
        loop {
            tokio::select! {
                change = listener.next() => {
                    let Some(change) = change else { return };
                    if !self.change(&change).await {
                        return;
                    }
                }
                () = sleep_until(look) => {
                    look = Instant::now() + LOOK;
                    match recognize_again(&self.app, &self.parts).await {
                        Ok(caller) => self.caller = caller,
                        Err(_) => return,
                    }
                }
                () = sleep_until(heartbeat) => {
                    heartbeat = Instant::now() + HEARTBEAT;
                    if !self.send(Bytes::from_static(b":\n\n")).await {
                        return;
                    }
                }
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends a change as far as the user may see it, and returns whether the stream goes on.
    async fn change(&self, change: &Change) -> bool {
        let user = self.caller.user();
        let view = match user.role_everywhere() {
            Some(_) => View::All,
            None => View::Of(user.grants.clone()),
        };
        let events = change.events(&view, |change| write(&self.caller, change, self.started));
        for event in events.iter() {
            if !self.send(event.clone()).await {
                return false;
            }
        }
        true
    }

    async fn send(&self, event: Bytes) -> bool {
        tokio::select! {
            sent = timeout(PATIENCE, self.sender.send(event)) => matches!(sent, Ok(Ok(()))),
            () = self.app.background.stopping() => false,
        }
    }
}

/// Writes the events of a change. They depend only on the queues that the user sees. The last one has the id: a listener who is
/// cut off before it has not seen all.
fn write(caller: &Caller, change: &Change, started: i64) -> Events {
    let mut events = Vec::new();
    if change.is_snapshot {
        events.push(("snapshot", "{}".to_owned()));
    }
    change.what.iter().for_each(|what| shown(caller, what, &mut events));
    let count = events.len();
    let events = events.into_iter().enumerate().map(|(nth, (name, data))| {
        let id = match nth + 1 == count {
            true => format!("id: {started}-{}\n", change.number),
            false => String::new(),
        };
        Bytes::from(format!("{id}event: {name}\ndata: {data}\n\n"))
    });
    events.collect()
}

/// Adds the names and the data of the events in which this user sees something.
fn shown(caller: &Caller, what: &What, events: &mut Vec<(&'static str, String)>) {
    let is_everywhere = caller.user().role_everywhere().is_some();
    match what {
        What::Queues(both) => {
            let queues = both.0.iter().filter(|info| caller.sees(info.queue.as_str()));
            let mut queues = chunks(queues.map(|info| value(&QueueRecord::of(info))));
            let unreadable = both.1.iter().filter(|unread| caller.sees(&unread.queue));
            let mut unreadable = chunks(unreadable.map(value));
            loop {
                let (queues, unreadable) = (queues.next(), unreadable.next());
                if queues.is_none() && unreadable.is_none() {
                    break;
                }
                let list = |part: Option<String>| part.unwrap_or_else(|| "[]".to_owned());
                let data = format!(r#"{{"queues":{},"unreadable":{}}}"#, list(queues), list(unreadable));
                events.push(("queues", data));
            }
        }
        What::Gone(names) => {
            let seen = names.iter().filter(|name| caller.sees(name));
            let parts = chunks(seen.map(value)).map(|part| ("gone", format!(r#"{{"queues":{part}}}"#)));
            events.extend(parts);
        }
        What::Findings(findings) => {
            let seen = findings.iter().filter(|finding| sees_finding(caller, finding));
            let seen = seen.map(|finding| value(&FindingRecord::of(finding)));
            events.push(("findings", cut("findings", seen)));
        }
        What::Servers(both) => {
            let seen = seen(caller, &both.0, &both.1);
            let seen = seen.iter().map(|server| {
                let mut server = value(server);
                if let Some(fields) = server.as_object_mut() {
                    fields.remove("workers");
                }
                server
            });
            events.push(("servers", cut("servers", seen)));
        }
        What::Trees(trees) if is_everywhere => {
            let trees = trees.iter().map(|tree| value(&TreeRecord::of(tree)));
            events.push(("trees", cut("trees", trees)));
        }
        What::Trees(_) => {}
        What::Storage(answers) => events.push(("storage", json!({"answers": answers}).to_string())),
    }
}

/// The items of a list, in arrays of at most [`BYTES`].
struct Chunks<I: Iterator<Item = String>>(Peekable<I>);

fn chunks(items: impl Iterator<Item = Value>) -> Chunks<impl Iterator<Item = String>> {
    Chunks(items.map(|item| item.to_string()).peekable())
}

impl<I: Iterator<Item = String>> Iterator for Chunks<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut part = format!("[{}", self.0.next()?);
        while let Some(item) = self.0.next_if(|item| part.len() + item.len() < BYTES) {
            part.push(',');
            part.push_str(&item);
        }
        part.push(']');
        Some(part)
    }
}

/// Returns an object with the items that fit into [`BYTES`], and the number of the others.
fn cut(name: &str, items: impl Iterator<Item = Value>) -> String {
    let (mut list, mut left_out) = (String::new(), 0_usize);
    for item in items {
        let item = item.to_string();
        if list.len() + item.len() >= BYTES {
            left_out += 1;
            continue;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&item);
    }
    format!(r#"{{"{name}":[{list}],"left_out":{left_out}}}"#)
}

fn value(value: &impl Serialize) -> Value {
    // Records have no maps whose keys are no texts.
    serde_json::to_value(value).unwrap_or_default()
}
