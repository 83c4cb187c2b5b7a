//! Long lists of tasks, read in steps.

use asynq_core::{
    TaskState,
    error::BrokerError,
    inspect::{BulkEntry, ListFilter, ListedPlace, ScanLimits, ScanPlace, ScanStep},
    keys,
    names::QueueName,
};
use futures::future::join;

use super::inspect;
use crate::{args::Args, broker::core::Core, reply::Reply, scripts};

pub(crate) async fn scan_tasks(
    core: &Core,
    queue: &QueueName,
    filter: &ListFilter,
    place: Option<&ScanPlace>,
    limits: ScanLimits,
) -> Result<ScanStep, BrokerError> {
    let container = inspect::container(queue, filter)?;
    let state = filter.state();
    let is_list = matches!(state, TaskState::Pending | TaskState::Active);
    let limits = limits.clamped();
    let now = core.now();
    let mut args = Args::with_capacity(16)
        .text(&keys::queue_prefix(queue))
        .text(if is_list { "list" } else { "zset" })
        .int(i64::from(limits.tasks))
        .int(i64::try_from(limits.bytes).unwrap_or(i64::MAX));
    let before = match place {
        Some(ScanPlace::Sorted { after, last }) if !is_list => {
            for entry in [after, last] {
                args.push(&entry.score);
                args.push(&entry.id);
            }
            None
        }
        Some(ScanPlace::Listed(place)) if is_list => {
            args.push(&place.last);
            for number in [place.left, place.position] {
                args.push_int(i64::try_from(number).unwrap_or(i64::MAX >> 8));
            }
            for task in place.known() {
                args.push(&task.id);
                args.push(&task.score);
            }
            Some(place.as_ref())
        }
        // The place of another container: from the beginning.
        _ => None,
    };
    let keys = Args::from_iter([container, keys::of_queue(queue, "lease")]);
    let (known, value) = join(
        inspect::must_be_known(core, queue),
        core.link.eval(&scripts::SCAN_TASKS, keys, args),
    )
    .await;
    known?;
    let mut reply = Reply::of_script("scan_tasks", value?)?;
    let is_last = reply.int()? == 1;
    let last = BulkEntry {
        score: reply.bytes()?.into(),
        id: reply.bytes()?.into(),
    };
    let mut number = || Ok::<u64, BrokerError>(u64::try_from(reply.int()?).unwrap_or(0));
    let (position, left) = (number()?, number()?);
    let mut tasks = Vec::with_capacity(reply.len() / 9);
    while !reply.is_empty() {
        let mut task = inspect::read_listed(&mut reply, queue, state, now)?;
        task.mark.position = position + tasks.len() as u64;
        tasks.push(task);
    }
    let next = match tasks.last() {
        Some(task) if !is_last => Some(if is_list {
            ScanPlace::Listed(Box::new(ListedPlace::behind(before, &tasks, position, last.id, left)))
        } else {
            ScanPlace::Sorted {
                after: BulkEntry {
                    score: task.mark.score.clone(),
                    id: task.mark.id.clone(),
                },
                last,
            }
        }),
        _ => None,
    };
    Ok(ScanStep { tasks, next, at: now })
}
