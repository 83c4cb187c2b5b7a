//! The rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

pub use super::entries::{repeated_entries, same_entry};
use super::{
    Finding, entries,
    facts::{DayRuns, Facts, QueueFacts, QueueReading, StorageFacts},
    kind::{Aggregators, FindingKind, Severity, TypeCount},
    options::FindingsOptions,
    sort,
};
use crate::{
    info::{ServerInfo, ServerStatus, TaskInfo},
    names::{QueueName, TaskId},
    signature::Tally,
    tree::PublishedTree,
};

/// Number of ids and types that a finding has as examples.
const EXAMPLES: usize = 10;
/// Largest number of tasks that a queue keeps in its archive.
const ARCHIVE: u64 = crate::broker::MAX_ARCHIVED as u64 - 1;
/// A leased task is recovered half a minute after this. A clock that is so wrong lets Go's servers take running tasks.
const GRAVE_SKEW: TimeDelta = TimeDelta::seconds(30);
/// Share of the memory from which a server is about to refuse tasks.
const GRAVE_SHARE: f64 = 0.95;

/// Makes findings of facts, most serious first. A fact that is not known makes none.
#[must_use]
pub fn judge(facts: &Facts, options: &FindingsOptions) -> Vec<Finding> {
    let mut found = Vec::new();
    let consumers = facts
        .servers
        .as_deref()
        .map(|servers| Consumers::of(servers, &facts.trees));
    for reading in &facts.queues {
        let queue = Queue {
            reading,
            facts: &reading.facts,
            consumers: consumers.as_ref().map(|all| all.of_queue(&reading.facts.queue)),
            options,
            now: facts.now,
        };
        queue.judge(&mut found);
    }
    for storage in &facts.storage {
        judge_storage(storage, options, &mut found);
    }
    entries::judge(&facts.entries, &mut found);
    for unread in &facts.unread {
        let kind = FindingKind::Unreadable {
            part: unread.part,
            error: unread.error.clone(),
        };
        found.push(Finding::new(unread.queue.as_ref(), Severity::Warning, kind));
    }
    sort(&mut found);
    found
}

/// A running server that takes from a queue, with its tree if it is ours.
struct Consumer<'f> {
    tree: Option<&'f PublishedTree>,
}

/// The consumers of all queues.
pub(super) struct Consumers<'f>(HashMap<&'f str, Vec<Consumer<'f>>>);

impl<'f> Consumers<'f> {
    pub(super) fn of(servers: &'f [ServerInfo], trees: &'f [PublishedTree]) -> Self {
        let mut tree_of = HashMap::new();
        for tree in trees {
            let identity = (tree.host.as_str(), tree.pid, tree.server_id.as_str());
            tree_of.entry(identity).or_insert(tree);
        }
        let mut all: HashMap<&str, Vec<Consumer<'_>>> = HashMap::new();
        for server in servers.iter().filter(|server| server.status == ServerStatus::Active) {
            let identity = (server.host.as_str(), server.pid, server.server_id.as_str());
            let tree = tree_of.get(&identity).copied();
            for queue in server.queues.keys() {
                all.entry(queue).or_default().push(Consumer { tree });
            }
        }
        Self(all)
    }

    fn of_queue(&self, queue: &QueueName) -> &[Consumer<'f>] {
        self.0.get(queue.as_str()).map_or(&[], Vec::as_slice)
    }

    /// Returns whether there are consumers, and the task types that each of them handles are known.
    pub(super) fn tell_their_types(&self, queue: &QueueName) -> bool {
        patterns(self.of_queue(queue)).is_some()
    }
}

/// Returns the patterns of the task types that these consumers handle; `None` if there is none, or one does not tell.
fn patterns<'f>(consumers: &[Consumer<'f>]) -> Option<BTreeSet<&'f str>> {
    let mut patterns = BTreeSet::new();
    for consumer in consumers {
        let handles = consumer.tree?.tree.handles.as_ref()?;
        patterns.extend(handles.iter().map(String::as_str));
    }
    (!consumers.is_empty()).then_some(patterns)
}

/// A queue, with what is needed to judge it.
struct Queue<'f> {
    reading: &'f QueueReading,
    facts: &'f QueueFacts,
    /// `None`: not known.
    consumers: Option<&'f [Consumer<'f>]>,
    options: &'f FindingsOptions,
    now: DateTime<Utc>,
}

