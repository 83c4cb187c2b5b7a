//! Long lists of tasks, read in steps.

use std::collections::{HashMap, VecDeque};

use asynq_core::{
    TaskState,
    error::BrokerError,
    inspect::{BulkEntry, ListFilter, ListedPlace, ScanLimits, ScanPlace, ScanStep, ScannedTask},
    names::{QueueName, TaskId},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    bulk::{entries, entry, id_bytes, is_behind, mark},
    inspect,
};
use crate::model::{Data, Queue};

/// The next part of the tasks of one state or group, behind a place.
pub(crate) fn scan_tasks(
    data: &mut Data,
    name: &QueueName,
    filter: &ListFilter,
    place: Option<&ScanPlace>,
    limits: ScanLimits,
    now: DateTime<Utc>,
) -> Result<ScanStep, BrokerError> {
    let (queue, container) = inspect::container(data, name, filter)?;
    queue.check(&[&container])?;
    let limits = limits.clamped();
    Ok(match filter {
        ListFilter::State(TaskState::Pending) => scan_list(queue, &queue.pending, filter, place, limits, now),
        ListFilter::State(TaskState::Active) => scan_list(queue, &queue.active, filter, place, limits, now),
        _ => scan_sorted(queue, filter, place, limits, now),
    })
}

fn scan_list(
    queue: &Queue,
    list: &VecDeque<TaskId>,
    filter: &ListFilter,
    place: Option<&ScanPlace>,
    limits: ScanLimits,
    now: DateTime<Utc>,
) -> ScanStep {
    let before = match place {
        Some(ScanPlace::Listed(place)) => Some(place.as_ref()),
        _ => None,
    };
    let (last, left, position) = match before {
        Some(place) => (place.last.clone(), place.left, place_in_list(queue, list, place)),
        None => match list.front() {
            Some(last) => (id_bytes(last), 2 * list.len() as u64, 0),
            None => {
                return ScanStep {
                    at: now,
                    ..ScanStep::default()
                };
            }
        },
    };
    let room = left.min(u64::from(limits.tasks));
    let (mut tasks, mut bytes, mut ended) = (Vec::new(), 0, room == left);
    let mut rest = list.iter().rev().skip(position);
    loop {
        if tasks.len() as u64 == room {
            break;
        }
        let Some(id) = rest.next() else {
            ended = true;
            break;
        };
        let mut task = scanned(queue, filter, id, None, now);
        if !fits(&task, &mut bytes, limits, tasks.is_empty()) {
            ended = false;
            break;
        }
        task.mark.position = (position + tasks.len()) as u64;
        let is_last = task.mark.id == last;
        tasks.push(task);
        if is_last {
            ended = true;
            break;
        }
    }
    let next = (!ended && !tasks.is_empty()).then(|| {
        ScanPlace::Listed(Box::new(ListedPlace::behind(
            before,
            &tasks,
            position as u64,
            last,
            left,
        )))
    });
    ScanStep { tasks, next, at: now }
}

/// The number of entries between the tail and the first one that was not read: behind the last known one that is there.
fn place_in_list(queue: &Queue, list: &VecDeque<TaskId>, place: &ListedPlace) -> usize {
    let known: HashMap<&[u8], (usize, &[u8])> = place
        .known()
        .enumerate()
        .map(|(rank, task)| (task.id.as_ref(), (rank, task.score.as_ref())))
        .collect();
    // One that left and came back stands elsewhere.
    let rank = |id: &TaskId| {
        let (rank, score) = known.get(id.as_str().as_bytes())?;
        (mark(queue, id, None).score == *score).then_some(*rank)
    };
    let guess = usize::try_from(place.position).unwrap_or(usize::MAX);
    let at_guess = guess.checked_sub(1).and_then(|before| list.iter().rev().nth(before));
    if at_guess.and_then(rank).is_some_and(|rank| rank + 1 == known.len()) {
        return guess;
    }
    let found = list.iter().rev().enumerate();
    let found = found.filter_map(|(at, id)| Some((rank(id)?, at)));
    found.max().map_or(0, |(_, at)| at + 1)
}

fn scan_sorted(
    queue: &Queue,
    filter: &ListFilter,
    place: Option<&ScanPlace>,
    limits: ScanLimits,
    now: DateTime<Utc>,
) -> ScanStep {
    let place = match place {
        Some(ScanPlace::Sorted { after, last }) => Some((after, last)),
        _ => None,
    };
    let last = match place {
        Some((_, last)) => last.clone(),
        None => match inspect::sorted(queue, filter).and_then(|set| set.last()) {
            Some((id, score)) => entry(score, id, false),
            None => {
                return ScanStep {
                    at: now,
                    ..ScanStep::default()
                };
            }
        },
    };
    let (mut tasks, mut bytes, mut ended) = (Vec::new(), 0, true);
    for (score, id) in entries(queue, filter, place.map(|(after, _)| after)) {
        if is_behind(score, &id, &last) {
            break;
        }
        let task = scanned(queue, filter, &id, Some(score), now);
        if tasks.len() == limits.tasks as usize || !fits(&task, &mut bytes, limits, tasks.is_empty()) {
            ended = false;
            break;
        }
        tasks.push(task);
    }
    let next = tasks
        .last()
        .filter(|_| !ended)
        .map(|task: &ScannedTask| ScanPlace::Sorted {
            after: BulkEntry {
                score: task.mark.score.clone(),
                id: task.mark.id.clone(),
            },
            last,
        });
    ScanStep { tasks, next, at: now }
}

/// Returns whether a task is within the limit of bytes.
fn fits(task: &ScannedTask, bytes: &mut u64, limits: ScanLimits, is_first: bool) -> bool {
    *bytes += task.size;
    is_first || *bytes <= limits.bytes
}

fn scanned(queue: &Queue, filter: &ListFilter, id: &TaskId, score: Option<i64>, now: DateTime<Utc>) -> ScannedTask {
    let info = inspect::view(queue, filter.state(), id, score, now);
    let stored = queue.task(id).ok();
    let progress = stored.and_then(|task| task.progress.as_ref()).map_or(0, Bytes::len);
    let result = stored.and_then(|task| task.result.as_ref()).map_or(0, Bytes::len);
    let mark = mark(queue, id, score);
    ScannedTask {
        size: (mark.digest.len() + result + progress) as u64,
        info,
        mark,
    }
}
