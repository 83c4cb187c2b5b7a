//! Batches: split by queue, cut into calls, and answered in order.

use asynq_core::{error::BrokerError, names::QueueName};

use crate::reply::protocol;

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

/// Puts the answers of the parts of a batch into the order of its `count` items. An item without an answer gets an
/// error.
pub(crate) fn in_order<T, E: From<BrokerError>>(
    operation: &'static str,
    count: usize,
    answers: impl IntoIterator<Item = (usize, Result<T, E>)>,
) -> Vec<Result<T, E>> {
    let mut ordered: Vec<Option<Result<T, E>>> = (0..count).map(|_| None).collect();
    for (index, answer) in answers {
        ordered[index] = Some(answer);
    }
    let missing = || Err(protocol(operation, "an item of the batch has no answer".to_owned()).into());
    ordered
        .into_iter()
        .map(|answer| answer.unwrap_or_else(missing))
        .collect()
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
    #[test]
    fn answers_are_put_in_order_and_a_missing_one_is_an_error() {
        let answers = in_order("test", 3, [(2, Ok::<_, BrokerError>('c')), (0, Ok('a'))]);
        assert!(matches!(
            &answers[..],
            [Ok('a'), Err(BrokerError::Protocol { operation: "test", .. }), Ok('c')]
        ));
    }
}
