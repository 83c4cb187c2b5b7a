//! The stored bytes of a storage, key by key, for tests that compare them.
//!
//! A broker that is not Redis uses these types to show the data that Redis would hold. Tests can then compare two
//! storages to the byte, and run the same checks on both.

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
