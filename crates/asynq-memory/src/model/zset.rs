//! A sorted set as Redis has it: by score, ties by the bytes of the member.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    ops::Bound,
};

/// Members with integer scores. `M` orders by its bytes.
#[derive(Clone, Debug)]
pub(crate) struct ZSet<M> {
    scores: HashMap<M, i64>,
    order: BTreeSet<(i64, M)>,
}

impl<M> Default for ZSet<M> {
    fn default() -> Self {
        Self {
            scores: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<M: Clone + Eq + Ord + Hash> ZSet<M> {
    /// ZADD: adds the member or moves it. Whether it is new.
    pub(crate) fn insert(&mut self, member: M, score: i64) -> bool {
        let before = self.scores.insert(member.clone(), score);
        if let Some(before) = before {
            if before == score {
                return false;
            }
            self.order.remove(&(before, member.clone()));
        }
        self.order.insert((score, member));
        before.is_none()
    }

    /// ZREM: whether it was there.
    pub(crate) fn remove(&mut self, member: &M) -> bool {
        match self.scores.remove_entry(member) {
            Some((member, score)) => self.order.remove(&(score, member)),
            None => false,
        }
    }

    /// ZSCORE.
    pub(crate) fn score(&self, member: &M) -> Option<i64> {
        self.scores.get(member).copied()
    }

    /// Returns whether the member is in the set.
    pub(crate) fn contains(&self, member: &M) -> bool {
        self.scores.contains_key(member)
    }

    /// ZCARD.
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Returns whether the key would be absent.
    pub(crate) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The entries in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&M, i64)> {
        self.order.iter().map(|(score, member)| (member, *score))
    }

    /// The lowest entry.
    pub(crate) fn first(&self) -> Option<(&M, i64)> {
        self.order.first().map(|(score, member)| (member, *score))
    }

    /// The highest entry.
    pub(crate) fn last(&self) -> Option<(&M, i64)> {
        self.order.last().map(|(score, member)| (member, *score))
    }

    /// ZRANGEBYSCORE -inf `score` LIMIT 0 `limit`.
    pub(crate) fn up_to(&self, score: i64, limit: usize) -> Vec<(M, i64)> {
        let due = self.iter().take_while(|(_, of)| *of <= score).take(limit);
        due.map(|(member, score)| (member.clone(), score)).collect()
    }

    /// The entries behind this one, whether it is there or not; all if there is none.
    pub(crate) fn behind(&self, entry: Option<(i64, M)>) -> impl Iterator<Item = (&M, i64)> {
        let from = entry.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.order.range((from, Bound::Unbounded));
        entries.map(|(score, member)| (member, *score))
    }

    /// ZREMRANGEBYSCORE -inf (`score`.
    pub(crate) fn remove_below(&mut self, score: i64) {
        while self.first().is_some_and(|(_, lowest)| lowest < score) {
            self.pop_lowest(1);
        }
    }

    /// Takes the `count` lowest entries out.
    pub(crate) fn pop_lowest(&mut self, count: usize) -> Vec<(M, i64)> {
        let lowest: Vec<_> = self
            .iter()
            .take(count)
            .map(|(member, score)| (member.clone(), score))
            .collect();
        for (member, _) in &lowest {
            self.remove(member);
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(set: &ZSet<String>) -> Vec<(&str, i64)> {
        set.iter().map(|(member, score)| (member.as_str(), score)).collect()
    }

    #[test]
    fn order_is_by_score_then_by_the_bytes_of_the_member() {
        let mut set = ZSet::default();
        for (member, score) in [("b", 2), ("a", 2), ("B", 2), ("ä", 2), ("z", 1), ("a0", 2)] {
            assert!(set.insert(member.to_owned(), score));
        }
        assert_eq!(
            members(&set),
            [("z", 1), ("B", 2), ("a", 2), ("a0", 2), ("b", 2), ("ä", 2)]
        );
    }

    #[test]
    fn a_member_stands_once_with_its_last_score() {
        let mut set = ZSet::default();
        assert!(set.insert("a".to_owned(), 5));
        assert!(!set.insert("a".to_owned(), 5));
        assert!(!set.insert("a".to_owned(), -7));
        assert_eq!((members(&set), set.len()), (vec![("a", -7)], 1));
        assert!(set.remove(&"a".to_owned()) && !set.remove(&"a".to_owned()));
        assert!(set.is_empty() && set.first().is_none());
    }

    #[test]
    fn ranges_are_inclusive_and_bounded() {
        let mut set = ZSet::default();
        for (member, score) in [("a", 1), ("b", 2), ("c", 2), ("d", 3)] {
            set.insert(member.to_owned(), score);
        }
        assert_eq!(set.up_to(2, 10).len(), 3);
        assert_eq!(set.up_to(2, 2), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        set.remove_below(2);
        assert_eq!(members(&set), [("b", 2), ("c", 2), ("d", 3)]);
        assert_eq!(set.pop_lowest(2).len(), 2);
        assert_eq!(members(&set), [("d", 3)]);
    }
}
