//! The keys of the dashboard, and their meaning.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The meaning of a key where no text is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Quit,
    Back,
    Select,
    Up,
    Down,
    Left,
    Right,
    Top,
    Bottom,
    NextPage,
    PreviousPage,
    Redraw,
    Help,
    Command,
    Filter,
    Mark,
    MarkAll,
    Unmark,
    Raw,
    NextSort,
    Reverse,
    /// Sorts by the column of this number, from 0.
    Sort(usize),
    Run,
    Archive,
    Delete,
    Cancel,
    Pause,
}

impl Key {
    pub(crate) fn of(key: KeyEvent) -> Option<Self> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Self::Quit),
                KeyCode::Char('l') => Some(Self::Redraw),
                KeyCode::Char('f') => Some(Self::NextPage),
                KeyCode::Char('b') => Some(Self::PreviousPage),
                _ => None,
            };
        }
        Some(match key.code {
            KeyCode::Char(char) => match char {
                'q' => Self::Quit,
                'k' => Self::Up,
                'j' => Self::Down,
                'h' => Self::Left,
                'l' => Self::Right,
                'g' => Self::Top,
                'G' => Self::Bottom,
                'n' => Self::NextPage,
                'p' => Self::PreviousPage,
                '?' => Self::Help,
                ':' => Self::Command,
                '/' => Self::Filter,
                ' ' => Self::Mark,
                'a' => Self::MarkAll,
                'u' => Self::Unmark,
                'r' => Self::Raw,
                's' => Self::NextSort,
                'o' => Self::Reverse,
                'R' => Self::Run,
                'A' => Self::Archive,
                'D' => Self::Delete,
                'C' => Self::Cancel,
                'P' => Self::Pause,
                digit => Self::Sort(usize::try_from(digit.to_digit(10)?).ok()?.checked_sub(1)?),
            },
            KeyCode::Esc => Self::Back,
            KeyCode::Enter => Self::Select,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::Left => Self::Left,
            KeyCode::Right => Self::Right,
            KeyCode::Home => Self::Top,
            KeyCode::End => Self::Bottom,
            KeyCode::PageDown => Self::NextPage,
            KeyCode::PageUp => Self::PreviousPage,
            _ => return None,
        })
    }
}

/// The help: keys, and what they do. An empty text is a heading.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("Everywhere", ""),
    ("j k, arrows", "move; g G: first, last"),
    ("Enter", "open what is under the cursor"),
    ("Esc", "go back"),
    ("n p", "next, previous page"),
    ("?", "this help"),
    (":", "command, see below"),
    ("Ctrl-L", "draw everything anew, and read again"),
    ("q, Ctrl-C", "leave the dashboard"),
    ("Queues", ""),
    ("1 to 9", "sort by this column; again: reverse"),
    ("s o", "sort by the next column; reverse"),
    ("/", "find tasks in all queues by a query"),
    ("P", "pause or resume the queue"),
    ("D", "delete the queue"),
    ("Tasks", ""),
    ("h l, arrows", "previous, next state"),
    ("/", "show what meets a query, such as type=mail retried>3"),
    ("space", "mark; a: all of the page, u: none"),
    ("R", "run the marked tasks now, or that under the cursor"),
    ("A", "archive them"),
    ("D", "delete them"),
    ("C", "cancel an active one"),
    ("r", "in a task: data as they are, or laid out"),
    ("Typed commands", ""),
    (":queues", "all queues"),
    (":servers", "servers, and what they run"),
    (":tree", "supervision trees"),
    (":schedulers", "periodic tasks"),
    (":findings", "what needs attention"),
    (":redis", "the servers of Redis"),
    (":context NAME", "another context of the configuration file"),
    (":q", "leave the dashboard"),
];

/// Returns the help as text, for the manual.
pub(crate) fn manual() -> String {
    let line = |(key, text): &(&str, &str)| match text.is_empty() {
        true => format!("{key}:"),
        false => format!("  {key:<16}{text}"),
    };
    HELP.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The names of the commands, as `:` takes them.
pub(crate) const COMMANDS: [&str; 8] = [
    "queues",
    "servers",
    "tree",
    "schedulers",
    "findings",
    "redis",
    "context",
    "q",
];
