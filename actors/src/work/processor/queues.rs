//! The choice of the queue that a free slot asks: by weight, or strictly in order (rules.md#weighted-queues).

use std::{collections::BTreeMap, time::Duration};

use asynq_core::{Entropy, QueueName};
use tokio::time::Instant;

/// Number of lots into which all slots are divided, where there are as many. A lot is drawn as one.
const LOTS: usize = 16;
/// Largest number of slots in a lot, where tasks are not short.
const LARGEST_LOT: u32 = 32;
/// Time in which the tasks that are taken are counted.
const COUNTED: Duration = Duration::from_millis(10);
/// A lot has as many slots as are filled in this time, where these are more.
const LOT_LASTS: Duration = Duration::from_millis(4);

/// The number of slots that are drawn together.
///
/// Tasks that came with one call end about together. Their slots then pick few queues, and not one for each slot, which
/// would cost a call for each task. The lots grow while tasks are short, since a large lot then lasts a moment only.
#[derive(Debug)]
struct Lots {
    least: u32,
    most: u32,
    now: u32,
    since: Instant,
    taken: u32,
}

impl Lots {
    fn new(slots: usize) -> Self {
        let part = |parts: usize| u32::try_from(slots / parts).unwrap_or(u32::MAX).max(1);
        let least = part(LOTS).min(LARGEST_LOT);
        Self {
            least,
            most: part(2).max(least),
            now: least,
            since: Instant::now(),
            taken: 0,
        }
    }

    /// Counts tasks that were taken.
    fn took(&mut self, tasks: u32) {
        self.taken = self.taken.saturating_add(tasks);
    }

    /// Returns the number of slots in a lot.
    fn size(&mut self, now: Instant) -> u32 {
        let counted = now.saturating_duration_since(self.since);
        if counted >= COUNTED {
            let filled = u128::from(self.taken) * LOT_LASTS.as_micros() / counted.as_micros();
            self.now = u32::try_from(filled).unwrap_or(u32::MAX).clamp(self.least, self.most);
            (self.since, self.taken) = (now, 0);
        }
        self.now
    }
}

/// A queue, with what is known of it.
#[derive(Debug)]
struct Line {
    name: QueueName,
    weight: u64,
    empty_until: Option<Instant>,
    /// Somebody tells when it has something.
    resting: bool,
    /// Slots that were drawn for it and wait until a call to it may go out.
    promised: u32,
}

impl Line {
    fn is_hungry(&self, now: Instant) -> bool {
        !self.resting && self.empty_until.is_none_or(|until| until <= now)
    }
}

/// The queues of a server.
#[derive(Debug)]
pub(crate) struct Queues {
    /// Highest priority first; ties by name.
    lines: Vec<Line>,
    strict: bool,
    lots: Lots,
    entropy: Entropy,
    /// The places that [`promise`](Self::promise) chooses from; kept for its next call.
    asked: Vec<usize>,
}

impl Queues {
    pub(crate) fn new(queues: &BTreeMap<QueueName, i32>, strict: bool, entropy: Entropy) -> Self {
        let mut order: Vec<_> = queues
            .iter()
            .map(|(name, priority)| (name.clone(), u64::try_from(*priority).unwrap_or(1)))
            .collect();
        order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let lines = order.into_iter().map(|(name, weight)| Line {
            name,
            weight,
            empty_until: None,
            resting: false,
            promised: 0,
        });
        Self {
            lines: lines.collect(),
            strict,
            lots: Lots::new(1),
            entropy,
            asked: Vec::new(),
        }
    }

    /// Has slots drawn in lots, as many together as suits a server with so many of them.
    pub(crate) fn in_lots_of(mut self, slots: usize) -> Self {
        self.lots = Lots::new(slots);
        self
    }

    /// Tells how many tasks came. The lots follow it.
    pub(crate) fn took(&mut self, tasks: usize) {
        self.lots.took(u32::try_from(tasks).unwrap_or(u32::MAX));
    }

