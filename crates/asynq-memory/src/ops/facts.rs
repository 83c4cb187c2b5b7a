//! The facts that findings are made of.

use std::time::Duration;

use asynq_core::{
    TaskState,
    clock::from_unix_secs,
    error::BrokerError,
    findings::{DayRuns, FACT_GROUPS, FACT_IDS, GroupFacts, Pause, QueueFacts},
    keys,
    names::{GroupKey, QueueName},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{Data, Queue};

/// The facts about a queue; one without keys has no tasks.
pub(crate) fn queue(
    data: &mut Data,
    name: &QueueName,
    late: Duration,
    now: DateTime<Utc>,
) -> Result<QueueFacts, BrokerError> {
    let queue = data.queue(name);
    queue.check(&[
        "pending",
        "active",
        "scheduled",
        "retry",
        "archived",
        "completed",
        "lease",
        "x:quarantine",
        "groups",
    ])?;
    let late = TimeDelta::from_std(late).unwrap_or(TimeDelta::MAX);
    let late = now.checked_sub_signed(late).map_or(0, |at| at.timestamp());
    let next = queue.pending.back().and_then(|id| queue.tasks.get(id));
    let since = next.and_then(|task| task.pending_since).filter(|since| *since > 0);
    let mut facts = QueueFacts::empty(name.clone(), now);
    facts.pending = queue.pending.len() as u64;
    facts.active = queue.active.len() as u64;
    facts.scheduled = queue.scheduled.len() as u64;
    facts.retry = queue.retry.len() as u64;
    facts.archived = queue.archived.len() as u64;
    facts.completed = queue.completed.len() as u64;
    facts.leases = queue.lease.len() as u64;
    facts.quarantined = queue.quarantine.len() as u64;
    facts.pause = queue.is_paused().then(|| Pause {
        since: paused_since(queue),
    });
    facts.pending_since = since.map(DateTime::from_timestamp_nanos);
    facts.runs = [now, now - TimeDelta::days(1)].map(|day| runs(queue, day, now));
    let delayed = queue.scheduled.iter().chain(queue.retry.iter());
    facts.late = delayed.filter(|(_, due)| *due < late).count() as u64;
    let (stale, living): (Vec<_>, Vec<_>) = queue
        .lease
        .iter()
        .take(FACT_IDS)
        .partition(|(id, _)| !is_active(queue, id));
    let ended = queue.lease.iter().take_while(|(_, ends)| *ends < late).count();
    let ended_stale = stale.iter().filter(|(_, ends)| *ends < late).count();
    facts.ended_leases = ended.saturating_sub(ended_stale) as u64;
    let first = living.first();
    facts.first_lease = first.and_then(|(id, ends)| Some(((*id).clone(), from_unix_secs(*ends)?)));
    facts.first_archived = queue.archived.first().and_then(|(_, at)| from_unix_secs(at));
    let active = queue.active.iter().rev().take(FACT_IDS).rev();
    facts.unleased = active.filter(|id| !queue.lease.contains(*id)).cloned().collect();
    facts.stale_leases = stale.into_iter().map(|(id, _)| id.clone()).collect();
    facts.groups = queue.groups.len() as u64;
    let groups = queue.groups.iter().take(FACT_GROUPS).filter_map(|name| {
        let waiting = queue.gathered.get(name)?;
        Some(GroupFacts {
            group: GroupKey::from_storage(name),
            size: waiting.len() as u64,
            since: waiting.first().and_then(|(_, at)| from_unix_secs(at)),
        })
    });
    facts.some_groups = groups.collect();
    facts.some_groups.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(facts)
}

fn paused_since(queue: &Queue) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(queue.paused.as_ref()?).ok()?;
    from_unix_secs(text.parse().ok()?)
}

fn runs(queue: &Queue, day: DateTime<Utc>, now: DateTime<Utc>) -> DayRuns {
    let day = keys::day(day);
    let counter = |name: &str| {
        let value = queue.counters.get(&format!("{name}:{day}"), now);
        value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
    };
    DayRuns {
        processed: counter("processed"),
        failed: counter("failed"),
    }
}

fn is_active(queue: &Queue, id: &asynq_core::TaskId) -> bool {
    let state = queue.task(id).and_then(|task| task.known_state());
    state.is_ok_and(|state| state == TaskState::Active)
}
