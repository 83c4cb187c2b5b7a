//! Words, numbers and marks in a line.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::{format, icon::icon};
use crate::pages::view::View;

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Neutral,
    Info,
    Good,
    Warning,
    Bad,
}

impl Tone {
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Info => "info",
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Returns a word in a box.
pub(crate) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (text) } }
}

/// Returns the state of a task, in the colour that it has everywhere.
pub(crate) fn state(state: &str) -> Markup {
    html! { span class={ "state state-" (state) } { (state) } }
}

/// Returns a number, for a column of numbers.
pub(crate) fn number(number: u64) -> Markup {
    html! { span class=(if number == 0 { "num zero" } else { "num" }) { (format::number(number)) } }
}

/// Returns a time: its distance from now, with the time itself in its title.
pub(crate) fn time(view: &View, at: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(at.to_rfc3339()) title=(view.settings.absolute(at)) { (format::relative(at, view.now)) }
    }
}

/// Returns a time in full, with its distance from now in its title.
pub(crate) fn moment(view: &View, at: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(at.to_rfc3339()) title=(format::relative(at, view.now)) { (view.settings.absolute(at)) }
    }
}

/// Returns a time, or a dash.
pub(crate) fn time_or_dash(view: &View, at: Option<DateTime<Utc>>) -> Markup {
    match at {
        Some(at) => time(view, at),
        None => dash(),
    }
}

/// Returns the sign for a value that there is not.
pub(crate) fn dash() -> Markup {
    html! { span class="zero" aria-label="none" { "–" } }
}

/// Longest id that is shown in full.
const LONGEST_ID: usize = 13;

/// Returns the beginning of a long id.
pub(crate) fn short_id(id: &str) -> String {
    let mut chars = id.char_indices();
    match chars.nth(LONGEST_ID) {
        // A UUID is known by its first group.
        Some(_) if id.len() == 36 && id.as_bytes()[8] == b'-' => id.get(..8).unwrap_or(id).to_owned(),
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
}

/// Returns a shortened id as a link, with a button that copies it in full.
pub(crate) fn id_link(href: &str, id: &str) -> Markup {
    html! {
        span class="id" {
            a href=(href) title=(id) data-open-row { (short_id(id)) }
            (copy_button(id, "Copy the id"))
        }
    }
}

/// Returns a shortened id with a button that copies it in full.
pub(crate) fn id(id: &str) -> Markup {
    html! {
        span class="id" {
            code title=(id) { (short_id(id)) }
            (copy_button(id, "Copy the id"))
        }
    }
}

/// Returns a button that copies a text. Without JavaScript it is not shown.
pub(crate) fn copy_button(text: &str, label: &str) -> Markup {
    html! {
        button type="button" class="copy needs-js" data-copy=(text) aria-label=(label) title=(label) { (icon("copy")) }
    }
}

/// Returns a command for a shell, with a button that copies it.
pub(crate) fn command(view: &View, command: &str) -> Markup {
    let command = &view.in_shell(command);
    html! {
        span class="command" {
            code { (command) }
            (copy_button(command, "Copy the command"))
        }
    }
}

/// Returns the place of something that is not there.
pub(crate) fn empty(title: &str, hint: &str) -> Markup {
    html! {
        div class="empty" {
            p class="empty-title" { (title) }
            p { (hint) }
        }
    }
}

/// Returns a box with a message.
pub(crate) fn notice(tone: Tone, text: &Markup) -> Markup {
    html! { div class={ "notice " (tone.class()) } role=(if tone == Tone::Bad { "alert" } else { "note" }) { (text) } }
}

/// Returns a key of the keyboard.
pub(crate) fn key(name: &str) -> Markup {
    html! { kbd { (name) } }
}

/// A figure with its name, for the top of a page.
pub(crate) fn figure(label: &str, value: &Markup, below: &Markup) -> Markup {
    html! {
        div class="figure" {
            dt { (label) }
            dd { span class="figure-value" { (value) } span class="figure-below" { (below) } }
        }
    }
}

/// Returns the head of a column by which the rows can be sorted. `sort` is the current order: a name, with a `-` before it for
/// the largest first.
pub(crate) fn sort_head(view: &View, label: &str, name: &str, sort: &str, is_number: bool) -> Markup {
    let falling = format!("-{name}");
    let (order, next) = match sort {
        sort if sort == name => (Some("ascending"), falling.as_str()),
        sort if sort == falling => (Some("descending"), name),
        // The largest numbers are what one looks for.
        _ if is_number => (None, falling.as_str()),
        _ => (None, name),
    };
    html! {
        th scope="col" class=[is_number.then_some("num")] aria-sort=[order] {
            a class="sort" href=(view.with(&[("sort", next), ("page", "")])) {
                (label)
                @match order {
                    Some("ascending") => span aria-hidden="true" { " ↑" },
                    Some(_) => span aria-hidden="true" { " ↓" },
                    None => {},
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_cut_at_characters() {
        assert_eq!(short_id("5e1a9f0c-8a36-4c51-9a1a-62dbd44ea14b"), "5e1a9f0c");
        assert_eq!(short_id("order-4711"), "order-4711");
        assert_eq!(short_id(&"é".repeat(20)), format!("{}…", "é".repeat(13)));
        assert_eq!(short_id("ééééééé-ééééééééééééé"), "ééééééé-ééééé…");
    }
}
