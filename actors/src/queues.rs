//! Which queue a free slot asks: by weight, or strictly in order (SAFETY rule 21).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use asynq_core::{Entropy, QueueName, broker::Want};
use tokio::time::Instant;

/// The queues of a server, with what is known of each.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Highest priority first; ties by name.
    order: Vec<(QueueName, u64)>,
    strict: bool,
    entropy: Entropy,
    empty_until: HashMap<QueueName, Instant>,
}

impl Queues {
    pub(crate) fn new(queues: &BTreeMap<QueueName, i32>, strict: bool, entropy: Entropy) -> Self {
        let mut order: Vec<_> = queues
            .iter()
            .map(|(name, priority)| (name.clone(), u64::try_from(*priority).unwrap_or(1)))
            .collect();
        order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Self {
            order,
            strict,
            entropy,
            empty_until: HashMap::new(),
        }
    }

    pub(crate) fn names(&self) -> Vec<QueueName> {
        self.order.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The queue gave less than it was asked for: not worth a question until then.
    pub(crate) fn set_empty(&mut self, queue: &QueueName, for_now: Duration) {
        self.empty_until.insert(queue.clone(), Instant::now() + for_now);
    }

    /// Something may be there again.
    pub(crate) fn wake(&mut self) {
        self.empty_until.clear();
    }

    fn is_hungry(&self, queue: &QueueName, now: Instant) -> bool {
        self.empty_until.get(queue).is_none_or(|until| *until <= now)
    }

    /// Whether some queue is worth a question.
    pub(crate) fn any_hungry(&self) -> bool {
        let now = Instant::now();
        self.order.iter().any(|(queue, _)| self.is_hungry(queue, now))
    }

    /// Spreads `slots` over the queues that are worth a question. Where none is, over `concerned`,
    /// the queues that a call goes to anyway.
    pub(crate) fn draw(&self, slots: u32, concerned: &[QueueName]) -> Vec<Want> {
        let now = Instant::now();
        let mut asked: Vec<&(QueueName, u64)> = self
            .order
            .iter()
            .filter(|(queue, _)| self.is_hungry(queue, now))
            .collect();
        if asked.is_empty() {
            asked = self
                .order
                .iter()
                .filter(|(queue, _)| concerned.contains(queue))
                .collect();
        }
        if self.strict {
            asked.truncate(1);
        }
        let Some(total) = asked
            .iter()
            .map(|(_, weight)| weight)
            .copied()
            .reduce(u64::saturating_add)
        else {
            return Vec::new();
        };
        let mut counts = vec![0_u32; asked.len()];
        if asked.len() == 1 {
            counts[0] = slots;
        } else {
            for _ in 0..slots {
                let mut ticket = self.entropy.below(total);
                for (count, (_, weight)) in counts.iter_mut().zip(&asked) {
                    if ticket < *weight {
                        *count += 1;
                        break;
                    }
                    ticket -= weight;
                }
            }
        }
        asked
            .into_iter()
            .zip(counts)
            .filter(|(_, max)| *max > 0)
            .map(|((queue, _), max)| Want {
                queue: queue.clone(),
                max,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(strict: bool) -> Queues {
        let config = [("critical", 6), ("default", 3), ("low", 1)];
        let config = config
            .into_iter()
            .map(|(name, p)| (QueueName::new(name).unwrap(), p))
            .collect();
        Queues::new(&config, strict, Entropy::seeded(5))
    }

    #[tokio::test(start_paused = true)]
    async fn single_slots_follow_the_weights_and_starve_nobody() {
        let queues = queues(false);
        let mut seen: HashMap<String, u32> = HashMap::new();
        for _ in 0..1000 {
            for want in queues.draw(1, &[]) {
                *seen.entry(want.queue.to_string()).or_default() += want.max;
            }
        }
        assert!((520..680).contains(&seen["critical"]), "{seen:?}");
        assert!((230..370).contains(&seen["default"]), "{seen:?}");
        assert!((60..140).contains(&seen["low"]), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn strict_asks_the_highest_that_may_have_something() {
        let mut queues = queues(true);
        let first = |queues: &Queues| {
            queues
                .draw(4, &[])
                .into_iter()
                .map(|w| (w.queue.to_string(), w.max))
                .next()
        };
        assert_eq!(first(&queues), Some(("critical".into(), 4)));
        queues.set_empty(&QueueName::new("critical").unwrap(), Duration::from_secs(1));
        assert_eq!(first(&queues), Some(("default".into(), 4)));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(first(&queues), Some(("critical".into(), 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn empty_queues_are_asked_only_where_a_call_goes_anyway() {
        let mut queues = queues(false);
        for queue in queues.names() {
            queues.set_empty(&queue, Duration::from_secs(1));
        }
        assert!(!queues.any_hungry());
        assert!(queues.draw(3, &[]).is_empty());
        let low = QueueName::new("low").unwrap();
        assert_eq!(
            queues.draw(3, std::slice::from_ref(&low)),
            [Want { queue: low, max: 3 }]
        );
        queues.wake();
        assert!(queues.any_hungry());
    }
}
