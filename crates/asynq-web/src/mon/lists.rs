//! Lists of tasks, and one task.

use std::collections::HashMap;

use asynq::{
    TaskInfo, TaskState,
    error::{BrokerError, Error},
    info::WorkerInfo,
    inspect::ListFilter,
};
use axum::{
    extract::{Query, State},
    http::{StatusCode, Uri},
    response::Response,
};
use futures::future::{join, join3};
use serde::Serialize;

use super::{
    answer::json,
    fault::{Fault, Result},
    records::{Group, ListedTask, Snapshot, Task},
    shown::{Shown, seconds},
};
use crate::{app::App, extract::Path, guard::Caller};

/// Tasks that are read at once. What is shown of them is kept, their payloads are not.
const PART: u32 = 100;

/// The largest page.
const LARGEST: u32 = 10_000;

/// The page of a list that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) number: u32,
    pub(super) size: u32,
}

impl Page {
    /// Reads the parameters `size` and `page`. Texts that are no numbers are ignored, numbers out of range are moved into it.
    pub(super) fn of(uri: &Uri) -> Self {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
        let number = |name: &str, default: u32, largest: u32| {
            let text = pairs.iter().find(|(key, _)| key == name).map(|(_, text)| text);
            let number = text.and_then(|text| text.parse::<i64>().ok());
            number.map_or(default, |number| {
                u32::try_from(number.clamp(1, i64::from(largest))).unwrap_or(largest)
            })
        };
        Self {
            number: number("page", 1, u32::MAX),
            size: number("size", 20, LARGEST),
        }
    }

    /// The pages of at most [`PART`] items that have those of this one, each with the items of it to take.
    fn parts(self) -> Vec<(Self, std::ops::Range<u64>)> {
        let size = u64::from(self.size);
        let start = u64::from(self.number - 1) * size;
        if self.size <= PART {
            return vec![(self, 0..size)];
        }
        let (part, end) = (u64::from(PART), start + size);
        let pages = start / part..end.div_ceil(part);
        let range = |page: u64| start.saturating_sub(page * part)..end.min((page + 1) * part) - page * part;
        let page = |page: u64| u32::try_from(page + 1).ok().map(|number| Self { number, size: PART });
        pages
            .filter_map(|number| Some((page(number)?, range(number))))
            .collect()
    }
}

/// Reads a page of tasks.
async fn read(app: &App, queue: &str, tasks: &ListFilter, page: Page, shown: Shown<'_>) -> Result<Vec<ListedTask>> {
    let _read = app.budgets.read(&shown.caller.user().name)?;
    let mut records = Vec::new();
    for (part, range) in page.parts() {
        let listed = match tasks {
            ListFilter::State(state) => app.inspector.list_tasks(queue, *state, part.number, part.size).await,
            ListFilter::Group(group) => {
                app.inspector
                    .list_group(queue, group.as_str(), part.number, part.size)
                    .await
            }
        };
        let listed = listed.map_err(|error| Fault::of_task("list", error))?;
        let is_last = listed.len() < part.size as usize;
        let numbered = (0..).zip(&listed);
        let wanted = numbered.filter(|(number, _)| range.contains(number));
        records.extend(wanted.map(|(_, task)| ListedTask::of(task, shown)));
        if is_last {
            break;
        }
    }
    Ok(records)
}

#[derive(Serialize)]
struct ActiveAnswer {
    tasks: Vec<ListedTask>,
    stats: Snapshot,
}

pub(super) async fn active(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    let filter = ListFilter::State(TaskState::Active);
    let (tasks, stats, servers) = join3(
        read(&app, &queue, &filter, Page::of(&uri), shown),
        app.inspector.get_queue_stats(&queue),
        app.readings.servers(),
    )
    .await;
    let (mut tasks, stats) = (tasks?, stats.map_err(Fault::of_queue)?);
    let servers = servers.map_err(Fault::of_problem)?;
    let of_queue = servers.1.iter().filter(|worker| worker.queue.as_str() == queue);
    let runs: HashMap<&str, &WorkerInfo> = of_queue.map(|worker| (worker.task_id.as_str(), worker)).collect();
    for task in &mut tasks {
        if let Some(run) = runs.get(task.id.as_str()) {
            task.start_time = Some(seconds(run.start_time));
            task.deadline = Some(seconds(run.deadline));
        }
    }
    json(&ActiveAnswer {
        tasks,
        stats: stats.into(),
    })
}

#[derive(Serialize)]
struct ListAnswer {
    stats: Snapshot,
    tasks: Vec<ListedTask>,
}

async fn list(app: App, caller: Caller, queue: String, state: TaskState, uri: Uri) -> Result<Response> {
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    let filter = ListFilter::State(state);
    let (tasks, stats) = join(
        read(&app, &queue, &filter, Page::of(&uri), shown),
        app.inspector.get_queue_stats(&queue),
    )
    .await;
    json(&ListAnswer {
        tasks: tasks?,
        stats: stats.map_err(Fault::of_queue)?.into(),
    })
}

