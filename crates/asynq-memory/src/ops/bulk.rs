//! Acts on all tasks of a state or group.

use asynq_core::{
    Act, TaskState,
    error::{BrokerError, PoisonKind},
    inspect::{BULK_STEP, BulkEntry, BulkPlace, BulkStep, ListFilter},
    names::{QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    inspect,
    run_task::{leave, leave_group},
    settle,
};
use crate::model::{Data, End, Queue, StateField, number};

/// Acts on the next of the tasks; each id that is looked at leaves its container.
pub(crate) fn act_on_some(
    data: &mut Data,
    name: &QueueName,
    filter: &ListFilter,
    act: Act,
    place: Option<&BulkPlace>,
    now: DateTime<Utc>,
) -> Result<BulkStep, BrokerError> {
    filter.must_allow(act, name)?;
    let queue = inspect::known(data, name)?;
    let container = match filter {
        ListFilter::State(state) => state.as_str().to_owned(),
        ListFilter::Group(group) => format!("g:{group}"),
    };
    queue.check(&[&container])?;
    match act {
        Act::Run => queue.check(&["pending"])?,
        Act::Archive => queue.check(&["archived"])?,
        _ => {}
    }
    if matches!(filter, ListFilter::Group(_)) {
        queue.check(&["groups"])?;
        if queue.aggregation_sets.contains(&queue.key(&container)) {
            return Ok(BulkStep::default());
        }
    }
    let Some((ids, next)) = next_ids(queue, filter, place) else {
        return Ok(BulkStep::default());
    };
    let mut step = BulkStep {
        next,
        ..BulkStep::default()
    };
    for id in ids {
        take_out(queue, filter, &id);
        match look(queue, &id, filter.state()) {
            Look::Dropped => step.dropped += 1,
            Look::Damaged(kind) if act != Act::Delete => {
                queue.put_aside(&id, kind, now);
                step.poisoned.push((id, kind));
            }
            Look::Damaged(_) | Look::Ready => {
                act_on(queue, &id, act, now);
                step.done += 1;
            }
        }
    }
    if let ListFilter::Group(group) = filter
        && !queue.gathered.contains_key(group.as_str())
    {
        queue.groups.remove(group.as_str());
    }
    Ok(step)
}

/// The ids to look at, and the place behind them; `None` if there is nothing.
fn next_ids(queue: &Queue, filter: &ListFilter, place: Option<&BulkPlace>) -> Option<(Vec<TaskId>, Option<BulkPlace>)> {
    let entries: Vec<(i64, TaskId)> = match filter {
        ListFilter::State(TaskState::Pending) => queue.pending.iter().rev().map(|id| (0, id.clone())).collect(),
        _ => entries(queue, filter, place.map(|place| &place.after)),
    };
    let is_list = filter.state() == TaskState::Pending;
    let (last, left) = match place {
        Some(place) => (place.last.clone(), place.left),
        None => {
            let (score, id) = entries.last()?;
            let count = entries.len() as u64;
            (entry(*score, id, is_list), if is_list { count } else { 2 * count })
        }
    };
    let room = left.min(u64::from(BULK_STEP));
    let (mut ids, mut after, mut ended) = (Vec::new(), last.clone(), false);
    ended |= (entries.len() as u64) < room;
    for (score, id) in entries.into_iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
        if !is_list && is_behind(score, &id, &last) {
            ended = true;
            break;
        }
        after = entry(score, &id, is_list);
        let is_last = is_list && after == last;
        ids.push(id);
        if is_last {
            ended = true;
            break;
        }
    }
    let left = left - ids.len() as u64;
    let next = (!ended && left > 0).then_some(BulkPlace { after, last, left });
    Some((ids, next))
}

/// The entries of a sorted set behind a place.
fn entries(queue: &Queue, filter: &ListFilter, after: Option<&BulkEntry>) -> Vec<(i64, TaskId)> {
    let set = match filter {
        ListFilter::State(TaskState::Scheduled) => Some(&queue.scheduled),
        ListFilter::State(TaskState::Retry) => Some(&queue.retry),
        ListFilter::State(TaskState::Archived) => Some(&queue.archived),
        ListFilter::State(TaskState::Completed) => Some(&queue.completed),
        ListFilter::State(_) => None,
        ListFilter::Group(group) => queue.gathered.get(group.as_str()),
    };
    let after = after.map(|entry| {
        (
            score_of(entry),
            TaskId::from_storage(&String::from_utf8_lossy(&entry.id)),
        )
    });
    let entries = set.into_iter().flat_map(|set| set.behind(after.clone()));
    entries.map(|(id, score)| (score, id.clone())).collect()
}

fn entry(score: i64, id: &TaskId, is_list: bool) -> BulkEntry {
    BulkEntry {
        score: if is_list {
            Bytes::new()
        } else {
            score.to_string().into()
        },
        id: Bytes::copy_from_slice(id.as_str().as_bytes()),
    }
}

fn score_of(entry: &BulkEntry) -> i64 {
    number(&entry.score).unwrap_or(0)
}

fn is_behind(score: i64, id: &TaskId, entry: &BulkEntry) -> bool {
    (score, id.as_str().as_bytes()) > (score_of(entry), &entry.id)
}

fn take_out(queue: &mut Queue, filter: &ListFilter, id: &TaskId) {
    match filter {
        // The one that is looked at, from the tail.
        ListFilter::State(TaskState::Pending) => drop(queue.pending.pop_back()),
        ListFilter::State(state) => drop(leave(queue, *state, id)),
        ListFilter::Group(group) => drop(leave_group(queue, group.as_str(), id)),
    }
}

/// The condition of the task of an id.
enum Look {
    /// There is none, or it is in another state.
    Dropped,
    Damaged(PoisonKind),
    Ready,
}

fn look(queue: &Queue, id: &TaskId, state: TaskState) -> Look {
    match queue.task(id) {
        Err(PoisonKind::NoHash) => Look::Dropped,
        Err(kind) => Look::Damaged(kind),
        Ok(task) if matches!(task.state, StateField::Known(of) if of != state) => Look::Dropped,
        Ok(task) if task.msg.is_none() => Look::Damaged(PoisonKind::NoMessage),
        Ok(_) => Look::Ready,
    }
}

fn act_on(queue: &mut Queue, id: &TaskId, act: Act, now: DateTime<Utc>) {
    if let Some(task) = queue.tasks.get_mut(id)
        && act != Act::Delete
    {
        task.group = None;
        if act == Act::Archive {
            task.unstarted = None;
        }
    }
    match act {
        Act::Run => queue.push_pending(id, End::Back, now),
        Act::Archive => settle::archive(queue, id, now),
        _ => {
            queue.delete_task(id, now);
            queue.misfits.remove(&format!("t:{id}"));
        }
    }
}
