//! The operations, one file for each topic. Each renders the arguments of its script and reads the
//! answer; what a script does is said in its `.lua` file.

pub(crate) mod adopt;
pub(crate) mod audit;
pub(crate) mod cancel;
pub(crate) mod enqueue;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod gathered;
pub(crate) mod groups;
pub(crate) mod heal;
pub(crate) mod inspect;
pub(crate) mod janitor;
pub(crate) mod lease;
pub(crate) mod quarantine;
pub(crate) mod recover;
pub(crate) mod result;
pub(crate) mod run_task;
pub(crate) mod scheduler_state;
pub(crate) mod server_state;
pub(crate) mod settle;
pub(crate) mod ticks;
pub(crate) mod tree;
pub(crate) mod watch;

use asynq_core::names::QueueName;

/// A part of a batch that concerns one queue: the places of its items in the batch.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) queue: QueueName,
    pub(crate) items: Vec<usize>,
}

/// Splits a batch by queue, in the order in which the queues first come.
pub(crate) fn by_queue<'q>(queues: impl Iterator<Item = &'q QueueName>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, queue) in queues.enumerate() {
        // Most batches concern a few queues, and neighbours mostly the same.
        match parts.iter_mut().rev().find(|part| part.queue == *queue) {
            Some(part) => part.items.push(index),
            None => parts.push(Part {
                queue: queue.clone(),
                items: vec![index],
            }),
        }
    }
    parts
}

/// Cuts items into calls of at most `most` items and `most_bytes` bytes, at least one item each.
pub(crate) fn cut<T>(items: Vec<T>, most: usize, most_bytes: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = size(&item);
        match calls.last_mut() {
            Some(call) if call.len() < most && bytes + length <= most_bytes => {
                bytes += length;
                call.push(item);
            }
            _ => {
                bytes = length;
                calls.push(vec![item]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_by_queue_in_order() {
        let (a, b) = (QueueName::new("a").unwrap(), QueueName::new("b").unwrap());
        let parts = by_queue([&a, &b, &a, &a].into_iter());
        let seen: Vec<_> = parts
            .iter()
            .map(|part| (part.queue.as_str(), part.items.clone()))
            .collect();
        assert_eq!(seen, [("a", vec![0, 2, 3]), ("b", vec![1])]);
    }

    #[test]
    fn a_call_is_cut_by_items_and_bytes_and_has_at_least_one() {
        let size = |n: &usize| *n;
        assert_eq!(
            cut(vec![1, 1, 1, 1, 1], 2, 100, size),
            [vec![1, 1], vec![1, 1], vec![1]]
        );
        assert_eq!(
            cut(vec![60, 40, 1, 200, 99, 1], 9, 100, size),
            [vec![60, 40], vec![1], vec![200], vec![99, 1]]
        );
        assert!(cut(vec![], 2, 100, size).is_empty());
    }
}
