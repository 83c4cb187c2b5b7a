//! The tasks of the page of a queue: a part of the list of a state, or of what a search finds.

use axum::extract::State;

use super::asked::Asked;
use crate::{
    extract::{Json as Body, Path, Query},
    pages::view::View,
    problem::{Problem, Result},
    records::TaskRecord,
    v1::{
        common::State as InState,
        search::{self, Search},
        tasks::{self, ListTasks},
    },
};

/// Tasks that a search looks at before it asks whether to go on.
const LOOK_AT: u64 = 10_000;

/// A part of the tasks.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) tasks: Vec<TaskRecord>,
    /// The place of the next part.
    pub(crate) next: Option<String>,
    /// The extent of the search. `None` for the list of a state.
    pub(crate) search: Option<Extent>,
}

/// The extent of a search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Number of tasks that were looked at, those of the parts before included.
    pub(crate) looked_at: u64,
    /// Number of tasks of this part about which the query cannot decide.
    pub(crate) undecided: u64,
    pub(crate) is_complete: bool,
}

/// The reason why there are no tasks.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The query is wrong.
    Query {
        /// The fault in words.
        fault: String,
        /// The place in the query, as a number of characters from its start, and the text that stands there. `None` if the place is
        /// not in the part that the user has written.
        place: Option<(usize, String)>,
    },
    /// A budget is used up.
    Budget(Problem),
}

/// Reads the tasks that are asked for.
pub(crate) async fn read(view: &View, queue: &str, asked: &Asked) -> Result<Result<Part, Refused>> {
    if let Some(state) = asked.state.state().filter(|_| !asked.is_search()) {
        return list(view, queue, asked, state).await.map(Ok);
    }
    let query = match asked.whole_query(queue) {
        Ok(query) => query,
        Err(error) => {
            let length = asked.query().chars().count();
            // A refusal of the whole query, such as one that is too long, is about a place in the whole.
            let is_own = error.position + error.found.chars().count() <= length;
            let found = match error.found.as_str() {
                "" => "its end".to_owned(),
                found => format!("“{found}”"),
            };
            return Ok(Err(Refused::Query {
                fault: format!("Expected {}, found {found}.", error.expected),
                place: is_own.then_some((error.position, error.found)),
            }));
        }
    };
    let body = Search {
        query,
        limit: Some(asked.size().into()),
        look_at: Some(LOOK_AT),
        cursor: asked.cursor().map(str::to_owned),
    };
    let found = search::search(State(view.app.clone()), view.caller.clone(), Body(body)).await;
    let found = match found {
        Ok(found) => found.0,
        Err(problem) if problem.retry_after.is_some() && !problem.is_outage() => {
            return Ok(Err(Refused::Budget(problem)));
        }
        Err(problem) => return Err(problem),
    };
    Ok(Ok(Part {
        tasks: found.tasks,
        next: found.cursor,
        search: Some(Extent {
            looked_at: asked.looked.unwrap_or(0).saturating_add(found.looked_at),
            undecided: found.undecided,
            is_complete: found.complete,
        }),
    }))
}

async fn list(view: &View, queue: &str, asked: &Asked, state: InState) -> Result<Part> {
    let list = ListTasks {
        state,
        group: asked.group().map(str::to_owned),
        size: Some(asked.size().into()),
        cursor: asked.cursor().map(str::to_owned),
        page: None,
    };
    let (app, caller) = (view.app.clone(), view.caller.clone());
    let list = tasks::list(State(app), caller, Path(queue.to_owned()), Query(list))
        .await?
        .0;
    Ok(Part {
        tasks: list.tasks,
        next: list.next_cursor,
        search: None,
    })
}
