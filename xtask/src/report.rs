//! Results of the steps, and the summary at the end.

use std::fmt;
use std::ops::AddAssign;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::run::End;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };

    /// Reads a result line of Rust's test programs: `test result: ok. 16 passed; 0 failed; 2 ignored; …`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let line = anstream::adapter::strip_str(line).to_string();
        let (_, results) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for result in results.split("; ") {
            match result.split_once(' ') {
                Some((number, "passed")) => counts.passed = number.parse().ok()?,
                Some((number, "failed")) => counts.failed = number.parse().ok()?,
                Some((number, "ignored")) => counts.skipped = number.parse().ok()?,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The result of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// It could not be done here, for this reason, which is no failure.
    Skipped(String),
}

impl Outcome {
    /// The outcome of a check that lists what it found.
    pub(crate) fn of(breaches: &[String]) -> Self {
        if breaches.is_empty() {
            return Self::Passed;
        }
        for breach in breaches {
            eprintln!("{breach}");
        }
        Self::Failed(format!("{} findings, see above", breaches.len()))
    }
}

impl From<anyhow::Result<()>> for Outcome {
    fn from(result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => {
                eprintln!("{error:#}");
                Self::Failed("see above".to_owned())
            }
        }
    }
}

impl From<anyhow::Result<End>> for Outcome {
    fn from(end: anyhow::Result<End>) -> Self {
        match end {
            Ok(end) if end.success() => Self::Passed,
            Ok(end) => Self::Failed(end.failure()),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

struct Step {
    name: String,
    outcome: Outcome,
    counts: Option<Counts>,
    took: Duration,
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Does a step that is a check, and tells what it came to.
    pub(crate) fn check(&mut self, name: &str, step: impl FnOnce() -> Outcome) {
        self.add(name, || (step(), None));
    }

    /// Does a step that runs tests, and tells what it came to.
    ///
    /// A step that failed although no test did counts as one that failed: its tests did not compile or their program crashed.
    pub(crate) fn tests(&mut self, name: &str, step: impl FnOnce() -> (Outcome, Counts)) {
        self.add(name, || {
            let (outcome, mut counts) = step();
            if matches!(outcome, Outcome::Failed(_)) && counts.failed == 0 {
                counts += Counts::FAILED;
            }
            (outcome, Some(counts))
        });
    }

    fn add(&mut self, name: &str, step: impl FnOnce() -> (Outcome, Option<Counts>)) {
        println!("\n== {name}");
        let started = Instant::now();
        let (outcome, counts) = step();
        self.steps.push(Step {
            name: name.to_owned(),
            outcome,
            counts,
            took: started.elapsed(),
        });
    }

    /// The sum of all tests.
    pub(crate) fn total(&self) -> Counts {
        let mut total = Counts::default();
        for counts in self.steps.iter().filter_map(|step| step.counts) {
            total += counts;
        }
        total
    }

    /// One line per step.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec!["\n== summary".to_owned()];
        for Step {
            name,
            outcome,
            counts,
            took,
        } in &self.steps
        {
            let (verdict, why) = match outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
            };
            let mut line = format!("{verdict:<8}{name:<34}{:>7.1} s", took.as_secs_f64());
            let counts = counts.as_ref().map(ToString::to_string);
            for text in counts
                .iter()
                .map(String::as_str)
                .chain([why])
                .filter(|text| !text.is_empty())
            {
                line.push_str("  ");
                line.push_str(text);
            }
            lines.push(line);
        }
        lines.join("\n")
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        let failed = self.steps.iter().any(|step| matches!(step.outcome, Outcome::Failed(_)));
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: ok. 16 passed; 0 failed; 2 ignored; 0 measured; 1 filtered out; finished in 0.01s\n";
        assert_eq!(
            Counts::parse(line),
            Some(Counts {
                passed: 16,
                failed: 0,
                skipped: 2
            })
        );
        let line = "test result: \u{1b}[31mFAILED\u{1b}[0m. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            Counts::parse(line),
            Some(Counts {
                passed: 3,
                failed: 1,
                skipped: 0
            })
        );
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "test queue::pauses ... ok",
            "all doctests ran in 0.61s",
            "test result: ok",
            "test result: ",
        ] {
            assert_eq!(Counts::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_step_that_fails_without_a_failed_test_counts_as_one() {
        let mut report = Report::default();
        report.tests("do not compile", || {
            (Outcome::Failed("exit status: 101".to_owned()), Counts::default())
        });
        assert_eq!(report.total(), Counts::FAILED);
        report.tests("fail", || {
            (Outcome::Failed("exit status: 101".to_owned()), Counts::FAILED)
        });
        assert_eq!(
            report.total(),
            Counts {
                passed: 0,
                failed: 2,
                skipped: 0
            }
        );
        assert_eq!(report.exit_code(), ExitCode::FAILURE);
    }

    #[test]
    fn what_is_skipped_is_told_and_is_no_failure() {
        let mut report = Report::default();
        report.check("licences", || {
            Outcome::Skipped("cargo-deny is not installed".to_owned())
        });
        report.check("floors", || Outcome::of(&[]));
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
        let summary = report.summary();
        assert!(summary.contains("skipped licences"), "{summary}");
        assert!(summary.ends_with("s"), "{summary}");
        assert!(summary.contains("cargo-deny is not installed"), "{summary}");
    }

    #[test]
    fn a_check_that_finds_something_fails() {
        let mut report = Report::default();
        report.check("floors", || Outcome::of(&["asynq-core knows redis".to_owned()]));
        assert_eq!(report.exit_code(), ExitCode::FAILURE);
    }
}
