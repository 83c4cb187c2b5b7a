//! The check of one condition: what its values mean for its field.

use std::{cmp::Ordering, time::Duration};

use asynq_core::TaskState;
use regex::{Regex, RegexBuilder};

use crate::{
    data::Found,
    error::QueryError,
    field::{Field, Number},
    grammar::{Operator, Spanned, Value, Written},
    value::{Moment, compare_numbers, duration, is_number, size},
};

/// Largest size of a compiled regular expression, in bytes.
const REGEX_SIZE: usize = 1 << 20;

/// A condition that can be evaluated.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) field: Field,
    pub(crate) check: Check,
}

/// The values of a condition with its operator.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Text(TextCheck),
    State { any: Vec<TaskState>, negated: bool },
    Number(Compared<String>),
    Span(Compared<Duration>),
    Time(Compared<Moment>),
    Flag(bool),
    Inside(InsideCheck),
}

/// Values that a field is compared with.
#[derive(Clone, Debug)]
pub(crate) struct Compared<T> {
    operator: Operator,
    values: Vec<T>,
}

impl<T> Compared<T> {
    /// Returns whether it holds, by the order of the field and a value. `None` if it has an order with no value.
    pub(crate) fn holds(&self, order: impl Fn(&T) -> Option<Ordering>) -> Option<bool> {
        let mut known = false;
        let mut any = false;
        for value in &self.values {
            let Some(order) = order(value) else { continue };
            known = true;
            any |= match self.operator {
                Operator::Less => order.is_lt(),
                Operator::AtMost => order.is_le(),
                Operator::More => order.is_gt(),
                Operator::AtLeast => order.is_ge(),
                _ => order.is_eq(),
            };
        }
        known.then_some(any != (self.operator == Operator::Unequal))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum TextCheck {
    /// One of them; of `negated`, none.
    Equal {
        any: Vec<String>,
        negated: bool,
    },
    Begins(Vec<String>),
    Ends(Vec<String>),
    Matches {
        any: Vec<Regex>,
        negated: bool,
    },
}

impl TextCheck {
    pub(crate) fn holds(&self, text: &str) -> bool {
        match self {
            Self::Equal { any, negated } => any.iter().any(|value| value == text) != *negated,
            Self::Begins(any) => any.iter().any(|value| text.starts_with(value.as_str())),
            Self::Ends(any) => any.iter().any(|value| text.ends_with(value.as_str())),
            Self::Matches { any, negated } => any.iter().any(|regex| regex.is_match(text)) != *negated,
        }
    }
}

/// A check of a value in JSON or MessagePack.
#[derive(Clone, Debug)]
pub(crate) enum InsideCheck {
    /// As text.
    Text(TextCheck),
    Equal {
        any: Vec<Value>,
        negated: bool,
    },
    Order {
        operator: Operator,
        value: Value,
    },
}

impl InsideCheck {
    pub(crate) fn holds(&self, found: &Found) -> Option<bool> {
        match (self, found) {
            (Self::Equal { any, negated }, _) => Some(any.iter().any(|value| equals(found, value)) != *negated),
            (Self::Text(check), Found::Text(text) | Found::Number(text)) => Some(check.holds(text)),
            (Self::Text(_), _) => None,
            (Self::Order { operator, value }, Found::Number(number)) => {
                let order = compare_numbers(number, unquoted(value)?)?;
                Some(ordered(*operator, order))
            }
            (Self::Order { operator, value }, Found::Text(text)) => {
                let is_text = matches!(value, Value::Quoted(_)) || !is_number(value.text());
                is_text.then(|| ordered(*operator, text.as_str().cmp(value.text())))
            }
            (Self::Order { .. }, _) => None,
        }
    }
}

fn ordered(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Less => order.is_lt(),
        Operator::AtMost => order.is_le(),
        Operator::More => order.is_gt(),
        _ => order.is_ge(),
    }
}

fn unquoted(value: &Value) -> Option<&str> {
    match value {
        Value::Word(word) => Some(word),
        _ => None,
    }
}

fn equals(found: &Found, value: &Value) -> bool {
    match (found, value) {
        (Found::Text(text), _) => text == value.text(),
        (Found::Number(number), Value::Word(word)) => compare_numbers(number, word) == Some(Ordering::Equal),
        (Found::Bool(flag), Value::Word(word)) => word == if *flag { "true" } else { "false" },
        (Found::Null, Value::Word(word)) => word == "null",
        _ => false,
    }
}

/// Gives a written condition its meaning.
pub(crate) fn compile(text: &str, written: Written) -> Result<Condition, QueryError> {
    let Written {
        field,
        path,
        operator,
        values,
    } = written;
    let end = operator.at.start;
    let field = Field::named(&field.it, path)
        .map_err(|expected| QueryError::at(text, field.at.start, end, expected))
        .map_err(trimmed)?;
    if values.len() > 1
        && matches!(
            operator.it,
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast
        )
    {
        let second = &values[1].at;
        return Err(QueryError::at(
            text,
            second.start,
            second.end,
            "one value behind this operator",
        ));
    }
    let reader = Reader { text, operator };
    let check = match &field {
        Field::Text(_) => Check::Text(reader.text_check(values)?),
        Field::State => {
            let negated = reader.is_negated()?;
            let any = reader.each(
                &values,
                "a state: active, pending, aggregating, scheduled, retry, archived or completed",
                |text| text.parse().ok(),
            )?;
            Check::State { any, negated }
        }
        Field::Number(Number::Size) => {
            let values = reader.compared(&values, "a number of bytes such as 1000, 10kB or 1MiB", |text| {
                size(text).map(|bytes| bytes.to_string())
            })?;
            Check::Number(values)
        }
        Field::Number(_) => {
            Check::Number(reader.compared(&values, "a number", |text| is_number(text).then(|| text.to_owned()))?)
        }
        Field::Span(_) => Check::Span(reader.compared(&values, "a duration such as 90s, 1h30m or 2d", duration)?),
        Field::Time(_) => Check::Time(reader.compared(
            &values,
            "a time such as 2026-11-29, 2026-11-29T10:00:00Z or now-1h",
            Moment::parse,
        )?),
        Field::Flag(_) => {
            let negated = reader.is_negated()?;
            let flags = reader.each(&values, "true or false", |text| text.parse::<bool>().ok())?;
            let [flag] = *flags.as_slice() else {
                let second = &values[1].at;
                return Err(QueryError::at(
                    text,
                    second.start,
                    second.end,
                    "one value behind this operator",
                ));
            };
            Check::Flag(flag != negated)
        }
        Field::Inside(..) => Check::Inside(reader.inside_check(values)?),
    };
    Ok(Condition { field, check })
}

/// Removes the spaces in front of the operator from the text that was found.
fn trimmed(mut error: QueryError) -> QueryError {
    error.found.truncate(error.found.trim_end().len());
    error
}

struct Reader<'t> {
    text: &'t str,
    operator: Spanned<Operator>,
}

