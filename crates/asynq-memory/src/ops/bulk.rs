//! Acts on all tasks of a state or group.

use asynq_core::{
    Act, TaskState,
    error::{BrokerError, PoisonKind},
    inspect::{ActedOn, BULK_STEP, BulkEntry, BulkPlace, BulkStep, ListFilter, TaskMark},
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
    let Some(queue) = writable(data, name, filter, act)? else {
        return Ok(BulkStep::default());
    };
    let Some((ids, next)) = next_ids(queue, filter, place) else {
        return Ok(BulkStep::default());
    };
    for id in &ids {
        take_out(queue, filter, id);
    }
    let acted = act_on_ids(queue, filter, act, ids, now);
    Ok(BulkStep {
        done: acted.done,
        dropped: acted.dropped,
        poisoned: acted.poisoned,
        next,
    })
}

/// Acts on tasks that were read before, if they are still the same.
pub(crate) fn act_on_these(
    data: &mut Data,
    name: &QueueName,
    filter: &ListFilter,
    act: Act,
    tasks: &[TaskMark],
    now: DateTime<Utc>,
) -> Result<ActedOn, BrokerError> {
    let moved = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let Some(queue) = writable(data, name, filter, act)? else {
        return Ok(ActedOn {
            moved: moved(tasks.len()),
            ..ActedOn::default()
        });
    };
    let is_list = filter.state() == TaskState::Pending;
    let mut ids = Vec::new();
    for seen in tasks {
        let id = TaskId::from_storage(&String::from_utf8_lossy(&seen.id));
        let score = inspect::sorted(queue, filter).and_then(|set| set.score(&id));
        let is_there = score.is_some() || is_list && queue.pending.contains(&id);
        let mark = mark(queue, &id, score);
        if is_there && (&mark.score, &mark.digest) == (&seen.score, &seen.digest) {
            match is_list {
                true => queue.pending.retain(|pending| *pending != id),
                false => take_out(queue, filter, &id),
            }
            ids.push(id);
        }
    }
    Ok(ActedOn {
        moved: moved(tasks.len() - ids.len()),
        ..act_on_ids(queue, filter, act, ids, now)
    })
}

/// The queue, if the act is possible; `None` for an aggregation set, which is not a group.
fn writable<'d>(
    data: &'d mut Data,
    name: &QueueName,
    filter: &ListFilter,
    act: Act,
) -> Result<Option<&'d mut Queue>, BrokerError> {
    filter.must_allow(act, name)?;
    let (queue, container) = inspect::container(data, name, filter)?;
    queue.check(&[&container])?;
    match act {
        Act::Run => queue.check(&["pending"])?,
        Act::Archive => queue.check(&["archived"])?,
        _ => {}
    }
    if matches!(filter, ListFilter::Group(_)) {
        queue.check(&["groups"])?;
        if queue.aggregation_sets.contains(&queue.key(&container)) {
            return Ok(None);
        }
    }
    Ok(Some(queue))
}

/// Changes the tasks of ids that have left their container.
fn act_on_ids(queue: &mut Queue, filter: &ListFilter, act: Act, ids: Vec<TaskId>, now: DateTime<Utc>) -> ActedOn {
    let mut acted = ActedOn::default();
    for id in ids {
        match look(queue, &id, filter.state()) {
            Look::Dropped => acted.dropped += 1,
            Look::Damaged(kind) if act != Act::Delete => {
                queue.put_aside(&id, kind, now);
                acted.poisoned.push((id, kind));
            }
            Look::Damaged(_) | Look::Ready => {
                act_on(queue, &id, act, now);
                acted.done += 1;
            }
        }
    }
    if let ListFilter::Group(group) = filter
        && !queue.gathered.contains_key(group.as_str())
    {
        queue.groups.remove(group.as_str());
    }
    acted
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
pub(super) fn entries(queue: &Queue, filter: &ListFilter, after: Option<&BulkEntry>) -> Vec<(i64, TaskId)> {
    let set = inspect::sorted(queue, filter);
    let after = after.map(|entry| {
        (
            score_of(entry),
            TaskId::from_storage(&String::from_utf8_lossy(&entry.id)),
        )
    });
    let entries = set.into_iter().flat_map(|set| set.behind(after.clone()));
    entries.map(|(id, score)| (score, id.clone())).collect()
}

pub(super) fn entry(score: i64, id: &TaskId, is_list: bool) -> BulkEntry {
    BulkEntry {
        score: if is_list {
            Bytes::new()
        } else {
            score.to_string().into()
        },
        id: id_bytes(id),
    }
}

fn score_of(entry: &BulkEntry) -> i64 {
    number(&entry.score).unwrap_or(0)
}

pub(super) fn is_behind(score: i64, id: &TaskId, entry: &BulkEntry) -> bool {
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

/// The mark of a task, by which it is known later whether it is still the same. The digest is the message itself.
pub(super) fn mark(queue: &Queue, id: &TaskId, score: Option<i64>) -> TaskMark {
    let task = queue.task(id).ok();
    let since = task.and_then(|task| task.pending_since).map(|since| since.to_string());
    let take = || task.and_then(|task| task.take.as_ref()).map(|take| take.to_string());
    TaskMark {
        id: id_bytes(id),
        score: score
            .map(|score| score.to_string())
            .or(since)
            .or_else(take)
            .unwrap_or_default()
            .into(),
        digest: task.and_then(|task| task.msg.clone()).unwrap_or_default(),
        position: 0,
    }
}

pub(super) fn id_bytes(id: &TaskId) -> Bytes {
    Bytes::copy_from_slice(id.as_str().as_bytes())
}
