//! Acts on many tasks of the list: the bar that appears with the first selected one, and the dialog before the act.

use maud::{Markup, html};

use super::asked::Asked;
use crate::pages::{
    parts::{act::reason_field, icon::icon},
    view::View,
};

/// Returns the bar and the dialog. `query` finds the tasks of this page and of those after it.
pub(crate) fn bulk(view: &View, queue: &str, asked: &Asked, query: &str) -> Markup {
    let button = |act: &str| match act {
        "run" => html! { button type="button" class="button" data-bulk="run" { (icon("play")) "Run" } },
        "archive" => html! { button type="button" class="button" data-bulk="archive" { (icon("archive")) "Archive" } },
        _ => html! { button type="button" class="button bad" data-bulk="delete" { (icon("delete")) "Delete" } },
    };
    html! {
        div id="bulk" class="bulk" role="region" aria-label="Selected tasks" data-queue=(queue) data-query=(query) hidden {
            p role="status" { strong id="bulk-count" {} " " span id="bulk-words" {} }
            button type="button" class="link" id="bulk-clear" { "Clear" }
            button type="button" class="link" id="bulk-all" { "Select all tasks that match" }
            div class="row" {
                @for act in asked.state.acts() { (button(act)) }
            }
        }
        dialog id="bulk-dialog" aria-labelledby="bulk-title" data-preview=(view.link("api/v1/acts/preview")) data-search=(view.link("api/v1/tasks/search")) {
            form hx-ext="api" hx-post=(view.link("api/v1/acts")) hx-swap="none" data-acts=(view.link("acts")) {
                h2 id="bulk-title" {}
                p id="bulk-effect" {}
                div id="bulk-preview" class="preview" role="status" aria-live="polite" {}
                p class="notice bad" role="alert" data-problem hidden {}
                input type="hidden" name="act";
                input type="hidden" name="query" data-skip-empty;
                input type="hidden" name="tasks" data-type="json" data-skip-empty;
                input type="hidden" name="confirm" data-type="number" data-skip-empty;
                label class="field" {
                    span { "Tasks per second " span class="hint" { "(empty: as many as possible)" } }
                    input type="number" name="rate" min="1" max="1000000" step="1" inputmode="numeric" data-type="number" data-skip-empty;
                }
                (reason_field(view))
                label class="field" id="bulk-typed-field" hidden {
                    span { "Type " code { (queue) } " to confirm" }
                    input id="bulk-typed" autocomplete="off" spellcheck="false";
                }
                div class="dialog-acts" {
                    button type="button" class="button" data-close { "Cancel" }
                    button class="button primary" id="bulk-go" { "Do it" }
                }
            }
        }
    }
}
