//! The dialog that enqueues a task by hand.

use maud::{Markup, html};

use crate::pages::{parts::act::reason_field, view::View};

/// Returns the dialog.
pub(crate) fn dialog(view: &View, queue: &str, types: &[String]) -> Markup {
    html! {
        dialog id="enqueue" class="wide" aria-labelledby="enqueue-title" {
            form hx-ext="api" hx-post=(view.queue_act(queue, "/tasks")) hx-swap="none" data-done="The task is enqueued." data-enqueue {
                h2 id="enqueue-title" { "Enqueue a task in " (queue) }
                p class="notice bad" role="alert" data-problem hidden {}
                label class="field" {
                    span { "Type" }
                    input name="type" required maxlength="1024" list="enqueue-types" autocomplete="off" spellcheck="false" placeholder="email:send";
                }
                datalist id="enqueue-types" { @for name in types { option value=(name) {} } }
                // JSON is sent as the text that is written, so that large numbers keep their digits.
                input type="hidden" name="payload.encoding" value="text";
                div class="field" {
                    div class="field-head" {
                        label for="enqueue-payload" { "Payload" }
                        select data-payload-kind aria-label="Form of the payload" { option value="json" { "JSON" } option value="text" { "Text" } }
                    }
                    textarea id="enqueue-payload" class="code" name="payload.value" rows="6" spellcheck="false" { "{}" }
                }
                details {
                    summary { "Options" }
                    div class="field-grid" {
                        (field("Run at", "options.process_at", "datetime-local", "time", "Your time zone. Empty: now"))
                        (field("Or run in, seconds", "options.process_in_seconds", "number", "number", "0"))
                        (field("Largest number of retries", "options.max_retry", "number", "number", "25"))
                        (field("Timeout, seconds", "options.timeout_seconds", "number", "number", "1800"))
                        (field("Deadline", "options.deadline", "datetime-local", "time", "None"))
                        (field("Keep the result, seconds", "options.retention_seconds", "number", "number", "0"))
                        (field("Unique for, seconds", "options.unique_seconds", "number", "number", "Not unique"))
                        (field("Id", "options.id", "text", "text", "A random one"))
                        (field("Group", "options.group", "text", "text", "None"))
                    }
                }
                (reason_field(view))
                div class="dialog-acts" {
                    button type="button" class="button" data-close { "Cancel" }
                    button class="button primary" { "Enqueue" }
                }
            }
        }
    }
}

fn field(label: &str, name: &str, input: &str, kind: &str, placeholder: &str) -> Markup {
    let is_number = input == "number";
    html! {
        label class="field" {
            span { (label) }
            input name=(name) type=(input) min=[is_number.then_some("0")] step=[is_number.then_some("1")] data-type=(kind) data-skip-empty placeholder=(placeholder) autocomplete="off";
        }
    }
}
