//! The board of watches: who waits for which key.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use asynq_core::broker::{Wake, Watch};
use tokio::sync::watch;

/// The watches of one connection.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    closed: bool,
    next: u64,
    waiting: HashMap<u64, Waiting>,
    by_key: HashMap<Vec<u8>, Vec<u64>>,
}

#[derive(Debug)]
struct Waiting {
    keys: Vec<Vec<u8>>,
    signal: watch::Sender<Option<Wake>>,
}

impl Lists {
    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        for key in &waiting.keys {
            if let Some(numbers) = self.by_key.get_mut(key) {
                numbers.retain(|other| *other != number);
                if numbers.is_empty() {
                    self.by_key.remove(key);
                }
            }
        }
        Some(waiting)
    }
}

impl Board {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a watch on the keys, before they are looked at: a change after the look cannot be
    /// missed then. `None` if the connection is lost.
    pub(super) fn enter(self: &Arc<Self>, keys: &[Vec<u8>]) -> Option<Entry> {
        let mut lists = self.lists();
        if lists.closed {
            return None;
        }
        // Those that nobody waits for any more leave when somebody else comes to one of their keys.
        let mut abandoned = Vec::new();
        for number in keys.iter().filter_map(|key| lists.by_key.get(key)).flatten() {
            if lists
                .waiting
                .get(number)
                .is_some_and(|waiting| waiting.signal.is_closed())
            {
                abandoned.push(*number);
            }
        }
        for number in abandoned {
            lists.remove(number);
        }
        let number = lists.next;
        lists.next += 1;
        for key in keys {
            lists.by_key.entry(key.clone()).or_default().push(number);
        }
        let (signal, receiver) = watch::channel(None);
        lists.waiting.insert(
            number,
            Waiting {
                keys: keys.to_vec(),
                signal,
            },
        );
        Some(Entry {
            board: Arc::clone(self),
            number,
            receiver: Some(receiver),
        })
    }

    /// Ends the watches on a key.
    pub(super) fn changed(&self, key: &[u8]) {
        let mut lists = self.lists();
        for number in lists.by_key.get(key).cloned().unwrap_or_default() {
            if let Some(waiting) = lists.remove(number) {
                waiting.signal.send_replace(Some(Wake::Changed));
            }
        }
    }

    /// Ends all watches.
    pub(super) fn all_lost(&self) {
        let mut lists = self.lists();
        lists.by_key.clear();
        let ended = mem::take(&mut lists.waiting);
        drop(lists);
        for waiting in ended.into_values() {
            waiting.signal.send_replace(Some(Wake::Lost));
        }
    }

    /// Ends all watches, and there will be no more.
    pub(super) fn close(&self) {
        self.lists().closed = true;
        self.all_lost();
    }
}

/// A watch that may not stand yet; dropped, it is forgotten.
#[derive(Debug)]
pub(super) struct Entry {
    board: Arc<Board>,
    number: u64,
    receiver: Option<watch::Receiver<Option<Wake>>>,
}

impl Entry {
    /// The watch stands.
    pub(super) fn into_watch(mut self) -> Watch {
        self.receiver.take().map_or_else(Watch::ready, Watch::new)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.receiver.is_some() {
            self.board.lists().remove(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_change_ends_the_watches_on_its_key_only() {
        let board = Arc::new(Board::default());
        let mut first = board.enter(&[key("a"), key("b")]).unwrap().into_watch();
        let mut second = board.enter(&[key("b"), key("c")]).unwrap().into_watch();
        board.changed(b"a");
        assert_eq!(first.changed().await, Wake::Changed);
        board.changed(b"c");
        assert_eq!(second.changed().await, Wake::Changed);
        assert!(board.lists().by_key.is_empty() && board.lists().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_change_before_the_answer_is_kept() {
        let board = Arc::new(Board::default());
        let entry = board.enter(&[key("a")]).unwrap();
        board.changed(b"a");
        assert_eq!(entry.into_watch().changed().await, Wake::Changed);
    }

    #[tokio::test]
    async fn abandoned_watches_do_not_pile_up() {
        let board = Arc::new(Board::default());
        for _ in 0..100 {
            drop(board.enter(&[key("a"), key("b")]).unwrap().into_watch());
        }
        assert_eq!(board.lists().waiting.len(), 1);
        drop(board.enter(&[key("c")]).unwrap());
        assert!(!board.lists().by_key.contains_key(&key("c")));
    }

    #[tokio::test]
    async fn a_closed_board_has_lost_all() {
        let board = Arc::new(Board::default());
        let mut watch = board.enter(&[key("a")]).unwrap().into_watch();
        board.close();
        assert_eq!(watch.changed().await, Wake::Lost);
        assert!(board.enter(&[key("a")]).is_none());
    }
}
