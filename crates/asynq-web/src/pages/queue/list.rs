//! The list of tasks: how far it reaches, its rows, and the ways on.

use maud::{Markup, html};

use super::{
    asked::{Asked, SIZES, Tab, from_start},
    columns::{Column, Runners, cut},
    found::{Extent, Part, Refused},
};
use crate::{
    pages::{
        parts::{
            format,
            text::{Tone, badge, copy_button, empty, short_id},
        },
        view::View,
    },
    records::{QueueRecord, TaskRecord},
};

/// A list with the page around it.
#[derive(Debug)]
pub(crate) struct List<'a> {
    pub(crate) view: &'a View,
    pub(crate) asked: &'a Asked,
    pub(crate) queue: &'a QueueRecord,
    pub(crate) runners: &'a Runners,
    /// The user may act on the tasks.
    pub(crate) may_act: bool,
}

impl List<'_> {
    pub(crate) fn markup(&self, read: &Result<Part, Refused>) -> Markup {
        let part = match read {
            Ok(part) => part,
            Err(refused) => return self.refused(refused),
        };
        html! {
            @if let Some(extent) = part.search.filter(|_| !self.asked.query().is_empty()) { (self.extent(part, extent)) }
            @if part.tasks.is_empty() { (self.nothing(part)) } @else { (self.table(&part.tasks)) }
            (self.pager(part))
        }
    }

    fn refused(&self, refused: &Refused) -> Markup {
        match refused {
            // The bar shows what is wrong.
            Refused::Query { .. } => empty(
                "The query cannot be read",
                "Mend it above. The tabs show the tasks without it.",
            ),
            Refused::Budget(problem) => html! {
                div class="notice warning" role="alert" {
                    p { (problem.detail) ". Try again in " (problem.retry_after.unwrap_or(1)) " seconds." }
                    @if let Some(cursor) = &problem.cursor { p { a href=(self.view.with(&[("cursor", cursor)])) { "Go on from here" } } }
                }
            },
        }
    }

    /// Number of tasks that the list can show at most.
    fn size(&self) -> u64 {
        count(self.queue, self.asked.state)
    }

    fn extent(&self, part: &Part, extent: Extent) -> Markup {
        let (found, size) = (part.tasks.len(), self.size());
        html! {
            p class="extent" role="status" {
                @if extent.is_complete && self.asked.cursor().is_none() {
                    strong { (format::number(found as u64)) } (if found == 1 { " task meets" } else { " tasks meet" }) " the query. Looked at all " (format::number(extent.looked_at)) "."
                } @else if extent.is_complete {
                    "The end of the search. Looked at " (format::number(extent.looked_at)) " tasks."
                } @else {
                    strong { (format::number(found as u64)) " found" } " so far on this page. Looked at " (format::number(extent.looked_at)) " of about " (format::number(size.max(extent.looked_at))) " tasks."
                    @if let Some(next) = &part.next { " " a href=(self.next_link(part, next)) rel="next" { "Go on searching" } }
                }
                @if extent.undecided > 0 {
                    " " span class="hint" title="A value is not known, cannot be read, or is hidden from you." { (format::number(extent.undecided)) " could not be decided." }
                }
            }
        }
    }

    fn nothing(&self, part: &Part) -> Markup {
        if part.next.is_some() {
            return empty(
                "Nothing found yet",
                "The search has not looked at all tasks. Go on to look further.",
            );
        }
        if !self.asked.query().is_empty() {
            return empty("No task meets the query", "Try fewer conditions, or another state.");
        }
        if self.asked.cursor().is_some() {
            return empty("No more tasks", "This is the end of the list.");
        }
        match self.asked.state {
            Tab::All => empty(
                "This queue has no tasks",
                "Tasks that have succeeded are kept only if they have a retention.",
            ),
            Tab::Active => empty("No task runs now", "A task is active while a server runs its handler."),
            Tab::Pending => empty("No task waits", "Servers take the tasks as fast as they come."),
            Tab::Aggregating => empty(
                "No task waits in a group",
                "Tasks that are enqueued with a group wait here to become one task.",
            ),
            Tab::Scheduled => empty(
                "No task is scheduled",
                "Tasks that are enqueued for a later time wait here.",
            ),
            Tab::Retry => empty(
                "No task waits for a retry",
                "Tasks that have failed wait here until they are tried again.",
            ),
            Tab::Archived => empty(
                "No archived tasks",
                "Tasks that have failed for the last time are kept here.",
            ),
            Tab::Completed => empty(
                "No completed tasks",
                "Tasks that succeed are kept here if they have a retention.",
            ),
        }
    }

    fn table(&self, tasks: &[TaskRecord]) -> Markup {
        let columns = Column::chosen(self.view, self.asked.state);
        html! {
            div class="table-box" tabindex="0" role="region" aria-label="Tasks" {
                table class="tasks" data-rows {
                    thead { tr {
                        @if self.may_act {
                            th scope="col" class="select" { input type="checkbox" class="needs-js" data-select-page aria-label="Select all tasks of this page"; }
                        }
                        th scope="col" { "Id" }
                        @for column in &columns { th scope="col" class=[column.class()] { (column.label()) } }
                    } }
                    tbody { @for task in tasks { (self.row(task, &columns)) } }
                }
            }
        }
    }

    fn row(&self, task: &TaskRecord, columns: &[Column]) -> Markup {
        let link = self.view.task_link(&task.queue, &task.id);
        html! {
            tr id={ "task-" (task.id) } {
                @if self.may_act {
                    td class="select" { input type="checkbox" class="needs-js" data-select value=(task.id) data-type=(cut(&task.task_type, 60)) aria-label={ "Select the task " (short_id(&task.id)) }; }
                }
                th scope="row" {
                    span class="row nowrap" {
                        span class="id" { a href=(link) title=(task.id) data-open-row { (short_id(&task.id)) } (copy_button(&task.id, "Copy the id")) }
                        @if let Some(damage) = &task.damage { span title=(cut(damage, 240)) { (badge(Tone::Bad, "damaged")) } }
                        @if task.is_orphaned && !columns.contains(&Column::State) { (badge(Tone::Bad, "orphaned")) }
                    }
                }
                @for column in columns {
                    td class=[column.class()] { (column.cell(self.view, task, self.runners)) }
                }
            }
        }
    }

    fn next_link(&self, part: &Part, next: &str) -> String {
        let looked = part.search.map(|extent| extent.looked_at.to_string());
        self.view
            .with(&[("cursor", next), ("looked", looked.as_deref().unwrap_or_default())])
    }

    fn pager(&self, part: &Part) -> Markup {
        let is_first = self.asked.cursor().is_none();
        if is_first && part.next.is_none() && part.tasks.len() <= SIZES[0] as usize {
            return html! {};
        }
        html! {
            nav class="pager" aria-label="Pages of the list" {
                @if !is_first { a class="button" rel="first" href=(from_start(self.view, &[])) { "First page" } }
                @if let Some(next) = &part.next { a class="button" rel="next" href=(self.next_link(part, next)) { "Next page" } }
                span class="pager-sizes" {
                    "Rows "
                    @for size in SIZES {
                        @if size == self.asked.size() { strong { (size) } } @else { a href=(from_start(self.view, &[("size", &size.to_string())])) { (size) } }
                        " "
                    }
                }
            }
        }
    }
}

/// Returns the number of tasks of a tab.
pub(crate) fn count(queue: &QueueRecord, tab: Tab) -> u64 {
    match tab {
        Tab::All => queue.size,
        Tab::Active => queue.active,
        Tab::Pending => queue.pending,
        Tab::Aggregating => queue.aggregating,
        Tab::Scheduled => queue.scheduled,
        Tab::Retry => queue.retry,
        Tab::Archived => queue.archived,
        Tab::Completed => queue.completed,
    }
}
