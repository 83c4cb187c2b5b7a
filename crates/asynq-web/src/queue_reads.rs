//! The numbers of many queues, read at the same time. A queue that cannot be read hides no other.

use std::{pin::pin, time::Duration};

use asynq::{
    Inspector,
    error::{BrokerError, Error},
    info::QueueInfo,
};
use futures::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::{problem::is_outage, records::UnreadableQueue};

/// Queues that are read at the same time.
const AT_ONCE: usize = 16;

/// Queues as they were read.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) queues: Vec<QueueInfo>,
    pub(crate) unreadable: Vec<Unread>,
    /// Those that were deleted meanwhile.
    pub(crate) gone: Vec<String>,
}

/// A queue that could not be read.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) queue: String,
    /// The error; `None` if there was no time left for it.
    pub(crate) error: Option<Error>,
}

impl Unread {
    /// Returns whether another attempt may succeed without a change of the queue.
    pub(crate) fn is_passing(&self) -> bool {
        self.error.as_ref().is_none_or(is_outage)
    }

    pub(crate) fn record(&self) -> UnreadableQueue {
        UnreadableQueue::of(&self.queue, self.error.as_ref())
    }
}

/// Reads these queues within a time. The lists of the answer have the order of `names`.
///
/// # Errors
/// The storage does not answer, and no queue could be read.
pub(crate) async fn read(inspector: &Inspector, names: Vec<String>, within: Duration) -> Result<Reads, Error> {
    let deadline = Instant::now() + within;
    let reads = stream::iter(names)
        .map(async |queue| {
            let info = match timeout_at(deadline, inspector.get_queue_stats(&queue)).await {
                Ok(info) => info.map_err(Some),
                Err(_) => Err(None),
            };
            (queue, info)
        })
        .buffered(AT_ONCE);
    let mut reads = pin!(reads);
    let (mut read, mut outages) = (Reads::default(), 0);
    while let Some((queue, info)) = reads.next().await {
        match info {
            Ok(info) => read.queues.push(info),
            Err(Some(Error::Broker(BrokerError::QueueNotFound { .. }))) => read.gone.push(queue),
            Err(error) => {
                outages += usize::from(error.as_ref().is_some_and(is_outage));
                read.unreadable.push(Unread { queue, error });
                // In a cluster other queues may be on a node that answers. If none is, the rest would only take time.
                if outages >= AT_ONCE && outages == read.unreadable.len() && read.queues.is_empty() {
                    break;
                }
            }
        }
    }
    if read.queues.is_empty()
        && outages == read.unreadable.len()
        && let Some(error) = read.unreadable.pop().and_then(|unread| unread.error)
    {
        return Err(error);
    }
    Ok(read)
}
