//! Places of tasks in Redis, by which a contestant's work is known to be settled.

use asynq_testing::resp::{Resp, RespValue};

/// The layout that a contestant's tasks have in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Asynq's.
    Asynq,
    /// That of `apalis-redis`.
    Apalis,
    /// BullMQ's.
    BullMq,
    /// ChasquiMQ's: a stream, from which what is acknowledged is deleted.
    ChasquiMq,
    /// Sidekiq's, as `rusty-sidekiq` writes it: the process has a hash with what it works on.
    RustySidekiq,
    /// Sidekiq's own. Taking a task removes it, and nothing acknowledges its end: Redis does not show what is active.
    Sidekiq,
}

/// The numbers of tasks of some queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Waiting for a worker, now or later; with tasks that failed, where a layout does not count these as settled.
    pub(crate) waiting: u64,
    /// Taken and not settled.
    pub(crate) active: u64,
    /// Settled since ever: done, kept, put back for a retry or archived. `None` where a layout has no count of that.
    pub(crate) settled: Option<u64>,
}

impl Counts {
    /// The number of settled tasks, of so many that were enqueued.
    pub(crate) fn settled_of(&self, enqueued: u64) -> u64 {
        self.settled
            .unwrap_or_else(|| enqueued.saturating_sub(self.waiting + self.active))
    }
}

/// The commands that count the tasks of a queue. Several are added up.
struct Places {
    waiting: Vec<String>,
    active: Vec<String>,
    settled: Option<String>,
}

impl Layout {
    fn places(self, queue: &str) -> Places {
        let (waiting, active, settled) = match self {
            Self::Asynq => {
                let key = |suffix: &str| format!("asynq:{{{queue}}}:{suffix}");
                (
                    vec![format!("LLEN {}", key("pending"))],
                    vec![format!("LLEN {}", key("active"))],
                    Some(format!("GET {}", key("processed"))),
                )
            }
            Self::Apalis => (
                ["LLEN active", "ZCARD scheduled", "SCARD dead"]
                    .map(|place| keyed(place, queue))
                    .to_vec(),
                // Behind its name is that of the worker.
                vec![format!("SCARD {queue}:inflight:bench")],
                Some(format!("SCARD {queue}:done")),
            ),
            Self::BullMq => {
                let queue = format!("bull:{queue}");
                (
                    ["LLEN wait", "ZCARD prioritized", "ZCARD delayed", "ZCARD failed"]
                        .map(|place| keyed(place, &queue))
                        .to_vec(),
                    vec![format!("LLEN {queue}:active")],
                    None,
                )
            }
            Self::ChasquiMq => {
                let queue = format!("{{chasqui:{queue}}}");
                (
                    // What is taken is in the stream until its end is acknowledged.
                    ["XLEN stream", "ZCARD delayed", "XLEN dlq"]
                        .map(|place| keyed(place, &queue))
                        .to_vec(),
                    Vec::new(),
                    None,
                )
            }
            Self::RustySidekiq | Self::Sidekiq => {
                let mut waiting = vec![format!("LLEN queue:{queue}")];
                waiting.extend(["schedule", "retry", "dead"].map(|set| format!("ZCARD {set}")));
                // A hash is gone with its last field.
                let active = (self == Self::RustySidekiq).then(|| "KEYS *:work".to_owned());
                (waiting, active.into_iter().collect(), None)
            }
        };
        Places {
            waiting,
            active,
            settled,
        }
    }

    /// Counts the tasks of some queues.
    pub(crate) async fn count(self, redis: &mut Resp, queues: &[String]) -> Counts {
        let places: Vec<Places> = queues.iter().map(|queue| self.places(queue)).collect();
        let commands: Vec<_> = places
            .iter()
            .flat_map(|places| places.waiting.iter().chain(&places.active).chain(&places.settled))
            .map(|command| command.split(' ').map(|word| word.to_owned().into()).collect())
            .collect();
        let mut answers = redis.pipeline(&commands).await.into_iter();
        let mut sum = |commands: usize| {
            answers
                .by_ref()
                .take(commands)
                .map(|answer| number(&answer))
                .sum::<u64>()
        };
        let mut counts = Counts::default();
        for places in &places {
            counts.waiting += sum(places.waiting.len());
            counts.active += sum(places.active.len());
            if places.settled.is_some() {
                *counts.settled.get_or_insert(0) += sum(1);
            }
        }
        counts
    }

    /// Readies tasks that were enqueued to wait for a worker, where its own ways stop at their number: the worker of apalis
    /// ends with an error where some thousands of tasks are due in its set of scheduled ones, to which all go. They get to
    /// its list as its script moves them, in pieces.
    pub(crate) async fn ready(self, redis: &mut Resp, queues: &[String]) {
        const MOVE: &str = "local ids = redis.call('ZRANGE', KEYS[1], 0, 999)
            if #ids > 0 then
                redis.call('RPUSH', KEYS[2], unpack(ids))
                redis.call('ZREM', KEYS[1], unpack(ids))
            end
            return #ids";
        if self != Self::Apalis {
            return;
        }
        for queue in queues {
            let (from, to) = (keyed("scheduled", queue), keyed("active", queue));
            while number(&redis.ok(&["EVAL", MOVE, "2", &from, &to]).await) > 0 {}
        }
    }
}

/// A key, or a command and a key, behind the start of all keys of a queue.
fn keyed(place: &str, start: &str) -> String {
    match place.split_once(' ') {
        Some((command, suffix)) => format!("{command} {start}:{suffix}"),
        None => format!("{start}:{place}"),
    }
}

/// A count; none where there is no key.
fn number(answer: &RespValue) -> u64 {
    match answer {
        RespValue::Nil => 0,
        RespValue::Array(items) => items.len() as u64,
        other => u64::try_from(other.int()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_does_not_count_as_settled_neither_waits_nor_is_active() {
        let counts = |settled| Counts {
            waiting: 2,
            active: 1,
            settled,
        };
        assert_eq!(counts(Some(5)).settled_of(10), 5);
        assert_eq!(counts(None).settled_of(10), 7);
        assert_eq!(counts(None).settled_of(1), 0);
    }

    #[test]
    fn places_have_the_keys_of_their_queue() {
        let places = Layout::BullMq.places("default");
        assert_eq!(places.waiting[0], "LLEN bull:default:wait");
        assert_eq!(places.active, ["LLEN bull:default:active"]);
        assert_eq!(Layout::Apalis.places("q").active, ["SCARD q:inflight:bench"]);
        assert_eq!(
            Layout::Asynq.places("q").settled.as_deref(),
            Some("GET asynq:{q}:processed")
        );
        assert!(Layout::Sidekiq.places("default").active.is_empty());
    }
}
