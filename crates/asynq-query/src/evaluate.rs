//! A query, and its evaluation for a task.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use asynq_core::{QueueName, TaskInfo, TaskState};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    MAX_CONDITIONS,
    check::{Check, Condition, compile},
    data::look_up,
    error::QueryError,
    field::{Blob, Field, Flag, Number, Span, Text, Time},
    grammar::{Node, parse},
};

/// A query: conditions that tasks meet or not.
///
/// # Conditions
///
/// A condition is a field, an operator and a value. `and`, `or`, `not` and parentheses combine conditions; `and` may be left
/// out, and binds closer than `or`. A value with spaces, commas, quotes or parentheses stands in quotes, `"…"` or `'…'`,
/// where `\` takes the next character as it is.
///
/// | operator | |
/// | --- | --- |
/// | `=` `!=` | equal, not equal. Several values with commas between them: one of them, none of them |
/// | `^=` `$=` | begins with, ends with |
/// | `~` `!~` | contains, does not contain, in letters of any case. `/…/` is a regular expression, `/…/i` in letters of any case |
/// | `<` `<=` `>` `>=` | less, at most, more, at least |
///
/// | field | value |
/// | --- | --- |
/// | `id` `queue` `type` `group` `error` | a text. `error` is that of the last failure |
/// | `header.NAME` | a text |
/// | `state` | `active`, `pending`, `aggregating`, `scheduled`, `retry`, `archived` or `completed` |
/// | `retried` `max_retry` `progress` | a number; `progress` in per cent |
/// | `size` | bytes of the payload: `1000`, `10kB`, `1MiB` |
/// | `age` | time since the task came into its state: `90s`, `1h30m`, `2d`. Not known for active and scheduled tasks |
/// | `timeout` `retention` | a duration; `timeout=0s` finds tasks without one |
/// | `last_failed_at` `next_process_at` `completed_at` `deadline` | a time: `2026-11-29`, `2026-11-29T10:00:00Z`, `now`, `now-1h`, `now+2d` |
/// | `orphaned` `damaged` | `true` or `false` |
/// | `payload` `result` | the text of all of it |
/// | `payload.user.id` `payload.items[0].sku` `payload."a key".x` `result.…` | a value in JSON or MessagePack. A number equals a number, of any size, exactly; `"5"` in quotes is a text only, and `null` finds what is absent |
///
/// # What is not known
///
/// A condition about a value that a task does not have, or that cannot be read, is neither true nor false: the age of an
/// active task, a field of a payload that is neither JSON nor MessagePack or is larger than [`MAX_DATA`](crate::MAX_DATA). `not` does not
/// make it true. A task for which the whole query remains [undecided](Verdict::Undecided) is not found, so that no action
/// concerns a task of which the condition is not known to hold.
#[derive(Clone, Debug)]
pub struct Query {
    text: String,
    conditions: usize,
    expression: Expression,
    scope: Option<Arc<dyn Scope>>,
}

/// The tasks that somebody may find with a query, and those whose data they may ask about. See [`Query::within`].
pub trait Scope: fmt::Debug + Send + Sync + 'static {
    /// Returns whether tasks of a queue may be found.
    fn has_queue(&self, queue: &str) -> bool;

    /// Returns whether the payload and the result of the tasks of this type are hidden. Conditions about them are then neither
    /// true nor false, so that no query can find out what they hold.
    fn hides_data(&self, queue: &str, task_type: &str) -> bool;
}

#[derive(Clone, Debug)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Condition(Box<Condition>),
}

/// The answer of a query for one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task meets the query.
    Match,
    /// The task does not meet the query.
    NoMatch,
    /// The query depends on a value that is not known of this task or cannot be read.
    Undecided,
}

impl Query {
    /// Returns the query that every task meets.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            text: String::new(),
            conditions: 0,
            expression: Expression::All(Vec::new()),
            scope: None,
        }
    }

    /// Reads a query. An empty text is refused; see [`everything`](Self::everything).
    ///
    /// # Errors
    /// [`QueryError`] with the place and what was expected there: for a text that does not follow the grammar, an unknown
    /// field, a value or an operator that does not suit the field, a regular expression that is not valid or is too
    /// large (1 MiB compiled), more than [`MAX_TEXT`](crate::MAX_TEXT) bytes, more than [`MAX_CONDITIONS`] conditions,
    /// or a depth of more than [`MAX_DEPTH`](crate::MAX_DEPTH).
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut conditions = 0;
        let expression = build(text, parse(text)?, &mut conditions)?;
        Ok(Self {
            text: text.trim().to_owned(),
            conditions,
            expression,
            scope: None,
        })
    }

    /// Returns the query for somebody who may not find all tasks, or may not know all their data. Its text does not change.
    #[must_use]
    pub fn within(self, scope: Arc<dyn Scope>) -> Self {
        Self {
            scope: Some(scope),
            ..self
        }
    }

    /// Returns the number of conditions.
    #[must_use]
    pub fn conditions(&self) -> usize {
        self.conditions
    }

    /// Evaluates the query for a task. `now` is the time for `age` and for times such as `now-1h`.
    #[must_use]
    pub fn evaluate(&self, task: &TaskInfo, now: DateTime<Utc>) -> Verdict {
        if self.leaves_out(&task.queue) {
            return Verdict::NoMatch;
        }
        let scope = self.scope.as_ref();
        let hides = || scope.is_some_and(|scope| scope.hides_data(task.queue.as_str(), &task.task_type));
        verdict(evaluate(
            &self.expression,
            &|condition| match condition.field.is_data() && hides() {
                true => None,
                false => holds(condition, task, now),
            },
        ))
    }

    /// Evaluates the query for all tasks of a queue and state at once: a search can leave them out if none can meet it, and
    /// need not look at them if all do.
    #[must_use]
    pub fn evaluate_all(&self, queue: &QueueName, state: TaskState) -> Verdict {
        if self.leaves_out(queue) {
            return Verdict::NoMatch;
        }
        let known = |condition: &Condition| match (&condition.field, &condition.check) {
            (Field::Text(Text::Queue), Check::Text(check)) => Some(check.holds(queue.as_str())),
            (Field::State, Check::State { any, negated }) => Some(any.contains(&state) != *negated),
            _ => None,
        };
        verdict(evaluate(&self.expression, &known))
    }

    fn leaves_out(&self, queue: &QueueName) -> bool {
        self.scope
            .as_ref()
            .is_some_and(|scope| !scope.has_queue(queue.as_str()))
    }
}

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        Self::parse(text)
    }
}

