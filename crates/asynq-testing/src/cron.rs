//! Cron specs beside Go's: a line of the interoperability program's `cron` subcommand is looked at again.

use asynq_core::cron::{CronError, CronField, CronSpec, DurationFault, FieldFault, Tz};
use chrono::{DateTime, SecondsFormat};
use serde::Deserialize;

/// A spec and a time, and what Go makes of them: one of the last three is set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    spec: String,
    zone: String,
    from: String,
    next: Option<String>,
    #[serde(default)]
    never: bool,
    error: Option<String>,
}

/// Returns the difference between this library and a line of `asynq-interop cron`, in words; `None` if they agree.
///
/// They agree if both refuse the spec for the same reason, or find the same time, with the same offset.
#[must_use]
pub fn disagreement(line: &str) -> Option<String> {
    let case: Case = match serde_json::from_str(line) {
        Ok(case) => case,
        Err(error) => return Some(format!("{line}: not a case: {error}")),
    };
    case.check().err().map(|difference| format!("{line}: {difference}"))
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let spec = match (CronSpec::parse(&self.spec), &self.error) {
            (Ok(spec), None) => spec,
            (Ok(_), Some(_)) => return Err("ours takes it".to_owned()),
            // Go takes it as one second.
            (
                Err(CronError::Every {
                    fault: DurationFault::Negative,
                    ..
                }),
                None,
            ) => return self.is_a_second_later(),
            (Err(error), None) => return Err(format!("ours refuses it: {error}")),
            (Err(error), Some(text)) if text.starts_with(&in_gos_words(&error)) => return Ok(()),
            (Err(error), Some(_)) => return Err(format!("ours refuses it for another reason: {error}")),
        };
        if self.spec != spec.to_string() {
            return Err(format!("ours is written {spec}"));
        }
        let zone: Tz = self
            .zone
            .parse()
            .map_err(|_| "ours does not know the zone".to_owned())?;
        let given = DateTime::parse_from_rfc3339(&self.from).map_err(|error| error.to_string())?;
        let from = given.with_timezone(&zone);
        if from.naive_local() != given.naive_local() {
            return Err(format!("our zone says that it begins at {from}"));
        }
        let next = spec.next_after(&from);
        if next.is_some_and(|next| next <= from) {
            return Err(format!("ours is over: {next:?}"));
        }
        let next = next.map(|next| next.to_rfc3339_opts(SecondsFormat::Secs, true));
        let gos = if self.never {
            None
        } else {
            Some(self.next.as_deref().unwrap_or_default())
        };
        if next.as_deref() == gos {
            Ok(())
        } else {
            Err(format!("ours is {}", next.as_deref().unwrap_or("never")))
        }
    }
}

impl Case {
    /// Returns whether Go's time is the next whole second, the difference that is meant.
    fn is_a_second_later(&self) -> Result<(), String> {
        let read = |text: &str| DateTime::parse_from_rfc3339(text).map(|at| at.timestamp());
        match (read(&self.from), self.next.as_deref().map(read)) {
            (Ok(from), Some(Ok(next))) if next == from + 1 => Ok(()),
            _ => Err("ours refuses it as negative".to_owned()),
        }
    }
}

/// Returns how Go's text for the same error begins.
fn in_gos_words(error: &CronError) -> String {
    match error {
        CronError::Empty => "empty spec string".to_owned(),
        CronError::ZoneAlone { .. } => "panic: ".to_owned(),
        CronError::UnknownZone { name } => format!("provided bad location {name}: "),
        CronError::FieldCount { found, .. } => format!("expected exactly 5 fields, found {found}: "),
        CronError::Descriptor { descriptor } => format!("unrecognized descriptor: {descriptor}"),
        CronError::Every { duration, fault } => {
            let fault = match fault {
                DurationFault::Invalid => "invalid duration ",
                DurationFault::MissingUnit => "missing unit in duration ",
                DurationFault::UnknownUnit { .. } => "unknown unit ",
                _ => "an unknown fault ",
            };
            format!("failed to parse duration @every {duration}: time: {fault}")
        }
        CronError::Field { field, term, fault } => faulty_field(*field, term, fault),
        _ => "an unknown error".to_owned(),
    }
}

fn faulty_field(field: CronField, term: &str, fault: &FieldFault) -> String {
    let (lowest, highest) = field.range().into_inner();
    match fault {
        FieldFault::NotANumber { text } => format!("failed to parse int from {text}: "),
        FieldFault::Negative { number } => format!("negative number ({number}) not allowed: {number}"),
        FieldFault::TooManyHyphens => format!("too many hyphens: {term}"),
        FieldFault::TooManySlashes => format!("too many slashes: {term}"),
        FieldFault::BelowMinimum { number, .. } => {
            format!("beginning of range ({number}) below minimum ({lowest}): {term}")
        }
        FieldFault::AboveMaximum { number, .. } => {
            format!("end of range ({number}) above maximum ({highest}): {term}")
        }
        FieldFault::Reversed { first, last } => {
            format!("beginning of range ({first}) beyond end of range ({last}): {term}")
        }
        FieldFault::ZeroStep => format!("step of range should be a positive number: {term}"),
        _ => "an unknown fault".to_owned(),
    }
}
