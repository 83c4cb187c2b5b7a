//! [`View`]: all that a page needs to know about its request.

use asynq::{findings::quote, info::SchedulerEntry};
use axum::{
    extract::{FromRequestParts, OriginalUri},
    http::{Uri, request::Parts},
};
use chrono::{DateTime, Utc};

use super::{
    paths::{Paths, segment},
    settings::Settings,
};
use crate::{access::Role, app::App, guard::Caller, problem::Problem};

/// Longest query of an address, in bytes.
const LONGEST_QUERY: usize = 32_768;

/// A request for a page.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) app: App,
    pub(crate) caller: Caller,
    pub(crate) paths: Paths,
    pub(crate) settings: Settings,
    /// The time for which the page is made.
    pub(crate) now: DateTime<Utc>,
    query: String,
}

impl FromRequestParts<App> for View {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // Each link of a page repeats it.
        if parts.uri.query().is_some_and(|query| query.len() > LONGEST_QUERY) {
            let detail = format!("the part of the address behind ? is longer than {LONGEST_QUERY} bytes");
            return Err(Problem::invalid("query", detail));
        }
        Ok(Self {
            app: app.clone(),
            caller: Caller::from_request_parts(parts, app).await?,
            paths: paths(parts),
            settings: Settings::of(&parts.headers),
            now: Utc::now(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        })
    }
}

/// Returns the ways from the page that is asked for.
pub(crate) fn paths(parts: &Parts) -> Paths {
    let original = parts.extensions.get::<OriginalUri>();
    let original: &Uri = original.map_or(&parts.uri, |OriginalUri(uri)| uri);
    Paths::of(&parts.uri, original)
}

impl View {
    /// Returns the link to a path below the first page, such as `servers` or `api/v1/queues`.
    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.paths.base)
    }

    /// Returns the link to the first page of another context.
    pub(crate) fn context_link(&self, index: usize) -> String {
        let (home, folder) = match self.app.context {
            0 => (self.paths.home.clone(), self.paths.base.clone()),
            _ => self.paths.out_of_context(),
        };
        match self.app.contexts.get(index) {
            Some(context) if index > 0 => format!("{folder}contexts/{}", segment(&context.name)),
            _ => home,
        }
    }

    /// Returns a command of the CLI for the context that the page shows.
    pub(crate) fn in_shell(&self, command: &str) -> String {
        let name = self
            .app
            .contexts
            .get(self.app.context)
            .map_or("", |context| context.name.as_str());
        match command.strip_prefix("asynq ") {
            Some(words) if !name.is_empty() => format!("asynq --context={} {words}", quote(name)),
            _ => command.to_owned(),
        }
    }

    /// Returns the link to a queue.
    pub(crate) fn queue_link(&self, queue: &str) -> String {
        self.link(&format!("queues/{}", segment(queue)))
    }

    /// Returns the link to a queue's tasks in a state.
    pub(crate) fn state_link(&self, queue: &str, state: &str) -> String {
        format!("{}?state={state}", self.queue_link(queue))
    }

    /// Returns the link to a task.
    pub(crate) fn task_link(&self, queue: &str, id: &str) -> String {
        self.link(&format!("queues/{}/tasks/{}", segment(queue), segment(id)))
    }

    /// Returns the path of the API for acts on a queue: `suffix` is empty, or such as `/pause`.
    pub(crate) fn queue_act(&self, queue: &str, suffix: &str) -> String {
        self.link(&format!("api/v1/queues/{}{suffix}", segment(queue)))
    }

    /// Returns the path of the API for acts on a task: `suffix` is empty, or such as `/run`.
    pub(crate) fn task_act(&self, queue: &str, id: &str, suffix: &str) -> String {
        self.queue_act(queue, &format!("/tasks/{}{suffix}", segment(id)))
    }

    /// Returns the link to this page with other parameters: each of them is replaced, or removed if its value is empty.
    pub(crate) fn with(&self, changes: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
        let kept = form_urlencoded::parse(self.query.as_bytes());
        for (name, value) in kept.filter(|(name, _)| changes.iter().all(|(changed, _)| name != changed)) {
            query.append_pair(&name, &value);
        }
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            query.append_pair(name, value);
        }
        query.finish()
    }

    /// Returns the parameters of this page, without those that are named.
    pub(crate) fn parameters(&self, without: &[&str]) -> Vec<(String, String)> {
        form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| !without.contains(&name.as_ref()))
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    /// Returns whether the user may do something with a queue that needs this role. Nobody may in read-only mode.
    pub(crate) fn may(&self, queue: &str, role: Role) -> bool {
        !self.app.read_only && self.caller.need(queue, role).is_ok()
    }

    /// Returns whether the user sees all queues.
    pub(crate) fn sees_everything(&self) -> bool {
        self.caller.user().role_everywhere().is_some()
    }

    /// Returns whether the user sees an entry of a scheduler.
    pub(crate) fn sees_entry(&self, entry: &SchedulerEntry) -> bool {
        self.caller.sees_entry(entry)
    }
}