    /// The names, highest priority first. Places elsewhere are those in this order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &QueueName> {
        self.lines.iter().map(|line| &line.name)
    }

    /// The queue gave less than it was asked for: not worth a question until then.
    pub(crate) fn set_empty(&mut self, queue: &QueueName, for_now: Duration) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.name == *queue) {
            line.empty_until = Some(Instant::now() + for_now);
        }
    }

    /// Something may be there again.
    pub(crate) fn wake(&mut self) {
        for line in &mut self.lines {
            line.empty_until = None;
            line.resting = false;
        }
    }

    /// Marks queues as empty: they are not asked until [`wake`](Self::wake).
    pub(crate) fn rest(&mut self, queues: &[QueueName]) {
        for line in &mut self.lines {
            line.resting = queues.contains(&line.name);
        }
    }

    /// Returns whether the queue at this place is worth a question.
    pub(crate) fn is_hungry(&self, place: usize) -> bool {
        let now = Instant::now();
        self.lines.get(place).is_some_and(|line| line.is_hungry(now))
    }

    /// Spreads `slots`, those promised before included, over the queues that may be asked and are worth
    /// a question. Where none is, over those of `concerned`, to which a call goes anyway. What a queue
    /// was promised stays with it until it is [kept](Self::keep) or the queue is not asked any longer,
    /// so that one that waits for an answer loses no slot to the others.
    pub(crate) fn promise(
        &mut self,
        slots: u32,
        may_be_asked: impl Fn(usize) -> bool,
        concerned: impl Fn(usize) -> bool,
    ) {
        let now = Instant::now();
        let places = 0..self.lines.len();
        let hungry = |place: &usize| may_be_asked(*place) && self.lines[*place].is_hungry(now);
        let mut asked = std::mem::take(&mut self.asked);
        asked.clear();
        asked.extend(places.clone().filter(hungry));
        if asked.is_empty() {
            asked.extend(places.filter(|place| may_be_asked(*place) && concerned(*place)));
        }
        if self.strict {
            asked.truncate(1);
        }
        let mut left = slots;
        for (place, line) in self.lines.iter_mut().enumerate() {
            // Slots may have gone elsewhere meanwhile.
            line.promised = if asked.contains(&place) {
                line.promised.min(left)
            } else {
                0
            };
            left -= line.promised;
        }
        self.draw(left, &asked);
        self.asked = asked;
    }

    /// Draws a queue of those at the places `asked` for each lot of the slots.
    fn draw(&mut self, slots: u32, asked: &[usize]) {
        if let [only] = *asked {
            self.lines[only].promised += slots;
            return;
        }
        let weights = asked.iter().map(|place| self.lines[*place].weight);
        let Some(total) = weights.reduce(u64::saturating_add) else {
            return;
        };
        let size = self.lots.size(Instant::now());
        let mut left = slots;
        while left > 0 {
            let lot = size.min(left);
            left -= lot;
            let mut ticket = self.entropy.below(total);
            for place in asked {
                let line = &mut self.lines[*place];
                if ticket < line.weight {
                    line.promised += lot;
                    break;
                }
                ticket -= line.weight;
            }
        }
    }

    /// Returns how many slots the queue at this place was promised.
    pub(crate) fn promised(&self, place: usize) -> u32 {
        self.lines.get(place).map_or(0, |line| line.promised)
    }

    /// The queue at this place gets what it was promised.
    pub(crate) fn keep(&mut self, place: usize) -> u32 {
        self.lines
            .get_mut(place)
            .map_or(0, |line| std::mem::take(&mut line.promised))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: fn(usize) -> bool = |_| true;
    const NONE: fn(usize) -> bool = |_| false;

    fn queues(strict: bool) -> Queues {
        let config = [("critical", 6), ("default", 3), ("low", 1)];
        let config = config
            .into_iter()
            .map(|(name, p)| (QueueName::new(name).unwrap(), p))
            .collect();
        Queues::new(&config, strict, Entropy::seeded(5))
    }

    fn promises(queues: &Queues) -> [u32; 3] {
        [0, 1, 2].map(|place| queues.promised(place))
    }

    fn kept(queues: &mut Queues) -> [u32; 3] {
        [0, 1, 2].map(|place| queues.keep(place))
    }

    #[tokio::test(start_paused = true)]
    async fn single_slots_follow_the_weights_and_starve_nobody() {
        let mut queues = queues(false);
        let mut seen = [0; 3];
        for _ in 0..1000 {
            queues.promise(1, ALL, NONE);
            for (seen, kept) in seen.iter_mut().zip(kept(&mut queues)) {
                *seen += kept;
            }
        }
        assert_eq!(seen.iter().sum::<u32>(), 1000);
        assert!((520..680).contains(&seen[0]), "{seen:?}");
        assert!((230..370).contains(&seen[1]), "{seen:?}");
        assert!((60..140).contains(&seen[2]), "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lots_are_larger_while_many_tasks_come() {
        let config = (0..100).map(|number| (QueueName::new(format!("q{number}")).unwrap(), 1));
        let mut queues = Queues::new(&config.collect(), false, Entropy::seeded(5)).in_lots_of(100);
        let asked = |queues: &mut Queues| {
            queues.promise(100, ALL, NONE);
            (0..100).filter(|place| queues.keep(*place) > 0).count()
        };
        assert!(asked(&mut queues) > 8, "nothing has come yet");
        for (came, most) in [(100, 3), (10_000, 2), (100, 3)] {
            queues.took(came);
            tokio::time::advance(COUNTED).await;
            let asked = asked(&mut queues);
            assert!(asked <= most, "{asked} after {came}");
        }
        // Few that come, or none, are drawn in small lots again.
        tokio::time::advance(COUNTED * 3).await;
        assert!(asked(&mut queues) > 8);
        queues.took(10);
        tokio::time::advance(COUNTED).await;
        assert!(asked(&mut queues) > 8);
    }

    #[tokio::test(start_paused = true)]
    async fn many_slots_over_many_queues_are_drawn_in_lots_by_weight() {
        let config = (0..100).map(|number| {
            let name = QueueName::new(format!("q{number}")).unwrap();
            (name, if number < 10 { 9 } else { 1 })
        });
        let mut queues = Queues::new(&config.collect(), false, Entropy::seeded(5)).in_lots_of(100);
        // (slots, calls at most)
        for (slots, most) in [(5, 1), (6, 1), (7, 2), (100, 17)] {
            for _ in 0..20 {
                queues.promise(slots, ALL, NONE);
                let kept: Vec<u32> = (0..100).map(|place| queues.keep(place)).collect();
                assert_eq!(kept.iter().sum::<u32>(), slots);
                let asked = kept.iter().filter(|kept| **kept > 0).count();
                assert!(asked <= most, "{asked} of {slots}");
            }
        }
        // The first ten have as much weight as all others.
        let mut first = 0;
        for _ in 0..200 {
            queues.promise(100, ALL, NONE);
            first += (0..10).map(|place| queues.keep(place)).sum::<u32>();
            (10..100).for_each(|place| {
                queues.keep(place);
            });
        }
        assert!((8_500..11_500).contains(&first), "{first}");
    }

    /// While one waits for an answer, the others are asked again and again.
    #[tokio::test(start_paused = true)]
    async fn a_queue_that_has_to_wait_keeps_what_it_was_promised() {
        let mut queues = queues(false);
        let mut seen = [0; 3];
        for _ in 0..400 {
            // The first answers every fifth time only.
            for round in 0..5 {
                queues.promise(4, ALL, NONE);
                let first = if round == 4 { 0 } else { 1 };
                for (place, seen) in seen.iter_mut().enumerate().skip(first) {
                    *seen += queues.keep(place);
                }
            }
        }
        // Slots that wait for it are not drawn anew, so the others are not favoured much: by what is
        // drawn when it has all four.
        assert!(seen[0] > seen[1] && seen[1] > 2 * seen[2], "{seen:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn slots_that_went_elsewhere_are_promised_no_longer() {
        let mut queues = queues(false);
        queues.promise(40, ALL, NONE);
        assert_eq!(promises(&queues).iter().sum::<u32>(), 40);
        queues.promise(3, ALL, NONE);
        assert_eq!(promises(&queues).iter().sum::<u32>(), 3);
        // Nobody may be asked any longer but the last.
        queues.promise(3, |place| place == 2, NONE);
        assert_eq!(promises(&queues), [0, 0, 3]);
        queues.promise(0, ALL, NONE);
        assert_eq!(promises(&queues), [0; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn strict_asks_the_highest_that_may_have_something() {
        let mut queues = queues(true);
        queues.promise(4, ALL, NONE);
        assert_eq!(promises(&queues), [4, 0, 0]);
        queues.set_empty(&QueueName::new("critical").unwrap(), Duration::from_secs(1));
        queues.promise(4, ALL, NONE);
        assert_eq!(promises(&queues), [0, 4, 0]);
        // One that cannot be asked holds up none below it.
        queues.promise(4, |place| place != 1, NONE);
        assert_eq!(promises(&queues), [0, 0, 4]);
        tokio::time::advance(Duration::from_secs(2)).await;
        queues.promise(4, ALL, NONE);
        assert_eq!(promises(&queues), [4, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_queues_are_asked_only_where_a_call_goes_anyway() {
        let mut queues = queues(false);
        let names: Vec<_> = queues.names().cloned().collect();
        for queue in &names {
            queues.set_empty(queue, Duration::from_secs(1));
        }
        assert!((0..3).all(|place| !queues.is_hungry(place)));
        queues.promise(3, ALL, NONE);
        assert_eq!(promises(&queues), [0; 3]);
        queues.promise(3, ALL, |place| place == 2);
        assert_eq!(promises(&queues), [0, 0, 3]);
        queues.wake();
        assert!((0..3).all(|place| queues.is_hungry(place)));
        queues.rest(&names[..2]);
        assert_eq!([0, 1, 2].map(|place| queues.is_hungry(place)), [false, false, true]);
        queues.wake();
        assert!((0..3).all(|place| queues.is_hungry(place)));
    }
}