impl fmt::Display for Query {
    /// Writes the query as it was read, without the spaces around it; nothing for [`everything`](Self::everything).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn build(text: &str, node: Node, conditions: &mut usize) -> Result<Expression, QueryError> {
    let mut each = |nodes: Vec<Node>| -> Result<Vec<Expression>, QueryError> {
        nodes.into_iter().map(|node| build(text, node, conditions)).collect()
    };
    Ok(match node {
        Node::All(nodes) => Expression::All(each(nodes)?),
        Node::Any(nodes) => Expression::Any(each(nodes)?),
        Node::Not(node) => Expression::Not(Box::new(build(text, *node, conditions)?)),
        Node::Condition(written) => {
            *conditions += 1;
            if *conditions > MAX_CONDITIONS {
                let at = written.field.at;
                let expected = format!("at most {MAX_CONDITIONS} conditions");
                return Err(QueryError::at(text, at.start, at.end, expected));
            }
            Expression::Condition(Box::new(compile(text, written)?))
        }
    })
}

/// Combines conditions of which some are not known.
fn evaluate(expression: &Expression, holds: &impl Fn(&Condition) -> Option<bool>) -> Option<bool> {
    // Of a list that ends with the first `decisive` one.
    let combine = |list: &[Expression], decisive: bool| {
        let mut known = true;
        for expression in list {
            match evaluate(expression, holds) {
                Some(value) if value == decisive => return Some(decisive),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!decisive)
    };
    match expression {
        Expression::All(list) => combine(list, false),
        Expression::Any(list) => combine(list, true),
        Expression::Not(expression) => evaluate(expression, holds).map(|value| !value),
        Expression::Condition(condition) => holds(condition),
    }
}

fn verdict(value: Option<bool>) -> Verdict {
    match value {
        Some(true) => Verdict::Match,
        Some(false) => Verdict::NoMatch,
        None => Verdict::Undecided,
    }
}

fn holds(condition: &Condition, task: &TaskInfo, now: DateTime<Utc>) -> Option<bool> {
    let is_damaged = task.damage.is_some();
    match (&condition.field, &condition.check) {
        (Field::Flag(Flag::Damaged), Check::Flag(flag)) => return Some(is_damaged == *flag),
        (Field::State, Check::State { any, negated }) => return Some(any.contains(&task.state) != *negated),
        (Field::Text(Text::Id), Check::Text(check)) => return Some(check.holds(task.id.as_str())),
        (Field::Text(Text::Queue), Check::Text(check)) => return Some(check.holds(task.queue.as_str())),
        // Nothing else is known of a task whose data cannot be read.
        _ if is_damaged => return None,
        _ => {}
    }
    match (&condition.field, &condition.check) {
        (Field::Text(field), Check::Text(check)) => Some(match field {
            Text::Type => check.holds(&task.task_type),
            Text::Group => check.holds(task.group.as_ref().map_or("", |group| group.as_str())),
            Text::Error => check.holds(&task.last_error),
            Text::Header(name) => check.holds(task.headers.get(name).map_or("", String::as_str)),
            Text::Whole(blob) => check.holds(&String::from_utf8_lossy(data(task, *blob))),
            Text::Id | Text::Queue => return None,
        }),
        (Field::Number(field), Check::Number(values)) => {
            let number = match field {
                Number::Retried => u64::from(task.retried),
                Number::MaxRetry => u64::from(task.max_retry),
                Number::Progress => u64::from(task.progress.as_ref()?.percent),
                Number::Size => u64::try_from(task.payload.len()).unwrap_or(u64::MAX),
            };
            let number = number.to_string();
            values.holds(|value| crate::value::compare_numbers(&number, value))
        }
        (Field::Span(field), Check::Span(values)) => {
            let span = match field {
                // A clock that is a little behind makes no age negative.
                Span::Age => (now - task.state_since?).to_std().unwrap_or(Duration::ZERO),
                Span::Timeout => task.timeout.unwrap_or(Duration::ZERO),
                Span::Retention => task.retention,
            };
            values.holds(|value| Some(span.cmp(value)))
        }
        (Field::Time(field), Check::Time(values)) => {
            let time = match field {
                Time::LastFailedAt => task.last_failed_at,
                Time::NextProcessAt => task.next_process_at,
                Time::CompletedAt => task.completed_at,
                Time::Deadline => task.deadline,
            }?;
            values.holds(|value| Some(time.cmp(&value.at(now))))
        }
        (Field::Flag(Flag::Orphaned), Check::Flag(flag)) => Some(task.is_orphaned == *flag),
        (Field::Inside(blob, path), Check::Inside(check)) => check.holds(&look_up(data(task, *blob), path)?),
        _ => None,
    }
}

fn data(task: &TaskInfo, blob: Blob) -> &[u8] {
    match blob {
        Blob::Payload => &task.payload,
        Blob::Result => task.result.as_ref().map_or(&[], Bytes::as_ref),
    }
}

#[cfg(test)]
mod tests;
