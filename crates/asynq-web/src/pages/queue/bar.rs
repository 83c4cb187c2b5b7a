//! The bar above the list of tasks: the query, the saved views, the columns.

use maud::{Markup, html};

use super::{
    asked::{Asked, LONGEST_QUERY, from_start},
    columns::Column,
    found::Refused,
};
use crate::pages::{parts::icon::icon, view::View};

/// Returns the bar. `refused` is the reason why the query is not answered.
pub(crate) fn bar(view: &View, queue: &str, asked: &Asked, refused: Option<&Refused>) -> Markup {
    let fault = match refused {
        Some(Refused::Query { fault, place }) => Some((fault, place)),
        _ => None,
    };
    html! {
        div class="query-bar" {
            form class="query" method="get" role="search" data-keep {
                @for (name, value) in view.parameters(&["q", "cursor", "looked"]) { input type="hidden" name=(name) value=(value); }
                div class="query-field" {
                    (icon("search"))
                    input id="query" type="search" name="q" value=(asked.q) aria-label="Query" maxlength=(LONGEST_QUERY)
                        placeholder="type=email:send error~timeout age>1h payload.user_id=42"
                        autocomplete="off" autocapitalize="off" spellcheck="false" data-filter
                        role="combobox" aria-expanded="false" aria-controls="suggestions" aria-autocomplete="list"
                        aria-invalid=[fault.is_some().then_some("true")] aria-describedby=[fault.is_some().then_some("query-fault")]
                        hx-get=(view.queue_link(queue).as_str().to_owned() + "/suggestions") hx-trigger="suggest" hx-target="#suggestions" hx-sync="this:replace";
                    ul id="suggestions" role="listbox" aria-label="Suggestions" hidden {}
                }
                button class="button" { "Search" }
                @if !asked.query().is_empty() { a class="button quiet" href=(from_start(view, &[("q", "")])) aria-label="Clear the query" title="Clear the query" { (icon("close")) } }
            }
            (views())
            (columns(view, asked))
        }
        @if let Some((fault, place)) = fault { (wrong(asked.query(), fault, place.as_ref())) }
    }
}

/// Returns a refusal of a query, with the place of the fault marked in it.
fn wrong(query: &str, fault: &str, place: Option<&(usize, String)>) -> Markup {
    html! {
        div id="query-fault" class="notice bad" role="alert" {
            @if let Some((position, found)) = place {
                @let before: String = query.chars().take(*position).collect();
                @let after: String = query.chars().skip(position + found.chars().count()).collect();
                p { code class="query-fault" { (before) mark { @if found.is_empty() { "⎵" } @else { (found) } } (after) } }
            }
            p { (fault) }
        }
    }
}

/// Returns the menu of saved views. The script fills it from the memory of the browser.
fn views() -> Markup {
    html! {
        details class="drop needs-js" data-menu data-keep {
            summary class="button" { "Views " (icon("down")) }
            div class="drop-box" {
                p class="drop-title" { "Saved views" }
                ul id="views" {}
                p id="views-none" class="hint" { "None yet. A view is a state, a query and columns; it fits every queue." }
                form id="views-form" class="drop-form" {
                    input name="name" aria-label="Name of the view" placeholder="Name of this view" maxlength="60" required autocomplete="off";
                    button class="button" { "Save" }
                }
            }
        }
    }
}

fn columns(view: &View, asked: &Asked) -> Markup {
    let chosen = Column::chosen(view, asked.state);
    html! {
        details class="drop" data-menu {
            summary class="button" { "Columns " (icon("down")) }
            form class="drop-box" method="get" {
                @for (name, value) in view.parameters(&["c"]) { input type="hidden" name=(name) value=(value); }
                fieldset class="drop-columns" {
                    legend class="drop-title" { "Columns" }
                    @for column in Column::ALL {
                        label class="choice" { input type="checkbox" name="c" value=(column.as_str()) checked[chosen.contains(&column)]; span { (column.label()) } }
                    }
                }
                p class="row" {
                    button class="button primary" { "Show" }
                    a class="button quiet" href=(view.with(&[("c", "")])) { "Those that fit the state" }
                }
            }
        }
    }
}
