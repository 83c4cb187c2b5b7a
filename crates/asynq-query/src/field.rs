//! The fields of a task that a query can name.

use crate::grammar::Step;

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Text(Text),
    State,
    Number(Number),
    Span(Span),
    Time(Time),
    Flag(Flag),
    /// A value in JSON or MessagePack.
    Inside(Blob, Vec<Step>),
}

/// Fields that are texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Id,
    Queue,
    Type,
    Group,
    Error,
    Header(String),
    Whole(Blob),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blob {
    Payload,
    Result,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Retried,
    MaxRetry,
    Progress,
    /// In bytes.
    Size,
}

/// Fields that are durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    Age,
    Timeout,
    Retention,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    LastFailedAt,
    NextProcessAt,
    CompletedAt,
    Deadline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    Orphaned,
    Damaged,
}

/// All names, for refusals.
pub(crate) const NAMES: &str = "id, queue, type, state, group, error, retried, max_retry, progress, size, age, timeout, \
                                retention, last_failed_at, next_process_at, completed_at, deadline, orphaned, damaged, \
                                payload, result or header.NAME";

impl Field {
    /// Returns whether it is a payload or a result, or a value inside.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self, Self::Inside(..) | Self::Text(Text::Whole(_)))
    }

    /// The field of this name with these steps behind it, or what was expected instead.
    pub(crate) fn named(name: &str, path: Vec<Step>) -> Result<Self, String> {
        let field = match (name, path.as_slice()) {
            ("header", [Step::Key(key)]) => return Ok(Self::Text(Text::Header(key.clone()))),
            ("header", _) => return Err("the name of one header, as header.NAME".to_owned()),
            ("payload", [_, ..]) => return Ok(Self::Inside(Blob::Payload, path)),
            ("result", [_, ..]) => return Ok(Self::Inside(Blob::Result, path)),
            ("payload", []) => Self::Text(Text::Whole(Blob::Payload)),
            ("result", []) => Self::Text(Text::Whole(Blob::Result)),
            ("id", _) => Self::Text(Text::Id),
            ("queue", _) => Self::Text(Text::Queue),
            ("type", _) => Self::Text(Text::Type),
            ("group", _) => Self::Text(Text::Group),
            ("error", _) => Self::Text(Text::Error),
            ("state", _) => Self::State,
            ("retried", _) => Self::Number(Number::Retried),
            ("max_retry", _) => Self::Number(Number::MaxRetry),
            ("progress", _) => Self::Number(Number::Progress),
            ("size", _) => Self::Number(Number::Size),
            ("age", _) => Self::Span(Span::Age),
            ("timeout", _) => Self::Span(Span::Timeout),
            ("retention", _) => Self::Span(Span::Retention),
            ("last_failed_at", _) => Self::Time(Time::LastFailedAt),
            ("next_process_at", _) => Self::Time(Time::NextProcessAt),
            ("completed_at", _) => Self::Time(Time::CompletedAt),
            ("deadline", _) => Self::Time(Time::Deadline),
            ("orphaned", _) => Self::Flag(Flag::Orphaned),
            ("damaged", _) => Self::Flag(Flag::Damaged),
            _ => return Err(format!("a field: {NAMES}")),
        };
        if !path.is_empty() {
            return Err(format!(
                "an operator behind {name}; only payload, result and header have names inside"
            ));
        }
        Ok(field)
    }
}
