//! The results, as JSON and as tables.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{
    measure::Sample,
    plan::{Contestant, Row, SECTIONS, Work},
    stats::{Spread, median},
};

/// Makes the cells of a line behind the first two.
type Cells = fn(&Results, &Line) -> Vec<String>;

/// Headings of the kinds of tables.
const LOOKS: &[&str] = &["", "", "p50 ms", "p99 ms", "largest ms", "commands", "CPU ms of Redis"];
const DELAYS: &[&str] = &["", "", "p50 ms", "p99 ms", "largest ms", "smallest ms"];
const IDLE: &[&str] = &[
    "",
    "",
    "commands a second",
    "CPU ms/s",
    "Redis CPU ms/s",
    "peak MB",
    "own MB",
];
const RATES: &[&str] = &[
    "",
    "",
    "a second",
    "least to most",
    "x Go",
    "x bare",
    "CPU us",
    "user us",
    "Redis us",
    "per core-second",
    "a call",
    "peak MB",
    "own MB",
];

/// All that was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Names and values: machine, versions, when and how.
    pub(crate) about: Vec<(String, String)>,
    /// Peers that could not be had, and why.
    pub(crate) absent: Vec<(String, String)>,
    pub(crate) lines: Vec<Line>,
}

/// The measurements of one contestant in one row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) row: String,
    pub(crate) section: String,
    pub(crate) title: String,
    pub(crate) work: String,
    pub(crate) contestant: String,
    pub(crate) samples: Vec<Sample>,
    /// Reasons of measurements that failed.
    pub(crate) failures: Vec<String>,
}

impl Results {
    /// The line of a contestant in a row, made where it is the first time.
    pub(crate) fn line(&mut self, row: &Row, contestant: Contestant) -> &mut Line {
        let name = contestant.name();
        let place = self
            .lines
            .iter()
            .position(|line| line.row == row.id && line.contestant == name);
        let place = place.unwrap_or_else(|| {
            self.lines.push(Line {
                row: row.id.clone(),
                section: row.section.to_owned(),
                title: row.title.clone(),
                work: row.work.word().to_owned(),
                contestant: name,
                ..Line::default()
            });
            self.lines.len() - 1
        });
        &mut self.lines[place]
    }

    /// A figure of a contestant in a row: the median.
    pub(crate) fn known(&self, row: &str, contestant: Contestant, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        let name = contestant.name();
        let line = self
            .lines
            .iter()
            .find(|line| line.row == row && line.contestant == name)?;
        median(line.samples.iter().map(figure))
    }

    /// The medians of all ratios to another contestant in the same round.
    fn ratio(&self, line: &Line, other: Contestant) -> Option<f64> {
        let name = other.name();
        let other = self
            .lines
            .iter()
            .find(|other| other.row == line.row && other.contestant == name)?;
        median(line.samples.iter().filter_map(|sample| {
            let beside = other.samples.iter().find(|beside| beside.pair == sample.pair)?;
            Some(sample.rate() / beside.rate())
        }))
    }

