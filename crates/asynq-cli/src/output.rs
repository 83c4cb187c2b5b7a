//! The output of the program: tables for people, JSON, NDJSON and YAML for programs.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use anstyle::Style;
use clap::ValueEnum;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

pub(crate) use crate::shown::{lines, one_line};
use crate::{
    error::{CliError, Result},
    shown::is_shown,
};

/// A style of headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// Rows of a table that are laid out together. A longer listing is written in parts of this size, so that it needs no more
/// memory.
const TABLE_PART: usize = 500;
/// Bytes of cells after which a part is written, however few rows it has.
const TABLE_BYTES: usize = 1 << 20;

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Text for people.
    #[default]
    Table,
    /// One JSON value.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// YAML.
    Yaml,
}

/// The next text begins on an empty screen.
static IS_STALE: AtomicBool = AtomicBool::new(false);

/// Lets the next text take the place of everything on the screen, which stays there until then.
pub(crate) fn begin_anew() {
    IS_STALE.store(true, Ordering::Relaxed);
}

/// Returns stdout for text, on an empty screen if that is wanted.
fn terminal() -> io::Result<anstream::AutoStream<io::StdoutLock<'static>>> {
    if IS_STALE.swap(false, Ordering::Relaxed) {
        // As it is: on a terminal without colours it is meant, too.
        io::stdout().write_all(CLEAR.as_bytes())?;
    }
    Ok(anstream::stdout().lock())
}

/// Clears the screen and what has scrolled away, and moves to the upper left corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[3J\u{1b}[H";

/// Writes the results of a command to stdout.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Output {
    pub(crate) form: Form,
}

impl Output {
    /// Returns whether people read the output.
    pub(crate) fn is_text(self) -> bool {
        self.form == Form::Table
    }

    /// Returns whether the output is text on a terminal.
    pub(crate) fn is_on_terminal(self) -> bool {
        self.is_text() && io::stdout().is_terminal()
    }

    /// Writes text for people, as it is. Nothing in the other forms.
    pub(crate) fn text(self, text: impl AsRef<str>) -> Result<()> {
        if self.is_text() {
            let mut stdout = terminal()?;
            stdout.write_all(text.as_ref().as_bytes())?;
            stdout.flush()?;
        }
        Ok(())
    }

    /// Writes one result: `text` for people, or the record.
    pub(crate) fn record(self, record: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        match self.form {
            Form::Table => {
                let mut text = text();
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                self.text(text)
            }
            form => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(render(form, record)?.as_bytes())?;
                Ok(stdout.flush()?)
            }
        }
    }

    /// Begins a listing with these columns. Without columns, only programs get it.
    pub(crate) fn listing(self, columns: &[&'static str]) -> Listing {
        Listing {
            form: self.form,
            columns: columns.to_vec(),
            rows: Vec::new(),
            widths: vec![0; columns.len()],
            written: 0,
            waiting: 0,
            has_ended: false,
        }
    }
}

fn render(form: Form, record: &impl Serialize) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| CliError::failure(format!("cannot write the output: {error}"));
    Ok(match form {
        Form::Table | Form::Ndjson => harmless(serde_json::to_string(record).map_err(|error| failed(&error))?) + "\n",
        Form::Json => harmless(serde_json::to_string_pretty(record).map_err(|error| failed(&error))?) + "\n",
        Form::Yaml => {
            // Through JSON, so that payloads that are JSON look the same in both.
            let json = serde_json::to_string(record).map_err(|error| failed(&error))?;
            if !json.chars().all(is_harmless) {
                // In JSON, which is YAML too, such characters have escapes wherever they stand.
                return Ok(harmless(json) + "\n");
            }
            let value: yaml_serde::Value = serde_json::from_str(&json).map_err(|error| failed(&error))?;
            yaml_serde::to_string(&value).map_err(|error| failed(&error))?
        }
    })
}

/// Returns whether a character of JSON does nothing to a terminal but shows or moves on.
fn is_harmless(char: char) -> bool {
    is_shown(char) || matches!(char, '\n' | '\r' | '\t')
}

