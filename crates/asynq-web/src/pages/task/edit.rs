//! The dialogs that copy a task with changes, and that replace its payload.

use maud::{Markup, html};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    acts::end,
    subject::{Subject, command},
};
use crate::{
    pages::parts::{act::reason_field, data::escaped_len, format},
    records::json,
};

/// Longest text of a payload that can be edited on the page, in bytes of HTML.
const LONGEST: usize = 40 << 10;

/// A payload as it is edited.
struct Source {
    /// `json`, `text` or `base64`.
    kind: &'static str,
    text: String,
    /// It has no blanks between its parts, and gets none by an edit.
    is_compact: bool,
}

impl Source {
    /// Returns the payload as a text that stands for exactly these bytes. `None` if it is too long.
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > LONGEST {
            return None;
        }
        // A field of a form changes the ends of lines, and holds no zero.
        let text = str::from_utf8(bytes).ok().filter(|text| !text.contains(['\r', '\0']));
        let source = match text {
            Some(text) if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() => {
                let is_compact = json::compact(text) == text;
                let text = if is_compact {
                    json::indented(text)
                } else {
                    text.to_owned()
                };
                Self {
                    kind: "json",
                    text,
                    is_compact,
                }
            }
            Some(text) => Self {
                kind: "text",
                text: text.to_owned(),
                is_compact: false,
            },
            None => Self {
                kind: "base64",
                text: BASE64_STANDARD.encode(bytes),
                is_compact: false,
            },
        };
        (source.text.chars().map(escaped_len).sum::<usize>() <= LONGEST).then_some(source)
    }
}

/// Returns both dialogs, and the payload that they begin with.
pub(super) fn dialogs(subject: &Subject<'_>) -> Markup {
    if !subject.may_act() {
        return html! {};
    }
    let source = match subject.hidden {
        Some(_) => Some(Source {
            kind: "json",
            text: String::new(),
            is_compact: false,
        }),
        None => Source::of(&subject.task.payload),
    };
    html! {
        @if let Some(source) = &source {
            // The parser drops the first line break.
            textarea id="payload-source" data-kind=(source.kind) data-compact[source.is_compact] hidden disabled aria-hidden="true" { "\n" (source.text) }
        }
        (edit(subject, source.is_some()))
        (copy(subject, source.is_some()))
    }
}

fn edit(subject: &Subject<'_>, can_edit: bool) -> Markup {
    let command = format!(
        "{} --payload-file=FILE",
        command("edit", subject.queue_name(), subject.id())
    );
    html! {
        dialog id="edit-dialog" class="wide" aria-labelledby="edit-title" {
            form hx-ext="api" hx-put=(subject.act("/payload")) hx-swap="none" data-go=(subject.link("")) {
                h2 id="edit-title" { "Edit the payload" }
                @if can_edit {
                    (editor(subject, false))
                    (reason_field(subject.view))
                    (end(subject.view, &command, "Save", "primary"))
                } @else {
                    (too_long(subject))
                    p class="dialog-command" { "In a shell: " code { (subject.view.in_shell(&command)) } }
                    div class="dialog-acts" { button type="button" class="button" data-close { "Close" } }
                }
            }
        }
    }
}

fn copy(subject: &Subject<'_>, can_edit: bool) -> Markup {
    let task = &subject.task;
    html! {
        dialog id="copy-dialog" class="wide" aria-labelledby="copy-title" {
            form hx-ext="api" hx-post=(subject.act("/copy")) hx-swap="none" data-go=(subject.view.link("queues/{queue}/tasks/{id}")) {
                h2 id="copy-title" { "Copy this task" }
                p class="hint" { "The copy is a new task with the same options, but without the unique lock. This task does not change." }
                div class="form-pair" {
                    label class="field" { span { "Queue" } input name="queue" value=(subject.queue_name()) required autocomplete="off" spellcheck="false"; }
                    label class="field" { span { "Type" } input name="type" value=(task.task_type) required autocomplete="off" spellcheck="false"; }
                    label class="field" {
                        span { "First run " span class="hint" { "(empty: at once)" } }
                        input type="datetime-local" name="options.process_at" step="1" data-type="time" data-skip-empty;
                    }
                    label class="field" {
                        span { "Id " span class="hint" { "(empty: a random one)" } }
                        input name="options.id" autocomplete="off" spellcheck="false" data-skip-empty;
                    }
                }
                @if can_edit { (editor(subject, true)) } @else { (too_long(subject)) }
                (reason_field(subject.view))
                (end(subject.view, &command("copy", subject.queue_name(), subject.id()), "Copy", "primary"))
            }
        }
    }
}

/// The field of a payload. That of a copy is closed until it is asked for, so that the bytes of the original are kept.
fn editor(subject: &Subject<'_>, is_closed: bool) -> Markup {
    html! {
        div class="editor" data-editor {
            @if is_closed {
                label class="choice" { input type="checkbox" data-editor-open; span { "Change the payload" } }
            }
            div data-editor-body hidden[is_closed] {
                @if subject.hidden.is_some() {
                    p class="notice" { "The payload is hidden from you. What you write replaces it." }
                }
                div class="editor-head" {
                    label { "Payload as " select data-editor-kind disabled[is_closed] aria-label="Form of the payload" {
                        option value="json" { "JSON" } option value="text" { "text" } option value="base64" { "Base64" }
                    } }
                    span class="hint" data-editor-place {}
                }
                textarea class="code" rows="12" data-editor-text disabled[is_closed] spellcheck="false" autocomplete="off" aria-label="Payload" {}
                p class="notice bad" data-editor-problem role="alert" hidden {}
                // The text goes as it is written, so that numbers keep all their digits.
                input type="hidden" name="payload.encoding" value="text" disabled[is_closed];
                input type="hidden" name="payload.value" value="" disabled[is_closed];
            }
        }
    }
}

fn too_long(subject: &Subject<'_>) -> Markup {
    html! {
        p class="notice" {
            "The payload has " (format::bytes(subject.task.payload.len() as u64)) ", too much to edit on a page. A copy keeps it as it is."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_payload_is_edited_in_a_form_that_keeps_its_bytes() {
        for (bytes, kind, text, is_compact) in [
            (
                &br#"{"a":12345678901234567890123}"#[..],
                "json",
                "{\n  \"a\": 12345678901234567890123\n}",
                true,
            ),
            (b"{ \"a\": 1 }", "json", "{ \"a\": 1 }", false),
            (b"hello", "text", "hello", false),
            (b"a\r\nb", "base64", "YQ0KYg==", false),
            (b"\xff\x00", "base64", "/wA=", false),
            (b"", "text", "", false),
        ] {
            let source = Source::of(bytes).unwrap();
            assert_eq!(
                (source.kind, source.text.as_str(), source.is_compact),
                (kind, text, is_compact)
            );
        }
        assert!(Source::of(&[b'"'; 20_000]).is_none());
        assert!(Source::of(&vec![b'a'; LONGEST + 1]).is_none());
    }
}