pub(super) async fn pending(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    list(app, caller, queue, TaskState::Pending, uri).await
}

pub(super) async fn scheduled(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    list(app, caller, queue, TaskState::Scheduled, uri).await
}

pub(super) async fn retry(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    list(app, caller, queue, TaskState::Retry, uri).await
}

pub(super) async fn archived(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    list(app, caller, queue, TaskState::Archived, uri).await
}

pub(super) async fn completed(
    State(app): State<App>,
    caller: Caller,
    Path(queue): Path<String>,
    uri: Uri,
) -> Result<Response> {
    list(app, caller, queue, TaskState::Completed, uri).await
}

#[derive(Serialize)]
struct AggregatingAnswer {
    groups: Vec<Group>,
    stats: Snapshot,
    tasks: Vec<ListedTask>,
}

pub(super) async fn aggregating(
    State(app): State<App>,
    caller: Caller,
    Path((queue, group)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response> {
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    let tasks = async {
        let filter = ListFilter::Group(super::acts::group(&group)?);
        read(&app, &queue, &filter, Page::of(&uri), shown).await
    };
    let (tasks, stats, groups) = join3(
        tasks,
        app.inspector.get_queue_stats(&queue),
        app.inspector.list_groups(&queue),
    )
    .await;
    json(&AggregatingAnswer {
        tasks: tasks?,
        stats: stats.map_err(Fault::of_queue)?.into(),
        groups: Group::all(groups.map_err(Fault::of_queue)?),
    })
}

pub(super) async fn task(
    State(app): State<App>,
    caller: Caller,
    Path((queue, id)): Path<(String, String)>,
) -> Result<Response> {
    let shown = Shown {
        app: &app,
        caller: &caller,
    };
    match app.inspector.get_task_info(&queue, &id).await {
        Ok(task) => json(&Task::of(&task, shown)),
        Err(error) => Err(missing(error)),
    }
}

fn missing(error: Error) -> Fault {
    match error {
        Error::Broker(BrokerError::QueueNotFound { .. }) => Fault::new(StatusCode::NOT_FOUND, "queue not found"),
        Error::Broker(BrokerError::TaskNotFound { .. }) => Fault::new(StatusCode::NOT_FOUND, "task not found"),
        error => Fault::other("", error),
    }
}

/// The tasks of a list, whose pages are read to the end.
pub(super) async fn all_active(app: &App, queue: &str) -> Result<Vec<TaskInfo>> {
    let mut tasks = Vec::new();
    for number in 1.. {
        let page = app.inspector.list_tasks(queue, TaskState::Active, number, PART).await;
        let page = page.map_err(|error| Fault::of_task("list", error))?;
        let is_last = page.len() < PART as usize;
        tasks.extend(page);
        if is_last {
            break;
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> (u32, u32) {
        let page = Page::of(&format!("/queues?{query}").parse().unwrap());
        (page.number, page.size)
    }

    #[test]
    fn pages_of_any_number_are_read() {
        for (query, expected) in [
            ("", (1, 20)),
            ("page=2&size=5", (2, 5)),
            ("page=0&size=0", (1, 1)),
            ("page=-1&size=-1", (1, 1)),
            ("page=x&size=", (1, 20)),
            ("page=9223372036854775807&size=9223372036854775807", (u32::MAX, 10_000)),
            ("page=9223372036854775808&size=9223372036854775808", (1, 20)),
            ("page=1&page=2", (1, 20)),
            ("page=%zz&size=%ff", (1, 20)),
            ("&&=&page", (1, 20)),
        ] {
            assert_eq!(page(query), expected, "{query}");
        }
    }

    #[test]
    fn large_pages_are_read_in_parts() {
        let items = |number, size| -> Vec<u64> {
            let parts = Page { number, size }.parts();
            let items = parts.into_iter().flat_map(|(part, range)| {
                assert!(part.size <= PART && range.end <= u64::from(part.size));
                let start = u64::from(part.number - 1) * u64::from(part.size);
                range.map(move |item| start + item)
            });
            items.collect()
        };
        for (number, size) in [
            (1, 1),
            (3, 20),
            (1, 100),
            (1, 101),
            (2, 101),
            (7, 150),
            (3, 200),
            (2, 997),
            (1, 10_000),
        ] {
            let start = u64::from(number - 1) * u64::from(size);
            assert_eq!(
                items(number, size),
                (start..start + u64::from(size)).collect::<Vec<_>>()
            );
        }
        // Such a place is behind the end of any list.
        assert_eq!(items(u32::MAX, 10_000), Vec::<u64>::new());
    }
}
