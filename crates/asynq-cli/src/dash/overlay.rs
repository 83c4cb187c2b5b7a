//! The things that lie over a page: help, lines of text, and the questions before acts.

use std::collections::BTreeSet;

use asynq::TaskState;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::{
    input::Input,
    model::{Deed, Seen, TaskKey, Verb},
    pages::{Content, Page},
    text,
};
use crate::{hands::MANY, output::one_line};

/// Something that lies over the page and takes the keys.
#[derive(Debug)]
pub(crate) enum Overlay {
    Help {
        scroll: usize,
    },
    /// A query, with the place and text of what is wrong with it.
    Filter {
        input: Input,
        fault: Option<(usize, String)>,
    },
    Command {
        input: Input,
        fault: Option<String>,
    },
    Confirm(Confirm),
}

/// The question before an act.
#[derive(Debug)]
pub(crate) struct Confirm {
    pub(crate) title: String,
    /// The target of the act. Of a line that begins with blanks, which is an id, there is one row.
    pub(crate) lines: Vec<String>,
    pub(crate) deed: Deed,
    pub(crate) reason: Input,
    pub(crate) answer: Input,
    /// The answer that confirms.
    pub(crate) expected: String,
    /// The answer is being typed, and not the reason.
    pub(crate) at_answer: bool,
    pub(crate) fault: Option<String>,
}

impl Overlay {
    /// Inserts text where it is being typed.
    pub(crate) fn paste(&mut self, text: &str) {
        // What was wrong with the former text says nothing about this one.
        match self {
            Self::Help { .. } => {}
            Self::Filter { fault, .. } => *fault = None,
            Self::Command { fault, .. } | Self::Confirm(Confirm { fault, .. }) => *fault = None,
        }
        if let Some(input) = self.input() {
            input.insert(text);
        }
    }

    /// Returns the line that is being typed.
    fn input(&mut self) -> Option<&mut Input> {
        match self {
            Self::Help { .. } => None,
            Self::Filter { input, .. } | Self::Command { input, .. } => Some(input),
            Self::Confirm(Confirm {
                reason,
                answer,
                at_answer,
                ..
            }) => Some(if *at_answer { answer } else { reason }),
        }
    }
}

/// The rows of a question, for a width.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) title: Vec<String>,
    pub(crate) body: Vec<String>,
    /// Tells what confirms.
    pub(crate) label: Vec<String>,
}

impl Rows {
    /// Rows of the border, the reason, the answer, and what is wrong.
    const OTHERS: usize = 2 + 1 + 1 + 1;

    pub(crate) fn height(&self) -> usize {
        Self::OTHERS + self.title.len() + self.body.len() + self.label.len()
    }
}

/// The effect of a key in a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open,
    Cancelled,
    Confirmed,
}

impl Confirm {
    fn new(title: String, lines: Vec<String>, deed: Deed, expected: &str) -> Self {
        Self {
            title,
            lines,
            deed,
            reason: Input::default(),
            answer: Input::default(),
            expected: expected.to_owned(),
            at_answer: false,
            fault: None,
        }
    }

    /// Widest question, with its border.
    pub(crate) const WIDEST: u16 = 72;
    /// Narrowest question. Below it there is no room for what is typed.
    const NARROWEST: u16 = 20;

    /// Returns the rows for a terminal of that width and height; `None` if it is too small for all of them.
    pub(crate) fn rows(&self, (width, height): (u16, u16)) -> Option<Rows> {
        if width < Self::NARROWEST {
            return None;
        }
        let inside = usize::from(width.min(Self::WIDEST)) - 2;
        let row = |line: &String| match line.starts_with(' ') {
            true => vec![text::fit(line, inside)],
            false => text::wrap(line, inside),
        };
        let rows = Rows {
            title: text::wrap(&format!("{}?", self.title), inside),
            body: self.lines.iter().flat_map(row).collect(),
            label: text::wrap(&format!("Type {} to confirm:", one_line(&self.expected)), inside),
        };
        (rows.height() <= usize::from(height)).then_some(rows)
    }

    /// Returns whether the answer confirms. A name that cannot be typed may be typed as it is shown.
    fn is_confirmed(&self) -> bool {
        let answer = self.answer.text();
        answer == self.expected || answer == one_line(&self.expected)
    }

    /// Carries out a key on a terminal of that size. A question of which a part is not seen can only be cancelled.
    pub(crate) fn key(&mut self, key: KeyEvent, require_reason: bool, size: (u16, u16)) -> Verdict {
        if key.code != KeyCode::Esc && self.rows(size).is_none() {
            return Verdict::Open;
        }
        self.fault = None;
        match key.code {
            KeyCode::Esc => return Verdict::Cancelled,
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => self.at_answer = !self.at_answer,
            KeyCode::Enter => {
                if require_reason && self.reason.text().trim().is_empty() {
                    self.at_answer = false;
                    self.fault = Some("a reason is required here".to_owned());
                } else if !self.at_answer {
                    self.at_answer = true;
                } else if self.is_confirmed() {
                    return Verdict::Confirmed;
                } else {
                    self.fault = Some(format!("type {} to confirm, or Esc", one_line(&self.expected)));
                }
            }
            _ if self.at_answer => self.answer.key(key),
            _ => self.reason.key(key),
        }
        Verdict::Open
    }
}

