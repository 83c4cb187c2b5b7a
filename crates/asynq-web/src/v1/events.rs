//! Live updates, as server-sent events.

use std::{convert::Infallible, time::Duration};

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
    live::{Change, Listener, What},
    problem::Result,
    records::{FindingRecord, QueueRecord},
};

/// Time between two comments that keep the connection open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Time between two looks whether the user may still be here.
const LOOK: Duration = Duration::from_secs(3);
/// Events that wait for a listener who reads slowly.
const WAITING: usize = 16;
/// Time after which such a listener is left.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time after which a browser connects again, in milliseconds.
const RETRY: u32 = 3000;

/// Sends live updates as server-sent events, of the queues that this user may see.
///
/// First comes all that is known, then what has changed, at most every two seconds. Events: `queues` with an array of the numbers of
/// queues, `gone` with an array of the names of queues that were deleted, `servers`, `trees` and `findings` as the paths of these
/// names answer, and `storage` with `{"answers": false}` when the storage is lost. A comment comes every 15 seconds. The stream ends
/// with the session, and when the listener reads too slowly: connect again, as browsers do by themselves.
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
    async fn run(mut self, mut listener: Listener, snapshot: Vec<Change>) {
        if !self.send(format!("retry: {RETRY}\n\n")).await {
            return;
        }
        for change in snapshot {
            if !self.change(&change).await {
                return;
            }
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
                    if !self.send(":\n\n".to_owned()).await {
                        return;
                    }
                }
                () = self.sender.closed() => return,
            }
        }
    }

    /// Sends a change as far as the user may see it, and returns whether the stream goes on.
    async fn change(&self, change: &Change) -> bool {
        let Some((name, data)) = shown(&self.caller, &change.what) else {
            return true;
        };
        let event = format!(
            "id: {}-{}\nevent: {name}\ndata: {data}\n\n",
            self.started, change.number
        );
        self.send(event).await
    }

    async fn send(&self, event: String) -> bool {
        tokio::select! {
            sent = timeout(PATIENCE, self.sender.send(event.into())) => matches!(sent, Ok(Ok(()))),
            () = self.app.background.stopping() => false,
        }
    }
}

/// The name and the data of an event, if there is something for this user.
fn shown(caller: &Caller, what: &What) -> Option<(&'static str, String)> {
    let is_everywhere = caller.user().role_everywhere().is_some();
    let list = |name: &str, list: Vec<Value>| json!({ name: list }).to_string();
    Some(match what {
        What::Queues(queues) => {
            let seen = queues.iter().filter(|info| caller.sees(info.queue.as_str()));
            let seen: Vec<_> = seen.map(|info| value(&QueueRecord::of(info))).collect();
            if seen.is_empty() {
                return None;
            }
            ("queues", list("queues", seen))
        }
        What::Gone(names) => {
            let seen: Vec<_> = names.iter().filter(|name| caller.sees(name)).map(value).collect();
            if seen.is_empty() {
                return None;
            }
            ("gone", list("queues", seen))
        }
        What::Findings(findings) => {
            let seen = findings.iter().filter(|finding| sees_finding(caller, finding));
            let seen = seen.map(|finding| value(&FindingRecord::of(finding))).collect();
            ("findings", list("findings", seen))
        }
        What::Servers(servers) => {
            let seen = seen(caller, &servers.0, &servers.1).iter().map(value).collect();
            ("servers", list("servers", seen))
        }
        What::Trees(trees) if is_everywhere => {
            let trees = trees.iter().map(|tree| value(&TreeRecord::of(tree))).collect();
            ("trees", list("trees", trees))
        }
        What::Trees(_) => return None,
        What::Storage(answers) => ("storage", json!({"answers": answers}).to_string()),
    })
}

fn value(value: &impl Serialize) -> Value {
    // Records have no maps whose keys are no texts.
    serde_json::to_value(value).unwrap_or_default()
}
