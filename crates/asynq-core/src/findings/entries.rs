//! Scheduler entries that are registered several times.
//!
//! Several schedulers of ours with one name register the same entries on purpose: only one of them enqueues the task of
//! each tick. The entries of Go's schedulers, and of ours under different names, enqueue each for itself. The history of
//! the entries tells which it is.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Finding,
    facts::EntryReading,
    kind::{FindingKind, Severity},
};
use crate::{cron::CronSpec, info::SchedulerEntry, names::TaskId};

/// Number of ticks of a spec whose shortest interval counts.
const TICKS: usize = 10;
/// Largest number of entries that are read of one task.
const SAME: usize = 4;
/// Largest number of tasks whose entries are read.
const TASKS: usize = 20;
/// Number of ids that a finding has.
const IDS: usize = 10;

type What<'e> = (&'e str, &'e str, &'e [u8], &'e [String]);

/// Returns whether two entries enqueue the same task at the same times.
#[must_use]
pub fn same_entry(a: &SchedulerEntry, b: &SchedulerEntry) -> bool {
    what(a) == what(b)
}

fn what(entry: &SchedulerEntry) -> What<'_> {
    (&entry.spec, &entry.task_type, &entry.payload, &entry.options)
}

/// Returns the entries whose history must be read: of each task that is registered several times the first four entries,
/// for 20 tasks.
#[must_use]
pub fn repeated_entries(entries: &[SchedulerEntry]) -> Vec<&SchedulerEntry> {
    let mut groups: BTreeMap<What<'_>, Vec<&SchedulerEntry>> = BTreeMap::new();
    for entry in entries {
        groups.entry(what(entry)).or_default().push(entry);
    }
    let repeated = groups.into_values().filter(|same| same.len() > 1).take(TASKS);
    repeated.flat_map(|same| same.into_iter().take(SAME)).collect()
}

/// Finds tasks that several entries enqueue, each for itself.
pub(super) fn judge(entries: &[EntryReading], found: &mut Vec<Finding>) {
    let mut groups: BTreeMap<What<'_>, Vec<&EntryReading>> = BTreeMap::new();
    for reading in entries {
        groups.entry(what(&reading.entry)).or_default().push(reading);
    }
    for same in groups.into_values() {
        let Some(twice) = enqueued_twice(&same) else { continue };
        let entry = &same[0].entry;
        let ids = same.iter().map(|reading| reading.entry.id.clone());
        let kind = FindingKind::RepeatedEntry {
            spec: entry.spec.clone(),
            task_type: entry.task_type.clone(),
            entries: ids.take(IDS).collect(),
            count: same.len() as u64,
            tasks: twice.clone().map(|(_, id)| id),
            at: twice.map(|(at, _)| at),
        };
        found.push(Finding::new(None, Severity::Warning, kind));
    }
}

/// Returns the last two tasks that different entries enqueued within less than half of the shortest interval.
fn enqueued_twice(same: &[&EntryReading]) -> Option<[(DateTime<Utc>, TaskId); 2]> {
    let mut events: Vec<_> = same
        .iter()
        .enumerate()
        .flat_map(|(nth, reading)| {
            reading
                .events
                .iter()
                .map(move |event| (event.enqueued_at, nth, &event.task_id))
        })
        .collect();
    events.sort();
    let (last, ..) = events.last()?;
    let shortest = shortest_interval(&same[0].entry.spec, *last)?;
    let pair = events.windows(2).rev().find(|pair| {
        let (first, second) = (&pair[0], &pair[1]);
        first.1 != second.1 && (second.0 - first.0) * 2 < shortest
    })?;
    Some([(pair[0].0, pair[0].2.clone()), (pair[1].0, pair[1].2.clone())])
}

fn shortest_interval(spec: &str, from: DateTime<Utc>) -> Option<TimeDelta> {
    let spec = CronSpec::parse(spec).ok()?;
    let mut ticks = Vec::with_capacity(TICKS);
    let mut at = from;
    while ticks.len() < TICKS {
        let Some(next) = spec.next_after(&at) else { break };
        ticks.push(next);
        at = next;
    }
    ticks.windows(2).map(|pair| pair[1] - pair[0]).min()
}
