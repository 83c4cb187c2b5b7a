//! The calls of one connection that wait for an answer.

use std::{
    borrow::Cow,
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The name of a call, for logs.
pub(crate) type CallName = Cow<'static, str>;

/// The open calls of a connection.
#[derive(Debug)]
pub(crate) struct Calls(Mutex<Table>);

#[derive(Debug)]
struct Table {
    /// The number of the first of `open`.
    first: u64,
    /// In the order of their beginnings; `None` for one that has ended before an earlier one.
    open: VecDeque<Option<OpenCall>>,
}

#[derive(Debug)]
struct OpenCall {
    name: CallName,
    since: Instant,
    reported: bool,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table {
            first: 0,
            open: VecDeque::new(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call is on its way, until the value returned is dropped.
    pub(crate) fn open(&self, name: CallName) -> Waiting<'_> {
        let mut table = self.table();
        let number = table.first + table.open.len() as u64;
        table.open.push_back(Some(OpenCall {
            name,
            since: Instant::now(),
            reported: false,
        }));
        Waiting { calls: self, number }
    }

    /// Returns how long the oldest of them has waited.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        let table = self.table();
        table.open.front()?.as_ref().map(|call| call.since.elapsed())
    }

    /// Returns how many calls wait.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.table().open.iter().flatten().count()
    }

    /// The calls that have waited for `limit` or longer, each once.
    pub(crate) fn take_slow(&self, limit: Duration) -> Vec<(CallName, Duration)> {
        let mut slow = Vec::new();
        for call in self.table().open.iter_mut().flatten() {
            let waited = call.since.elapsed();
            if waited < limit {
                break;
            }
            if !call.reported {
                call.reported = true;
                slow.push((call.name.clone(), waited));
            }
        }
        slow
    }
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Waiting<'c> {
    calls: &'c Calls,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut table = self.calls.table();
        let place = usize::try_from(self.number - table.first).unwrap_or(usize::MAX);
        if let Some(call) = table.open.get_mut(place) {
            *call = None;
        }
        // The first of those that are left is the one that has waited longest.
        while let Some(None) = table.open.front() {
            table.open.pop_front();
            table.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_reported_once() {
        let calls = Calls::new();
        let slow = calls.open("enqueue".into());
        tokio::time::advance(Duration::from_secs(2)).await;
        let fast = calls.open("ping".into());
        assert_eq!(
            calls.take_slow(Duration::from_secs(1)),
            [("enqueue".into(), Duration::from_secs(2))]
        );
        assert!(calls.take_slow(Duration::from_secs(1)).is_empty());
        assert_eq!(calls.count(), 2);
        drop(fast);
        assert_eq!(calls.count(), 1);
        assert_eq!(calls.waiting(), Some(Duration::from_secs(2)));
        drop(slow);
        assert_eq!(calls.waiting(), None);
    }
}