/// A question, or why there is none.
type Asked = Result<Confirm, String>;

/// Returns the question before an act on the marked tasks, or else on the one under the cursor.
///
/// # Errors
/// Says why the act is not possible.
pub(crate) fn about_tasks(page: &Page, verb: Verb) -> Asked {
    let (tasks, unseen): (Vec<(TaskKey, Seen)>, usize) = match &page.content {
        Content::Tasks(tasks) if !tasks.marks.is_empty() => {
            let shown: BTreeSet<TaskKey> = tasks.rows.iter().map(TaskKey::of).collect();
            let marked = tasks.marks.iter().map(|(key, seen)| (key.clone(), *seen));
            let unseen = tasks.marks.keys().filter(|key| !shown.contains(*key)).count();
            (marked.collect(), unseen)
        }
        _ => (page.task().into_iter().collect(), 0),
    };
    if tasks.is_empty() {
        return Err("there is no task under the cursor".to_owned());
    }
    if let Some((key, seen)) = tasks.iter().find(|(_, seen)| !verb.applies_to(seen.state)) {
        let text = match (verb, seen.state) {
            (Verb::Cancel, state) => format!("task {} is {state}, and only active tasks can be cancelled", key.id),
            (verb, TaskState::Active) => {
                format!("task {} is active: it cannot be {}; C cancels it", key.id, past(verb))
            }
            (verb, state) => format!("task {} is {state}: it cannot be {}", key.id, past(verb)),
        };
        return Err(text);
    }
    let keys: Vec<&TaskKey> = tasks.iter().map(|(key, _)| key).collect();
    let mut queues: Vec<&str> = keys.iter().map(|key| key.queue.as_str()).collect();
    queues.dedup();
    let queues_text = match queues.as_slice() {
        [queue] => format!("of queue {}", one_line(queue)),
        several => format!("of {} queues", several.len()),
    };
    let expected = match keys.len() as u64 > MANY {
        true => queues.first().map(|&queue| queue.to_owned()).unwrap_or_default(),
        false => "y".to_owned(),
    };
    let mut lines = vec![queues_text];
    lines.extend(keys.iter().take(5).map(|key| format!("  {}", one_line(&key.id))));
    if keys.len() > 5 {
        lines.push(format!("  and {} more", keys.len() - 5));
    }
    match unseen {
        0 => {}
        1 => lines.push("1 marked task is not on this page".to_owned()),
        unseen => lines.push(format!("{unseen} marked tasks are not on this page")),
    }
    if verb == Verb::Delete {
        lines.push("This cannot be undone.".to_owned());
    }
    let title = format!("{} {}", verb.as_str(), text::count(keys.len() as u64, "task"));
    Ok(Confirm::new(title, lines, Deed::Tasks { verb, tasks }, &expected))
}

/// Returns the question before the queue is paused or resumed.
pub(crate) fn about_pausing(page: &Page) -> Asked {
    let Some(info) = page.queue() else {
        return Err("there is no queue under the cursor".to_owned());
    };
    let (queue, paused) = (info.queue.to_string(), !info.paused);
    let lines = vec![match paused {
        true => "Servers take no more tasks from it, until it is resumed.".to_owned(),
        false => "Servers take tasks from it again.".to_owned(),
    }];
    let verb = if paused { "pause" } else { "resume" };
    let title = format!("{verb} queue {}", one_line(&queue));
    Ok(Confirm::new(title, lines, Deed::Pause { queue, paused }, "y"))
}

/// Returns the question before the queue is deleted.
pub(crate) fn about_deleting_queue(page: &Page) -> Asked {
    let Some(info) = page.queue() else {
        return Err("there is no queue under the cursor".to_owned());
    };
    let (queue, size) = (info.queue.to_string(), info.size());
    let lines = vec![
        format!("with its {}", text::count(size, "task")),
        "This cannot be undone.".to_owned(),
    ];
    let title = format!("delete queue {}", one_line(&queue));
    let expected = queue.clone();
    let deed = Deed::DeleteQueue { queue, force: size > 0 };
    Ok(Confirm::new(title, lines, deed, &expected))
}

fn past(verb: Verb) -> &'static str {
    match verb {
        Verb::Run => "run",
        Verb::Archive => "archived",
        Verb::Delete => "deleted",
        Verb::Cancel => "cancelled",
    }
}
