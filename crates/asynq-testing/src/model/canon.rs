//! Names that differ from storage to storage, made equal.

use std::collections::HashMap;

use asynq_core::{
    keys::own,
    raw::{RawState, RawValue},
};
use bytes::Bytes;

/// The names that one storage gave, and what they are called here.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    tokens: HashMap<Bytes, String>,
    sets: HashMap<String, String>,
}

impl Names {
    /// The token of the call of this number.
    pub(super) fn token(&mut self, token: &str, number: usize) {
        self.tokens
            .insert(Bytes::copy_from_slice(token.as_bytes()), format!("call {number}"));
    }

    /// The id of the aggregation set of this number.
    pub(super) fn set(&mut self, id: &str, number: usize) {
        self.sets.insert(id.to_owned(), format!("set {number}"));
    }

    /// The state under common names.
    pub(super) fn canonical(&self, state: RawState) -> RawState {
        let keys = state
            .into_iter()
            .map(|(key, value)| (self.key(&key), self.value(&key, value)));
        keys.collect()
    }

    /// A key that ends in the id of a set, under its common name.
    fn key(&self, key: &str) -> String {
        let named = key
            .rsplit_once(':')
            .and_then(|(group, id)| Some(format!("{group}:{}", self.sets.get(id)?)));
        named.unwrap_or_else(|| key.to_owned())
    }

    fn value(&self, key: &str, value: RawValue) -> RawValue {
        match value {
            RawValue::Hash(mut fields) => {
                if let Some(take) = fields.get_mut(own::TAKE)
                    && let Some(name) = self.tokens.get(take)
                {
                    *take = name.clone().into();
                }
                if let Some(cancel) = fields.get_mut(own::CANCEL)
                    && let Some(space) = cancel.iter().position(|byte| *byte == b' ')
                    && let Some(name) = self.tokens.get(&cancel[space + 1..])
                {
                    *cancel = [&cancel[..=space], name.as_bytes()].concat().into();
                }
                RawValue::Hash(fields)
            }
            RawValue::ZSet(entries) if key.ends_with(":aggregation_sets") => {
                let rename =
                    |(member, score): (Bytes, i64)| (Bytes::from(self.key(&String::from_utf8_lossy(&member))), score);
                let mut entries: Vec<_> = entries.into_iter().map(rename).collect();
                entries.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
                RawValue::ZSet(entries)
            }
            other => other,
        }
    }
}