impl Queue<'_> {
    fn judge(&self, found: &mut Vec<Finding>) {
        let rules = [
            self.no_consumer(),
            self.unhandled_types(),
            self.retry_storm(),
            self.failure_jump(),
            self.oldest_pending(),
            self.paused(),
            self.stuck_group(),
            self.orphans(),
            self.active_without_lease(),
            self.stale_leases(),
            self.quarantine(),
            self.archive(),
        ];
        let found_here = rules.into_iter().flatten();
        found.extend(found_here.map(|(severity, kind)| Finding::new(Some(&self.facts.queue), severity, kind)));
    }

    /// Returns how long ago a time was.
    fn since(&self, at: DateTime<Utc>) -> std::time::Duration {
        (self.now - at).to_std().unwrap_or_default()
    }

    fn is_unserved(&self) -> bool {
        self.consumers.is_some_and(<[_]>::is_empty)
    }

    fn no_consumer(&self) -> Option<(Severity, FindingKind)> {
        let QueueFacts {
            pending,
            late,
            pending_since: since,
            ..
        } = *self.facts;
        // A pending task of a foreign program need not say since when.
        let waits = pending > 0 && since.is_none_or(|since| self.since(since) >= self.options.unserved_after);
        (self.is_unserved() && (waits || late > 0))
            .then_some((Severity::Critical, FindingKind::NoConsumer { pending, late, since }))
    }

    fn unhandled_types(&self) -> Option<(Severity, FindingKind)> {
        let patterns = patterns(self.consumers?)?;
        let is_handled = |task: &TaskInfo| patterns.iter().any(|pattern| task.task_type.starts_with(pattern));
        let sample = self.reading.pending.iter().chain(&self.reading.retry);
        let sample: Vec<_> = sample.filter(|task| task.damage.is_none()).collect();
        let mut types: BTreeMap<&str, TypeCount> = BTreeMap::new();
        for task in sample.iter().filter(|task| !is_handled(task)) {
            let found = types.entry(&task.task_type).or_insert_with(|| TypeCount {
                task_type: task.task_type.clone(),
                count: 0,
                example: task.id.clone(),
            });
            found.count += 1;
        }
        let mut types: Vec<_> = types.into_values().collect();
        let tasks = types.iter().map(|found| found.count).sum();
        types.sort_by(|a, b| (b.count, &a.task_type).cmp(&(a.count, &b.task_type)));
        types.truncate(EXAMPLES);
        (tasks > 0).then_some((
            Severity::Critical,
            FindingKind::UnhandledTypes {
                types,
                tasks,
                looked_at: sample.len() as u64,
            },
        ))
    }

    fn retry_storm(&self) -> Option<(Severity, FindingKind)> {
        let mut tally = Tally::default();
        self.reading.retry.iter().for_each(|task| tally.add(task));
        let errors = tally.finish(self.facts.retry);
        let looked_at = errors.looked_at;
        let error = errors.top.into_iter().next()?;
        (error.count >= self.options.retry_storm).then_some((
            Severity::Critical,
            FindingKind::RetryStorm {
                error,
                looked_at,
                retry: self.facts.retry,
            },
        ))
    }

    fn failure_jump(&self) -> Option<(Severity, FindingKind)> {
        let [today, yesterday] = self.facts.runs;
        let (now, before) = (DayRuns::failure_rate(today), DayRuns::failure_rate(yesterday));
        // A share of yesterday that nobody ran tells nothing.
        let counts = today.processed >= self.options.failure_runs && yesterday.processed > 0;
        // The last digits of a difference of shares are noise.
        let jumps = now - before >= self.options.failure_jump - 1e-9 && now >= 2.0 * before && now > 0.0;
        (counts && jumps).then_some((Severity::Warning, FindingKind::FailureJump { today, yesterday }))
    }

    /// A queue that is paused or that nobody serves has a finding of its own.
    fn oldest_pending(&self) -> Option<(Severity, FindingKind)> {
        let since = self.facts.pending_since.filter(|_| self.facts.pending > 0)?;
        let waited = self.since(since);
        let is_late = waited >= self.options.oldest_pending;
        (is_late && self.facts.pause.is_none() && !self.is_unserved()).then_some((
            Severity::Warning,
            FindingKind::OldestPending {
                since,
                waited,
                pending: self.facts.pending,
            },
        ))
    }

    fn paused(&self) -> Option<(Severity, FindingKind)> {
        let since = self.facts.pause?.since;
        let is_long = since.is_none_or(|since| self.since(since) >= self.options.paused_after);
        let waiting = self.facts.pending + self.facts.late;
        let severity = if waiting > 0 {
            Severity::Warning
        } else {
            Severity::Notice
        };
        is_long.then_some((severity, FindingKind::PausedLong { since, waiting }))
    }

    fn aggregators(&self) -> Aggregators {
        let Some(consumers) = self.consumers else {
            return Aggregators::Unknown;
        };
        let runs = |consumer: &Consumer<'_>| {
            let tree = &consumer.tree?.tree;
            Some(tree.find(&["maintenance", "aggregator"]).is_some())
        };
        let known: Vec<_> = consumers.iter().map(runs).collect();
        if known.contains(&Some(true)) {
            Aggregators::Running
        } else if known.contains(&None) {
            Aggregators::Unknown
        } else {
            Aggregators::None
        }
    }

    fn stuck_group(&self) -> Option<(Severity, FindingKind)> {
        let aggregators = self.aggregators();
        // A system that only aggregates is not seen, so a group that nobody seems to aggregate gets the same time.
        let after = self.options.group_after;
        let severity = match aggregators {
            Aggregators::None => Severity::Critical,
            _ => Severity::Warning,
        };
        let groups = &self.facts.some_groups;
        let stuck = groups.iter().filter_map(|group| {
            let since = group.since?;
            (self.since(since) >= after).then_some((since, group))
        });
        let stuck: Vec<_> = stuck.collect();
        let (since, group) = stuck.iter().min_by_key(|(since, group)| (*since, &group.group))?;
        let kind = FindingKind::StuckGroup {
            group: group.group.clone(),
            size: group.size,
            since: *since,
            aggregators,
            stuck: stuck.len() as u64,
            looked_at: groups.len() as u64,
            groups: self.facts.groups,
        };
        Some((severity, kind))
    }

    fn orphans(&self) -> Option<(Severity, FindingKind)> {
        let (first, ended) = self.facts.first_lease.clone()?;
        let leases = self.facts.ended_leases;
        (leases > 0).then_some((Severity::Warning, FindingKind::Orphans { leases, first, ended }))
    }

    fn active_without_lease(&self) -> Option<(Severity, FindingKind)> {
        let QueueFacts { active, leases, .. } = *self.facts;
        let seen = self.facts.unleased.len() as u64;
        let at_least = seen.max(active.saturating_sub(leases));
        let kind = FindingKind::ActiveWithoutLease {
            at_least,
            examples: examples(&self.facts.unleased),
            active,
            leases,
        };
        (at_least > 0).then_some((Severity::Critical, kind))
    }

    fn stale_leases(&self) -> Option<(Severity, FindingKind)> {
        let QueueFacts { active, leases, .. } = *self.facts;
        let seen = self.facts.stale_leases.len() as u64;
        let at_least = seen.max(leases.saturating_sub(active));
        let kind = FindingKind::StaleLeases {
            at_least,
            examples: examples(&self.facts.stale_leases),
        };
        (at_least > 0).then_some((Severity::Notice, kind))
    }

    fn quarantine(&self) -> Option<(Severity, FindingKind)> {
        let tasks = self.facts.quarantined;
        (tasks > 0).then_some((Severity::Warning, FindingKind::Quarantine { tasks }))
    }

    fn archive(&self) -> Option<(Severity, FindingKind)> {
        let (archived, first) = (self.facts.archived, self.facts.first_archived);
        let is_old = first.is_some_and(|first| self.since(first) >= self.options.archive_age);
        let kind = FindingKind::ArchiveNearLimit {
            archived,
            limit: ARCHIVE,
            first,
        };
        (archived >= self.options.archive_tasks || is_old).then_some((Severity::Notice, kind))
    }
}