    /// All tables in Markdown, with what they are about.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.about {
            let _ = writeln!(text, "- {name}: {value}");
        }
        for (peer, reason) in &self.absent {
            let first = reason.lines().next().unwrap_or_default();
            let _ = writeln!(text, "- absent: {peer} ({first})");
        }
        for (section, heading) in SECTIONS {
            let table = self.table(section);
            if table.len() > 1 {
                let _ = writeln!(text, "\n### {heading}\n\n{}", markdown(&table));
            }
        }
        text
    }

    /// All tables for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (section, heading) in SECTIONS {
            let table = self.table(section);
            if table.len() > 1 {
                let _ = writeln!(text, "\n{heading}\n{}", plain(&table));
            }
        }
        for line in &self.lines {
            for failure in &line.failures {
                let _ = writeln!(text, "failed: {} by {}: {failure}", line.row, line.contestant);
            }
        }
        text
    }

    /// The cells of a section, headings first.
    fn table(&self, section: &str) -> Vec<Vec<String>> {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.section == section).collect();
        let Some(first) = lines.first() else { return Vec::new() };
        let is = |work: Work| first.work == work.word();
        let (headings, cells): (&[&str], Cells) = if is(Work::Latency) {
            (DELAYS, |_, line| delays(line))
        } else if is(Work::Inspect) {
            (LOOKS, |_, line| looks(line))
        } else if is(Work::Idle) {
            (IDLE, |_, line| idle(line))
        } else {
            (RATES, Self::rates)
        };
        let mut table = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
        let mut before = "";
        for line in lines {
            let title = if line.row == before {
                String::new()
            } else {
                line.title.clone()
            };
            before = &line.row;
            let mut row = vec![title, line.contestant.clone()];
            if line.samples.is_empty() {
                row.push("failed".to_owned());
                row.resize(headings.len(), String::new());
            } else {
                row.extend(cells(self, line));
            }
            table.push(row);
        }
        without_empty(&table)
    }

    fn rates(&self, line: &Line) -> Vec<String> {
        let of = |figure: fn(&Sample) -> f64| Spread::of(line.samples.iter().map(figure));
        let shown = |spread: Option<Spread>, digits: usize| {
            spread.map_or_else(String::new, |spread| rounded(spread.median, digits))
        };
        let ratio = |other: Contestant| {
            let itself = line.contestant == other.name();
            let ratio = if itself { None } else { self.ratio(line, other) };
            ratio.map_or_else(String::new, |ratio| rounded(ratio, 2))
        };
        let rate = of(Sample::rate);
        vec![
            shown(rate, 0),
            rate.map_or_else(String::new, |rate| {
                format!("{} to {}", rounded(rate.min, 0), rounded(rate.max, 0))
            }),
            ratio(Contestant::GO),
            ratio(Contestant::Bare),
            shown(of(|sample| sample.micros(sample.client_cpu)), 1),
            shown(of(|sample| sample.micros(sample.client_user)), 1),
            shown(of(|sample| sample.micros(sample.redis_cpu)), 1),
            shown(of(Sample::per_core_second), 0),
            shown(of(Sample::batch), 1),
            shown(of(|sample| sample.peak_kb as f64 / 1024.0), 1),
            shown(of(|sample| sample.own_kb as f64 / 1024.0), 1),
        ]
    }
}

/// A table without the columns in which no line has a figure. The first two are of names.
fn without_empty(table: &[Vec<String>]) -> Vec<Vec<String>> {
    let is_kept = |column: usize| column < 2 || table.iter().skip(1).any(|cells| !cells[column].is_empty());
    let columns: Vec<usize> = (0..table[0].len()).filter(|column| is_kept(*column)).collect();
    let kept = |cells: &Vec<String>| columns.iter().map(|column| cells[*column].clone()).collect();
    table.iter().map(kept).collect()
}

/// Delays of a look, and what one costs Redis. Commands in scripts count.
fn looks(line: &Line) -> Vec<String> {
    let mut cells = delays(line);
    cells.truncate(3);
    let each = |figure: &dyn Fn(&Sample) -> f64| {
        let figures = line
            .samples
            .iter()
            .map(|sample| figure(sample) / sample.tasks.max(1) as f64);
        median(figures).unwrap_or_default()
    };
    cells.push(format!("{:.0}", each(&|sample| sample.commands as f64)));
    cells.push(format!("{:.2}", each(&|sample| sample.redis_cpu * 1000.0)));
    cells
}

fn delays(line: &Line) -> Vec<String> {
    let of = |name: &str| {
        let figures = line.samples.iter().filter_map(|sample| sample.delays.get(name));
        median(figures.map(|micros| *micros as f64 / 1000.0)).map_or_else(String::new, |ms| rounded(ms, 2))
    };
    ["p50_us", "p99_us", "max_us", "min_us"].map(of).to_vec()
}

