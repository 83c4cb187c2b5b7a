//! Suggested commands.

use std::fmt::Write as _;

use super::kind::FindingKind;
use crate::{names::QueueName, signature::literal_part};

/// Quotes a word for a shell. Characters that a terminal does not show are escaped as in `$'\012'`, so that the command is
/// seen as it is. A shell that does not know this form, such as `dash`, takes another word for it, and runs nothing of it.
///
/// ```
/// use asynq::findings::quote;
///
/// assert_eq!(quote("low"), "low");
/// assert_eq!(quote("it's {a}"), r"'it'\''s {a}'");
/// ```
#[must_use]
pub fn quote(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_-./:@%+,".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(is_hidden) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for char in word.chars() {
        // Without a backslash before a quote, which would end the word in a shell that does not know the form.
        if is_hidden(char) || char == '\'' || char == '\\' {
            for byte in char.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail. Three octal digits end by themselves.
                let _ = write!(quoted, "\\{byte:03o}");
            }
        } else {
            quoted.push(char);
        }
    }
    quoted.push('\'');
    quoted
}

/// Returns whether a terminal does not show a character, or changes the order of others by it.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `--flag=value`.
fn flag(flag: &str, value: &str) -> String {
    format!("--{flag}={}", quote(value))
}

/// Queue names as arguments. One that begins like a flag is behind `--`.
fn argument(name: &str) -> String {
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("{dashes}{}", quote(name))
}

/// A text as the value of a condition of a query.
fn value(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Returns the command that mends a finding, or that looks at it where the right act depends on the tasks.
pub(super) fn suggest(queue: Option<&QueueName>, kind: &FindingKind) -> String {
    let name = queue.map_or("", QueueName::as_str);
    let on = || flag("queue", name);
    match kind {
        FindingKind::Unreadable { .. } if queue.is_some() => format!("asynq doctor {}", argument(name)),
        FindingKind::Unreadable { .. } => "asynq stats".to_owned(),
        FindingKind::NoConsumer { .. } => "asynq server list".to_owned(),
        FindingKind::UnhandledTypes { types, .. } => {
            let kind = types.first().map_or("", |found| found.task_type.as_str());
            search(&format!("queue={} type={}", value(name), value(kind)))
        }
        FindingKind::EvictionPolicy { node, .. } => redis(node.as_deref(), "CONFIG SET maxmemory-policy noeviction"),
        FindingKind::MemoryNearLimit { node, .. } => redis(node.as_deref(), "INFO memory"),
        FindingKind::RetryStorm { error, .. } => {
            let part = literal_part(&error.signature, &error.example);
            let mut query = format!("queue={} state=retry", value(name));
            if !part.is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(query, " error~{}", value(part));
            }
            search(&query)
        }
        FindingKind::FailureJump { .. } => {
            let query = format!("queue={} (state=retry or state=archived)", value(name));
            search(&query)
        }
        FindingKind::OldestPending { .. } => format!("asynq queue inspect {}", argument(name)),
        FindingKind::PausedLong { .. } => format!("asynq queue unpause {}", argument(name)),
        FindingKind::StuckGroup { group, .. } => format!(
            "asynq task list {} --state=aggregating {}",
            on(),
            flag("group", group.as_str())
        ),
        FindingKind::Orphans { .. } | FindingKind::ActiveWithoutLease { .. } | FindingKind::StaleLeases { .. } => {
            format!("asynq doctor --fix {}", argument(name))
        }
        FindingKind::Quarantine { .. } => format!("asynq doctor {}", argument(name)),
        FindingKind::RepeatedEntry { .. } => "asynq cron list".to_owned(),
        FindingKind::ClockSkew { .. } => "timedatectl status".to_owned(),
        FindingKind::ArchiveNearLimit { .. } => format!("asynq task list {} --state=archived", on()),
    }
}

fn search(query: &str) -> String {
    format!("asynq task search {}", quote(query))
}

fn redis(node: Option<&str>, command: &str) -> String {
    match node.and_then(|node| node.rsplit_once(':')) {
        Some((host, port)) => format!("redis-cli -h {} -p {} {command}", quote(host), quote(port)),
        // The server that the program is connected to.
        None => format!("redis-cli -h HOST -p PORT {command}"),
    }
}
