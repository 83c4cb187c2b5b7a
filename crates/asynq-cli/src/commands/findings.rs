//! `asynq findings`.

use std::collections::BTreeSet;

use anstyle::{AnsiColor, Style};
use asynq::{
    Inspector, TaskState,
    findings::{Finding, Severity},
    inspector::{ErrorSignatures, MAX_SIGNATURE_TASKS},
};
use asynq_web::records::{FindingRecord, SignaturesRecord};
use clap::{Args, ValueEnum};

use crate::{
    cli::Global,
    error::{CliError, Result},
    go,
    output::{BOLD, Output, one_line, plain_table},
};

/// The states of tasks that have failed.
const FAILED: [TaskState; 2] = [TaskState::Retry, TaskState::Archived];

#[derive(Debug, Args)]
#[command(
    after_help = "A finding has a command below it, which mends the cause or shows more. The guide to operating queues \
                        lists all findings."
)]
pub(crate) struct Findings {
    /// Only what is about these queues.
    #[arg(value_name = "QUEUE", add = super::complete::queues())]
    queues: Vec<String>,
    /// Least severity that is shown.
    #[arg(long, value_enum, default_value_t = Level::Notice)]
    severity: Level,
    /// End with status 1 if there is a finding of this severity or above.
    #[arg(long, value_name = "SEVERITY", value_enum)]
    fail_on: Option<Level>,
    /// Group the errors of the tasks that wait for a retry or are archived instead, and count them.
    #[arg(long, conflicts_with_all = ["severity", "fail_on"])]
    errors: bool,
    /// Number of tasks of each queue whose errors are looked at.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, requires = "errors",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIGNATURE_TASKS)))]
    tasks: u32,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Worth knowing; nothing waits for it.
    Notice,
    /// Something does not go as it should.
    Warning,
    /// Tasks do not run, or may be lost.
    Critical,
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Self::Notice => Severity::Notice,
            Self::Warning => Severity::Warning,
            Self::Critical => Severity::Critical,
        }
    }
}

impl Findings {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        if self.errors {
            return self.show_errors(&session.inspector, session.out).await;
        }
        if !self.queues.is_empty() {
            must_exist(&session.inspector, &self.queues).await?;
        }
        let all = session.inspector.findings().await?;
        let is_asked = |finding: &&Finding| {
            let queue = finding.queue.as_ref().map(|queue| queue.as_str());
            self.queues.is_empty() || self.queues.iter().any(|name| Some(name.as_str()) == queue)
        };
        let found: Vec<&Finding> = all.iter().filter(is_asked).collect();
        let shown = found
            .iter()
            .filter(|finding| finding.severity >= self.severity.severity());
        let mut records = session.out.listing(&[]);
        let mut count = 0;
        for finding in shown {
            count += 1;
            let mut record = FindingRecord::of(finding);
            record.command = session.runnable(&record.command);
            match session.out.is_text() {
                true => session.out.text(text(&record))?,
                false => records.push(Vec::new(), &record)?,
            }
        }
        if session.out.is_text() {
            let queues = if self.queues.is_empty() {
                all.queues
            } else {
                self.queues.len()
            };
            let mut sum = format!("{} in {}", numbered(count, "finding"), numbered(queues, "queue"));
            if all.left_out > 0 && self.queues.is_empty() {
                sum += &format!(
                    "; {} left out, name them to look at them",
                    numbered(all.left_out, "queue")
                );
            }
            session.out.text(sum + "\n")?;
        } else {
            records.end(String::new)?;
        }
        let Some(level) = self.fail_on.map(Level::severity) else {
            return Ok(());
        };
        match found.iter().filter(|finding| finding.severity >= level).count() {
            0 => Ok(()),
            some => Err(CliError::failure(format!(
                "{} of severity {level} or above",
                numbered(some, "finding")
            ))),
        }
    }

    async fn show_errors(&self, inspector: &Inspector, out: Output) -> Result<()> {
        let queues = match self.queues.is_empty() {
            true => inspector.queues().await?.iter().map(ToString::to_string).collect(),
            false => self.queues.clone(),
        };
        let mut records = out.listing(&[]);
        for queue in &queues {
            let errors = inspector.error_signatures(queue, &FAILED, self.tasks).await?;
            match out.is_text() {
                true => out.text(errors_text(queue, &errors))?,
                false => records.push(Vec::new(), &SignaturesRecord::of(queue, errors))?,
            }
        }
        if out.is_text() && queues.is_empty() {
            return out.text("no queues\n");
        }
        if !out.is_text() {
            records.end(String::new)?;
        }
        Ok(())
    }
}

/// Fails if one of the queues does not exist.
///
/// # Errors
/// [`Status::NotFound`](crate::error::Status::NotFound).
async fn must_exist(inspector: &Inspector, queues: &[String]) -> Result<()> {
    let known: BTreeSet<String> = inspector.queues().await?.iter().map(ToString::to_string).collect();
    match queues.iter().find(|queue| !known.contains(*queue)) {
        None => Ok(()),
        Some(queue) => {
            Err(CliError::not_found(format!("queue {queue:?} does not exist"))
                .hint("`asynq queue list` shows the queues."))
        }
    }
}

/// A finding for people: the sentence, and the command below it.
fn text(finding: &FindingRecord) -> String {
    let style = style(finding.severity);
    format!(
        "{style}{}{style:#}: {}\n    {}\n",
        finding.severity,
        one_line(&finding.text),
        one_line(&finding.command)
    )
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Critical => AnsiColor::Red.on_default().bold(),
        Severity::Warning => AnsiColor::Yellow.on_default().bold(),
        _ => BOLD,
    }
}

/// The errors of a queue for people.
fn errors_text(queue: &str, errors: &ErrorSignatures) -> String {
    let looked = match errors.is_complete() {
        true => format!("all {} tasks looked at", errors.looked_at),
        false => format!("the first {} tasks looked at, of {}", errors.looked_at, errors.total),
    };
    let mut text = format!("{BOLD}{}{BOLD:#}: {looked}", one_line(queue));
    if errors.unreadable > 0 {
        text += &format!("; {} cannot be read", errors.unreadable);
    }
    text.push('\n');
    if errors.top.is_empty() {
        return text + "no errors\n\n";
    }
    let rows: Vec<Vec<String>> = errors
        .top
        .iter()
        .map(|found| {
            vec![
                found.count.to_string(),
                go::date_or_empty(found.last_failed_at),
                found.last.to_string(),
                found.signature.clone(),
            ]
        })
        .collect();
    text += &plain_table(&["Tasks", "Last failure", "Last task", "Error"], &rows);
    let more = errors.different.saturating_sub(errors.top.len() as u64);
    if more > 0 {
        text += &format!("{more} other errors\n");
    }
    text.push('\n');
    text
}

/// A number with its noun.
fn numbered(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