impl Reader<'_> {
    fn refused(&self, at: &std::ops::Range<usize>, expected: &str) -> QueryError {
        QueryError::at(self.text, at.start, at.end, expected)
    }

    /// Of `=` and `!=`: whether it is the latter.
    fn is_negated(&self) -> Result<bool, QueryError> {
        match self.operator.it {
            Operator::Equal => Ok(false),
            Operator::Unequal => Ok(true),
            _ => Err(self.refused(&self.operator.at, "= or != behind this field")),
        }
    }

    fn each<T>(
        &self,
        values: &[Spanned<Value>],
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, QueryError> {
        let read = |value: &Spanned<Value>| read(value.it.text()).ok_or_else(|| self.refused(&value.at, expected));
        values.iter().map(read).collect()
    }

    fn compared<T>(
        &self,
        values: &[Spanned<Value>],
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Compared<T>, QueryError> {
        let operator = self.operator.it;
        let compares = !matches!(
            operator,
            Operator::Begins | Operator::Ends | Operator::Contains | Operator::Lacks
        );
        if !compares {
            return Err(self.refused(&self.operator.at, "= != < <= > or >= behind this field"));
        }
        let values = self.each(values, expected, read)?;
        Ok(Compared { operator, values })
    }

    fn text_check(&self, values: Vec<Spanned<Value>>) -> Result<TextCheck, QueryError> {
        let texts = |values: Vec<Spanned<Value>>| values.iter().map(|value| value.it.text().to_owned()).collect();
        Ok(match self.operator.it {
            Operator::Equal | Operator::Unequal => TextCheck::Equal {
                any: texts(values),
                negated: self.operator.it == Operator::Unequal,
            },
            Operator::Begins => TextCheck::Begins(texts(values)),
            Operator::Ends => TextCheck::Ends(texts(values)),
            Operator::Contains | Operator::Lacks => TextCheck::Matches {
                any: values.iter().map(|value| self.regex(value)).collect::<Result<_, _>>()?,
                negated: self.operator.it == Operator::Lacks,
            },
            _ => return Err(self.refused(&self.operator.at, "= != ^= $= ~ or !~ behind this field")),
        })
    }

    fn regex(&self, value: &Spanned<Value>) -> Result<Regex, QueryError> {
        let (pattern, any_case) = match &value.it {
            Value::Regex { pattern, any_case } => (pattern.clone(), *any_case),
            Value::Word(text) | Value::Quoted(text) => (regex::escape(text), true),
        };
        RegexBuilder::new(&pattern)
            .case_insensitive(any_case)
            .size_limit(REGEX_SIZE)
            .dfa_size_limit(REGEX_SIZE)
            .build()
            .map_err(|error| {
                let fault = match error {
                    regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
                    // The last line says what is wrong; those before it show the place.
                    other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
                };
                self.refused(&value.at, &format!("a regular expression that is valid ({fault})"))
            })
    }

    fn inside_check(&self, values: Vec<Spanned<Value>>) -> Result<InsideCheck, QueryError> {
        Ok(match self.operator.it {
            operator @ (Operator::Equal | Operator::Unequal) => InsideCheck::Equal {
                any: values.into_iter().map(|value| value.it).collect(),
                negated: operator == Operator::Unequal,
            },
            operator @ (Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast) => {
                let mut values = values.into_iter();
                let Some(value) = values.next() else {
                    return Err(self.refused(&self.operator.at, "a value behind this operator"));
                };
                InsideCheck::Order {
                    operator,
                    value: value.it,
                }
            }
            _ => InsideCheck::Text(self.text_check(values)?),
        })
    }
}
