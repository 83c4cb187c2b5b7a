//! Servers and schedulers.

use axum::{extract::State, http::Uri, response::Response};
use serde::Serialize;

use super::{
    answer::json,
    fault::{Fault, Result},
    lists::Page,
    records::{EnqueueEvent, Entry, Server},
    shown::Shown,
};
use crate::{app::App, extract::Path, guard::Caller};

#[derive(Serialize)]
struct ServersAnswer {
    servers: Vec<Server>,
}

pub(super) async fn servers(State(app): State<App>, caller: Caller) -> Result<Response> {
    let _read = app.budgets.read(&caller.user().name)?;
    let both = app.readings.servers().await.map_err(Fault::of_problem)?;
    let (mut servers, workers) = (both.0.clone(), &both.1);
    servers.sort_by(|a, b| (&a.host, a.pid, &a.server_id).cmp(&(&b.host, b.pid, &b.server_id)));
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    let servers = servers
        .into_iter()
        .filter_map(|server| Server::of(server, workers, shown));
    json(&ServersAnswer {
        servers: servers.collect(),
    })
}

#[derive(Serialize)]
struct EntriesAnswer {
    entries: Vec<Entry>,
}

pub(super) async fn entries(State(app): State<App>, caller: Caller) -> Result<Response> {
    let _read = app.budgets.read(&caller.user().name)?;
    let entries = app.readings.entries().await.map_err(Fault::of_problem)?;
    let entries = entries.iter().filter(|entry| caller.sees_entry(entry)).cloned();
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    let entries = entries.map(|entry| Entry::of(entry, shown));
    json(&EntriesAnswer {
        entries: entries.collect(),
    })
}

#[derive(Serialize)]
struct EventsAnswer {
    events: Vec<EnqueueEvent>,
}

pub(super) async fn enqueue_events(
    State(app): State<App>,
    caller: Caller,
    Path(entry): Path<String>,
    uri: Uri,
) -> Result<Response> {
    let mut events = Vec::new();
    if sees(&app, &caller, &entry).await? {
        let page = Page::of(&uri);
        let listed = app
            .inspector
            .list_scheduler_enqueue_events(&entry, page.number, page.size);
        events = listed.await.map_err(Fault::of_queue)?;
    }
    json(&EventsAnswer {
        events: events.into_iter().map(Into::into).collect(),
    })
}

/// Returns whether the caller may see the queue of an entry. Without a role for all queues, the entry must be there to be
/// known.
async fn sees(app: &App, caller: &Caller, id: &str) -> Result<bool> {
    if caller.user().role_everywhere().is_some() {
        return Ok(true);
    }
    let entries = app.readings.entries().await.map_err(Fault::of_problem)?;
    Ok(entries.iter().any(|entry| entry.id == id && caller.sees_entry(entry)))
}
