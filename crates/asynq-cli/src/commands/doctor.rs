//! `asynq doctor`.

use std::{collections::BTreeSet, pin::pin};

use anstyle::AnsiColor;
use asynq::inspector::{Diagnosis, Doctor as Run, DoctorStep, Repair};
use asynq_web::records::DiagnosisRecord;
use clap::Args;
use indicatif::ProgressBar;

use crate::{
    cli::Global,
    error::{CliError, Result},
    output::{BOLD, Listing, Output, one_line},
    session::Session,
};

#[derive(Debug, Args)]
#[command(
    after_help = "No repair deletes a task: data that cannot be used go to quarantine. What is not safe to repair is left, \
                        with the reason. Servers and clients may go on meanwhile. Ctrl-C stops between two steps.\n\n\
                        Exit status: 0 if nothing is wrong or everything is repaired, 1 if something is left."
)]
pub(crate) struct Doctor {
    /// The queues; one that the list of queues has lost is found if it is named. Default: all.
    #[arg(value_name = "QUEUE", add = super::complete::queues())]
    queues: Vec<String>,
    /// Repair what is safe to repair.
    #[arg(long)]
    fix: bool,
}

impl Doctor {
    pub(crate) async fn run(&self, global: &Global) -> Result<()> {
        let session = global.connect().await?;
        let what = match self.queues.as_slice() {
            [] => "all queues".to_owned(),
            [queue] => format!("queue {}", one_line(queue)),
            queues => format!("queues {}", one_line(&queues.join(", "))),
        };
        let mut run = session.inspector.doctor();
        for queue in &self.queues {
            run = run.queue(queue)?;
        }
        if self.fix {
            session
                .hands
                .confirm(&format!("Repair the data of {what} at {}", session.place()))?;
            run = run.fix();
        }
        let mut told = Told::new(session.out);
        let ended = self.look(&session, &mut run, &mut told).await;
        match told.end(&run, self.fix) {
            Err(error) if self.fix && error.reader_gone => {}
            told => told?,
        }
        match ended? {
            End::Stopped => Err(CliError::failure("stopped before the end")
                .hint("What was told above is done. Run it again to look at everything.")),
            End::Complete if told.left == 0 => Ok(()),
            End::Complete if self.fix => Err(CliError::failure(match told.left {
                1 => "1 breach left as it is".to_owned(),
                left => format!("{left} breaches left as they are"),
            })),
            End::Complete => Err(
                CliError::failure(format!("{} found", numbered(told.left, "breach", "breaches")))
                    .hint("`asynq doctor --fix` repairs what is safe to repair."),
            ),
        }
    }

    /// Makes all steps, until the end or Ctrl-C.
    async fn look(&self, session: &Session, run: &mut Run<dyn asynq::broker::Storage>, told: &mut Told) -> Result<End> {
        let mut lost: BTreeSet<&str> = BTreeSet::new();
        if !self.queues.is_empty() {
            let known = session.inspector.queues().await?;
            lost.extend(self.queues.iter().map(String::as_str));
            known.iter().for_each(|queue| {
                lost.remove(queue.as_str());
            });
        }
        let mut stop = pin!(tokio::signal::ctrl_c());
        let mut is_stopped = false;
        loop {
            let step = {
                let mut step = pin!(run.next());
                loop {
                    tokio::select! {
                        biased;
                        // The step goes to its end, so that its repairs are told and recorded.
                        _ = &mut stop, if !is_stopped => is_stopped = true,
                        step = &mut step => break step?,
                        // Redis may not answer. Another Ctrl-C waits no longer.
                        _ = tokio::signal::ctrl_c(), if is_stopped => return Ok(End::Stopped),
                    }
                }
            };
            let Some(step) = step else { break };
            told.looked(&step);
            if step.looked > 0 {
                lost.remove(step.queue.as_str());
            }
            for diagnosis in &step.findings {
                match told.tell(diagnosis) {
                    // A repair goes on, though nobody reads about it.
                    Err(error) if self.fix && error.reader_gone => {}
                    told => told?,
                }
            }
            if is_stopped {
                return Ok(End::Stopped);
            }
        }
        match lost.first() {
            None => Ok(End::Complete),
            Some(queue) => Err(CliError::not_found(format!("queue {queue:?} does not exist"))
                .hint("`asynq queue list` shows the queues.")),
        }
    }
}

enum End {
    Complete,
    Stopped,
}

/// The texts that are written while the run goes on.
struct Told {
    out: Output,
    records: Option<Listing>,
    /// Number of breaches that are not repaired.
    left: u64,
    /// Number of ids and keys that were looked at.
    looked: u64,
    /// The place of the run, on a terminal.
    bar: ProgressBar,
}

impl Told {
    fn new(out: Output) -> Self {
        Self {
            out,
            records: (!out.is_text()).then(|| out.listing(&[])),
            left: 0,
            looked: 0,
            bar: ProgressBar::new_spinner(),
        }
    }

    fn looked(&mut self, step: &DoctorStep) {
        self.looked += step.looked;
        let queue = one_line(step.queue.as_str());
        self.bar
            .set_message(format!("queue {queue}: {} ids and keys looked at", self.looked));
        self.bar.tick();
    }

    fn tell(&mut self, diagnosis: &Diagnosis) -> Result<()> {
        let record = DiagnosisRecord::of(diagnosis);
        self.left += u64::from(matches!(
            (&diagnosis.result, diagnosis.fixed),
            (Repair::Left(_), _) | (Repair::Done(_), false)
        ));
        let (out, records) = (self.out, &mut self.records);
        self.bar.suspend(|| match records {
            Some(records) => records.push(Vec::new(), &record),
            None => out.text(text(&record)),
        })
    }

    /// The sums, which programs have from the objects.
    fn end(&mut self, run: &Run<dyn asynq::broker::Storage>, fix: bool) -> Result<()> {
        self.bar.finish_and_clear();
        if let Some(records) = self.records.take() {
            records.end(String::new)?;
            return Ok(());
        }
        let report = run.report();
        let mut sums = format!(
            "{}, {}: {}",
            numbered(report.queues, "queue", "queues"),
            numbered(report.looked, "id or key", "ids and keys"),
            numbered(report.found, "breach", "breaches"),
        );
        if fix {
            sums += &format!(", {} repaired, {} left", report.repaired, self.left);
        } else if report.left > 0 {
            sums += &format!(", {} of which no repair is safe", report.left);
        }
        if report.gone > 0 {
            sums += &format!("; {} more were gone at the second look", report.gone);
        }
        self.out.text(sums + "\n")
    }
}

/// A breach for people.
fn text(record: &DiagnosisRecord) -> String {
    let (style, result) = match record.result {
        "repaired" => (AnsiColor::Green.on_default(), "repaired"),
        "can_be_repaired" => (AnsiColor::Yellow.on_default(), "to repair"),
        "left" => (AnsiColor::Red.on_default(), "left"),
        _ => (BOLD, "gone before the repair"),
    };
    let detail = match &record.detail {
        Some(detail) => format!(": {}", one_line(detail)),
        None => String::new(),
    };
    format!(
        "{BOLD}queue {}: {}{BOLD:#}\n    {}\n    {}\n    {}\n    {style}{result}{style:#}{detail}\n",
        one_line(&record.queue),
        one_line(&record.breach),
        record.effect,
        record.cause,
        record.repair,
    )
}

fn numbered(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