/// Escapes, in the strings of JSON, the characters that control a terminal. Outside strings there are none but blanks.
fn harmless(text: String) -> String {
    if text.chars().all(is_harmless) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match is_harmless(char) {
            true => escaped.push(char),
            false => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    escaped
}

/// A listing, which is written while it grows.
#[derive(Debug)]
pub(crate) struct Listing {
    form: Form,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Widest cell of each column in the parts that are written.
    widths: Vec<usize>,
    written: u64,
    /// Bytes of the rows that are not written yet.
    waiting: usize,
    has_ended: bool,
}

/// A listing that ends with an error stays whole JSON.
impl Drop for Listing {
    fn drop(&mut self) {
        let end: &[u8] = match (self.form, self.written) {
            (Form::Json, 0) => b"[]\n",
            (Form::Json, _) => b"\n]\n",
            _ => return,
        };
        if !self.has_ended {
            // The error that ends the command is told, and not this one.
            let _ = io::stdout().write_all(end);
        }
    }
}

impl Listing {
    /// Adds an item: the cells of its row, and the record.
    ///
    /// # Errors
    /// If it cannot be written. [`CliError::reader_gone`] if nobody reads it.
    pub(crate) fn push(&mut self, cells: Vec<String>, record: &impl Serialize) -> Result<()> {
        debug_assert_eq!(cells.len(), self.columns.len());
        let first = self.written == 0;
        self.written += 1;
        let mut stdout = io::stdout().lock();
        match self.form {
            // A listing without columns is written as text by its command.
            Form::Table if self.columns.is_empty() => {}
            Form::Table => {
                self.waiting += cells.iter().map(String::len).sum::<usize>();
                self.rows.push(cells);
                if self.rows.len() >= TABLE_PART || self.waiting > TABLE_BYTES {
                    drop(stdout);
                    self.write_rows()?;
                }
            }
            Form::Ndjson => stdout.write_all(render(Form::Ndjson, record)?.as_bytes())?,
            Form::Json => {
                stdout.write_all(if first { b"[\n" } else { b",\n" })?;
                stdout.write_all(render(Form::Json, record)?.trim_end().as_bytes())?;
            }
            Form::Yaml => {
                // An item is laid out below its dash.
                let item = render(Form::Yaml, record)?.trim_end().replace('\n', "\n  ");
                stdout.write_all(format!("- {item}\n").as_bytes())?;
            }
        }
        Ok(())
    }

    fn write_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.waiting = 0;
        let head = self.written as usize == rows.len();
        let table = table(&self.columns, &rows, head, &mut self.widths);
        let mut stdout = terminal()?;
        stdout.write_all(table.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Ends the listing; `none` is what people are told if it is empty.
    pub(crate) fn end(mut self, none: impl FnOnce() -> String) -> Result<u64> {
        let empty = self.written == 0;
        self.has_ended = true;
        match self.form {
            Form::Table if self.columns.is_empty() => {}
            Form::Table if empty => Output { form: self.form }.text(none() + "\n")?,
            Form::Table => self.write_rows()?,
            Form::Json => io::stdout().write_all(if empty { b"[]\n" } else { b"\n]\n" })?,
            Form::Yaml if empty => io::stdout().write_all(b"[]\n")?,
            Form::Ndjson | Form::Yaml => {}
        }
        io::stdout().flush()?;
        Ok(self.written)
    }
}

/// Lays out a table as Go's program does: left-aligned columns with two blanks between them, a row of titles, and a row of
/// dashes as long as each title.
pub(crate) fn plain_table(columns: &[&'static str], rows: &[Vec<String>]) -> String {
    table(columns, rows, true, &mut vec![0; columns.len()])
}

/// Lays out rows in columns as [`plain_table`] does, without titles.
pub(crate) fn lined_up(rows: &[Vec<String>]) -> String {
    table(&[], rows, false, &mut vec![0; rows.first().map_or(0, Vec::len)])
}

fn table(columns: &[&'static str], rows: &[Vec<String>], head: bool, widths: &mut [usize]) -> String {
    let titles = columns.iter().map(|&title| title.to_owned()).collect();
    let dashes = columns.iter().map(|title| "-".repeat(title.chars().count())).collect();
    let head: Vec<Vec<String>> = if head { vec![titles, dashes] } else { Vec::new() };
    let lines: Vec<Vec<String>> = head
        .iter()
        .chain(rows)
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.width());
        }
    }
    let mut table = String::new();
    for line in &lines {
        let start = table.len();
        for (width, cell) in widths.iter().zip(line) {
            table.push_str(cell);
            table.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        table.truncate(start + table[start..].trim_end().len());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_looks_as_gos() {
        let rows = [
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["日本".to_owned(), String::new()],
        ];
        assert_eq!(
            plain_table(&["ID", "Type"], &rows),
            "ID    Type\n--    ----\na     long cell\n日本\n"
        );
    }

    #[test]
    fn later_parts_of_a_table_keep_its_columns() {
        let mut widths = vec![0; 2];
        let cell = |text: &str| text.to_owned();
        table(&["ID", "Type"], &[vec![cell("12345"), cell("a")]], true, &mut widths);
        let part = table(&["ID", "Type"], &[vec![cell("1"), cell("b")]], false, &mut widths);
        assert_eq!(part, "1      b\n");
    }

    #[test]
    fn json_holds_nothing_that_controls_a_terminal() {
        let text = "a\u{9b}31m\u{202e}b\u{7f}\tü\u{e0041}";
        let json = render(Form::Ndjson, &text).unwrap();
        assert_eq!(json, "\"a\\u009b31m\\u202eb\\u007f\\tü\\udb40\\udc41\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }

    #[test]
    fn yaml_of_odd_characters_is_json() {
        let yaml = render(Form::Yaml, &["a\u{202e}b"]).unwrap();
        assert_eq!(yaml, "[\"a\\u202eb\"]\n");
        let read: Vec<String> = yaml_serde::from_str(&yaml).unwrap();
        assert_eq!(read, ["a\u{202e}b"]);
        assert_eq!(render(Form::Yaml, &["a b"]).unwrap(), "- a b\n");
    }

    #[test]
    fn a_cell_may_be_as_long_as_any() {
        let long = "x".repeat(70_000);
        let table = plain_table(&["A", "B"], &[vec![long.clone(), "b".to_owned()]]);
        assert!(table.contains(&long) && table.contains('b'));
    }
}
