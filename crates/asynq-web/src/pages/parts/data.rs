//! Payloads and results: JSON and MessagePack laid out and coloured, any other text, and bytes. Bounded, and folded when long.

mod text;
mod tokens;

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use maud::{Markup, html};

use self::text::Text;
pub(crate) use self::text::escaped_len;
use super::{format, icon::icon, text::copy_button};
use crate::{
    pages::view::View,
    records::{Data, Shown, json},
};

/// Bytes of a line of a dump.
const ROW: usize = 16;

/// The form in which data are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Laid out for people.
    Read,
    /// As they are; as Base64 if they are no text.
    Raw,
    /// As a dump of bytes.
    Hex,
}

impl Form {
    fn of(text: &str) -> Self {
        match text {
            "raw" => Self::Raw,
            "hex" => Self::Hex,
            _ => Self::Read,
        }
    }
}

/// A payload or a result with its forms.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    /// Its id on the page, and the parameter of the page's address that chooses the form.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) bytes: &'a [u8],
    /// The reason why it is hidden from the user.
    pub(crate) hidden: Option<&'a str>,
    /// The link to all of it.
    pub(crate) download: String,
    /// Largest number of bytes of HTML for the data.
    pub(crate) most: usize,
}

impl Panel<'_> {
    /// Returns a card with the data. `form` is the value of the parameter.
    pub(crate) fn markup(&self, view: &View, form: &str) -> Markup {
        if let Some(hidden) = self.hidden {
            return html! {
                section class="card" id=(self.name) aria-labelledby={ (self.name) "-title" } {
                    div class="card-head" { h2 id={ (self.name) "-title" } { (self.title) } span class="badge" { "hidden" } }
                    p { "The data are hidden from you by the rule " code { (hidden) } "." }
                }
            };
        }
        let form = Form::of(form);
        let found = Found::of(self.bytes, form, self.most);
        let size = format::bytes(self.bytes.len() as u64);
        let body = format!("{}-data", self.name);
        html! {
            section class="card data" id=(self.name) aria-labelledby={ (self.name) "-title" } {
                div class="card-head" {
                    h2 id={ (self.name) "-title" } {
                        (self.title)
                        @if !self.bytes.is_empty() { " " span class="hint" { (found.kind) ", " (size) } }
                    }
                    @if !self.bytes.is_empty() {
                        nav class="switch" aria-label={ "Form of the " (self.name) } {
                            @for (each, label, value) in [(Form::Read, "Readable", ""), (Form::Raw, "Raw", "raw"), (Form::Hex, "Bytes", "hex")] {
                                a href={ (view.with(&[(self.name, value)])) "#" (self.name) } aria-current=[(each == form).then_some("true")] { (label) }
                            }
                        }
                        span class="data-acts" {
                            @if !found.is_cut { (copy_of(&body)) }
                            a class="copy" href=(self.download) download title="Download all of it" aria-label={ "Download the " (self.name) } { (icon("download")) }
                        }
                    }
                }
                @if self.bytes.is_empty() {
                    p class="hint" { "It is empty." }
                } @else {
                    div class="data-text" id=(body) tabindex="0" role="region" aria-label=(self.title) { (found.text.markup()) }
                    @if found.is_cut {
                        p class="hint" {
                            @match found.shown {
                                Some(shown) => { "The first " (format::bytes(shown as u64)) " of " (size) }
                                None => { "The first " (format::number(found.text.lines() as u64)) " lines" }
                            }
                            ". " a href=(self.download) download { "Download all " (size) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns a button that copies the text of an element.
pub(crate) fn copy_of(id: &str) -> Markup {
    html! { button type="button" class="copy needs-js" data-copy-of=(id) aria-label="Copy the text" title="Copy the text" { (icon("copy")) } }
}

/// Data in one of their forms.
struct Found {
    kind: &'static str,
    text: Text,
    is_cut: bool,
    /// Number of bytes of the data that are shown, if it is known and not all of them.
    shown: Option<usize>,
}

/// Returns the beginning of a value, laid out on several lines. Each level costs blanks in every line, so that the whole could be a
/// hundred times as long as its bytes.
fn laid_out(value: &serde_json::Value, most: usize) -> String {
    struct Bounded {
        text: Vec<u8>,
        most: usize,
    }
    impl std::io::Write for Bounded {
        fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
            // One byte more than can be shown tells that it was cut.
            let left = (self.most + 1).saturating_sub(self.text.len());
            if left == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            let taken = part.len().min(left);
            self.text.extend_from_slice(&part[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let text = Vec::new();
    let mut bounded = Bounded { text, most };
    // It ends with an error when there is enough.
    let _ = serde_json::to_writer_pretty(&mut bounded, value);
    match String::from_utf8(bounded.text) {
        Ok(text) => text,
        // A character is cut.
        Err(error) => {
            let end = error.utf8_error().valid_up_to();
            let mut text = error.into_bytes();
            text.truncate(end);
            String::from_utf8(text).unwrap_or_default()
        }
    }
}

impl Found {
    fn of(bytes: &[u8], form: Form, most: usize) -> Self {
        let data = Data::of(bytes, false);
        let kind = kind(&data);
        let (text, is_json, all) = match form {
            Form::Hex => return Self::dump(kind, bytes, most),
            Form::Raw => match str::from_utf8(bytes) {
                Ok(text) => (beginning(text, most).to_owned(), matches!(data, Data::Json(_)), Some(1)),
                Err(_) => {
                    let start = bytes.get(..most / 4 * 3).unwrap_or(bytes);
                    (BASE64_STANDARD.encode(start), false, None)
                }
            },
            Form::Read => match &data {
                Data::Json(raw) => (json::indented(beginning(raw.get(), most)), true, None),
                Data::Base64(_) => return Self::dump(kind, bytes, most),
                Data::Msgpack(value) => (laid_out(value, most), true, None),
                other => (other.pretty().unwrap_or_default(), false, Some(1)),
            },
        };
        let read = text.len();
        let text = Text::new(text, is_json, most);
        let whole = match (form, &data) {
            (Form::Raw, Data::Msgpack(_) | Data::Base64(_)) => bytes.len().div_ceil(3) * 4,
            (Form::Read, Data::Json(raw)) if raw.get().len() <= most => read,
            (Form::Read, Data::Msgpack(_)) => read,
            _ => bytes.len(),
        };
        let is_cut = text.shown() < whole;
        Self {
            kind,
            is_cut,
            shown: all.map(|_| text.shown()).filter(|_| is_cut),
            text,
        }
    }

    /// A dump of the bytes, in hexadecimal and as characters.
    fn dump(kind: &'static str, bytes: &[u8], most: usize) -> Self {
        let start = bytes.get(..most / 100 * ROW).unwrap_or(bytes);
        let mut text = String::new();
        for (index, row) in start.chunks(ROW).enumerate() {
            if index > 0 {
                text.push('\n');
            }
            // Writing to a String cannot fail.
            let _ = write!(text, "{:08x} ", index * ROW);
            for at in 0..ROW {
                let gap = if at == ROW / 2 { "  " } else { " " };
                let _ = match row.get(at) {
                    Some(byte) => write!(text, "{gap}{byte:02x}"),
                    None => write!(text, "{gap}  "),
                };
            }
            let shown = |byte: &u8| match byte {
                0x20..=0x7e => char::from(*byte),
                _ => '.',
            };
            text.push_str("  ");
            text.extend(row.iter().map(shown));
        }
        Self {
            kind,
            is_cut: start.len() < bytes.len(),
            shown: (start.len() < bytes.len()).then_some(start.len()),
            // Quotes are longer in HTML.
            text: Text::new(text, false, usize::MAX),
        }
    }
}

fn kind(data: &Data) -> &'static str {
    match data {
        Data::Json(_) | Data::JsonText(_) => "JSON",
        Data::Msgpack(_) => "MessagePack",
        Data::Text(_) => "text",
        Data::Base64(_) => "bytes",
        Data::Redacted => "hidden",
    }
}

/// Returns the beginning of a text, of at most so many bytes.
fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns a text of an application, such as an error, folded when it is long.
pub(crate) fn folded(text: &str, most: usize) -> Markup {
    let shown = Text::new(beginning(text, most).to_owned(), false, most);
    html! {
        div class="data-text" { (shown.markup()) }
        @if shown.shown() < text.len() {
            p class="hint" { "This is the beginning, " (format::bytes(shown.shown() as u64)) " of " (format::bytes(text.len() as u64)) "." }
        }
    }
}

/// Returns data of a record, as lists of tasks have them: laid out, and folded when they are long.
pub(crate) fn block(shown: &Shown) -> Markup {
    const MOST: usize = 16 << 10;
    match shown {
        Shown::Whole(Data::Redacted) => html! { span class="hint" { "hidden" } },
        Shown::Whole(Data::Base64(text)) => {
            html! { div class="data-text" { (Text::new(text.clone(), false, MOST).markup()) } p class="hint" { "Base64" } }
        }
        Shown::Whole(data) => {
            let is_json = matches!(data, Data::Json(_) | Data::JsonText(_) | Data::Msgpack(_));
            let text = data.pretty().unwrap_or_default();
            match text.is_empty() {
                true => html! { span class="hint" { "empty" } },
                false => html! { div class="data-text" { (Text::new(text, is_json, MOST).markup()) } },
            }
        }
        Shown::Beginning { text, cut, size, .. } => html! {
            div class="data-text" { (Text::new(text.clone(), text.starts_with(['{', '[']), MOST).markup()) }
            p class="hint" { "The first " (format::bytes(*cut as u64)) " of " (format::bytes(*size as u64)) }
        },
    }
}

/// Returns a text with a button that copies it.
pub(crate) fn copyable(text: &str, label: &str) -> Markup {
    html! { span class="id whole" { code { (text) } (copy_button(text, label)) } }
}