fn idle(line: &Line) -> Vec<String> {
    let of = |figure: fn(&Sample) -> f64, digits| {
        median(line.samples.iter().map(figure)).map_or_else(String::new, |figure| rounded(figure, digits))
    };
    vec![
        of(|sample| sample.commands as f64 / sample.seconds, 2),
        of(|sample| sample.client_cpu * 1000.0 / sample.seconds, 2),
        of(|sample| sample.redis_cpu * 1000.0 / sample.seconds, 2),
        of(|sample| sample.peak_kb as f64 / 1024.0, 1),
        of(|sample| sample.own_kb as f64 / 1024.0, 1),
    ]
}

/// A figure with so many digits behind the point; without any, in groups of three.
fn rounded(figure: f64, digits: usize) -> String {
    if digits > 0 {
        return format!("{figure:.digits$}");
    }
    let text = format!("{figure:.0}");
    let mut grouped = String::new();
    for (place, digit) in text.chars().enumerate() {
        if place > 0 && (text.len() - place).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

fn markdown(table: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, cells) in table.iter().enumerate() {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "| --- | --- |{}", " ---: |".repeat(cells.len() - 2));
        }
    }
    text
}

fn plain(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| {
        table
            .iter()
            .map(|cells| cells[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for cells in table {
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let _ = if column < 2 {
                write!(text, "{cell:<width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::rows;

    fn sample(pair: usize, tasks: u64, seconds: f64) -> Sample {
        Sample {
            pair,
            tasks,
            seconds,
            client_cpu: 1.0,
            client_user: 0.5,
            redis_cpu: 0.5,
            scripts: tasks / 10,
            ..Sample::default()
        }
    }

    fn results() -> Results {
        let rows = rows(false);
        let row = rows.iter().find(|row| row.id == "drain-100").unwrap();
        let mut results = Results::default();
        results.line(row, Contestant::OURS).samples = vec![sample(1, 100_000, 1.0), sample(2, 100_000, 2.0)];
        results.line(row, Contestant::GO).samples = vec![sample(1, 10_000, 1.0), sample(2, 10_000, 1.0)];
        results
    }

    #[test]
    fn ratios_are_of_the_same_round_and_figures_for_each_task() {
        let results = results();
        let table = results.table("drain");
        assert_eq!(table.len(), 3);
        let ours = &table[1];
        assert_eq!(ours[0], "concurrency 100");
        assert_eq!(ours[2], "75 000");
        assert_eq!(ours[3], "50 000 to 100 000");
        assert_eq!(ours[4], "7.50", "the median of 10 and 5");
        assert_eq!(table[0][5], "CPU us", "there was no bare script");
        assert_eq!(&ours[5..], ["10.0", "5.0", "5.0", "200 000", "10.0", "0.0", "0.0"]);
        assert_eq!(table[2][0], "", "a title stands once");
    }

    #[test]
    fn results_survive_json() {
        let text = serde_json::to_string(&results()).unwrap();
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(read.markdown(), results().markdown());
        assert!(
            read.markdown()
                .contains("### Drain of no-op tasks\n\n|  |  | a second |"),
            "{}",
            read.markdown()
        );
    }

    #[test]
    fn a_contestant_that_always_failed_is_shown() {
        let mut results = results();
        let rows = rows(false);
        let row = rows.iter().find(|row| row.id == "drain-100").unwrap();
        results
            .line(row, Contestant::Bare)
            .failures
            .push("no answer".to_owned());
        assert_eq!(results.table("drain")[3][2], "failed");
        assert!(results.text().contains("drain-100 by bare script: no answer"));
    }

    #[test]
    fn large_figures_are_grouped() {
        assert_eq!(rounded(1_234_567.4, 0), "1 234 567");
        assert_eq!(rounded(999.0, 0), "999");
        assert_eq!(rounded(-1234.0, 0), "-1 234");
        assert_eq!(rounded(2.345, 1), "2.3");
    }
}
