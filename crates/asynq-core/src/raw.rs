//! The stored bytes of a storage, key by key, for tests that compare them.
//!
//! A broker that is not Redis shows here what Redis would hold, so that two storages can be
//! compared to the byte and the same checks run on both.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// All keys with their values, sorted by name.
pub type RawState = BTreeMap<String, RawValue>;

/// The value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawValue {
    /// A string.
    String(Bytes),
    /// A list, head (index 0) first.
    List(Vec<Bytes>),
    /// A set.
    Set(BTreeSet<Bytes>),
    /// A sorted set, by score, then member bytes.
    ZSet(Vec<(Bytes, i64)>),
    /// A hash.
    Hash(BTreeMap<String, Bytes>),
}