fn examples(ids: &[TaskId]) -> Vec<TaskId> {
    ids.iter().take(EXAMPLES).cloned().collect()
}

fn judge_storage(storage: &StorageFacts, options: &FindingsOptions, found: &mut Vec<Finding>) {
    let node = || storage.node.clone();
    if let Some(policy) = storage
        .eviction_policy
        .as_ref()
        .filter(|policy| *policy != "noeviction")
    {
        let kind = FindingKind::EvictionPolicy {
            node: node(),
            policy: policy.clone(),
        };
        found.push(Finding::new(None, Severity::Critical, kind));
    }
    if let (Some(used), Some(limit)) = (storage.used_memory, storage.max_memory) {
        let share = used as f64 / limit.max(1) as f64;
        if share >= options.memory_share {
            let is_grave = share >= GRAVE_SHARE;
            let severity = if is_grave {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let kind = FindingKind::MemoryNearLimit {
                node: node(),
                used,
                limit,
            };
            found.push(Finding::new(None, severity, kind));
        }
    }
    if let Some(clock) = storage.clock {
        let ahead = clock.server - clock.host;
        // What the time of the question leaves open is not held against the clock.
        let sure = ahead.abs() - TimeDelta::from_std(clock.within).unwrap_or(TimeDelta::MAX);
        if sure >= options.clock_skew {
            let is_grave = sure >= GRAVE_SKEW;
            let severity = if is_grave {
                Severity::Critical
            } else {
                Severity::Warning
            };
            let kind = FindingKind::ClockSkew {
                node: node(),
                ahead,
                within: clock.within,
            };
            found.push(Finding::new(None, severity, kind));
        }
    }
}
