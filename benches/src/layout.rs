//! Places of tasks in Redis, by which a contestant's work is known to be settled.

use asynq_testing::resp::{Resp, RespValue};

/// The layout that a contestant's tasks have in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Asynq's.
    Asynq,
}

/// The numbers of tasks of some queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Waiting for a worker.
    pub(crate) waiting: u64,
    /// Taken and not settled.
    pub(crate) active: u64,
    /// Settled since ever: done, kept, put back for a retry or archived.
    pub(crate) settled: u64,
}

impl Layout {
    /// The commands that count waiting, active and settled tasks of a queue.
    fn commands(self, queue: &str) -> [Vec<String>; 3] {
        let words = |command: &str, key: String| vec![command.to_owned(), key];
        match self {
            Self::Asynq => [
                words("LLEN", format!("asynq:{{{queue}}}:pending")),
                words("LLEN", format!("asynq:{{{queue}}}:active")),
                words("GET", format!("asynq:{{{queue}}}:processed")),
            ],
        }
    }

    /// Counts the tasks of some queues.
    pub(crate) async fn count(self, redis: &mut Resp, queues: &[String]) -> Counts {
        let commands = queues.iter().flat_map(|queue| self.commands(queue));
        let commands: Vec<_> = commands
            .map(|words| words.into_iter().map(Into::into).collect())
            .collect();
        let mut counts = Counts::default();
        for answers in redis.pipeline(&commands).await.chunks(3) {
            counts.waiting += number(&answers[0]);
            counts.active += number(&answers[1]);
            counts.settled += number(&answers[2]);
        }
        counts
    }
}

/// A count; none where there is no key.
fn number(answer: &RespValue) -> u64 {
    match answer {
        RespValue::Nil => 0,
        other => u64::try_from(other.int()).unwrap_or(0),
    }
}
