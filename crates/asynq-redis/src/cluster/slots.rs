//! The map of slots to nodes.

use std::{ops::RangeInclusive, sync::Arc};

use redis::Value;

use super::node::{At, Node};

/// Number of slots of a cluster.
pub(super) const SLOTS: u16 = 16384;
/// The longest host name that DNS has.
const LONGEST_HOST: usize = 253;

/// The slot of a key: CRC16 (XMODEM) of its hash tag, if it has one, else of all of it.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    });
    crc % SLOTS
}

/// The masters, and the slots of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    nodes: Vec<Arc<Node>>,
    /// For each slot the place of its node, one above; 0 if no node serves it.
    places: Vec<u16>,
}

impl Slots {
    /// Makes the map of a node's answer. `node` finds the node at an address.
    pub(super) fn new(told: &[Range], mut node: impl FnMut(&At) -> Arc<Node>) -> Self {
        let mut slots = Self::default();
        for range in told {
            slots.set(range.first..=range.last, node(&range.at));
        }
        slots
    }

    /// Adds a node, unless one with its address is there. Its place.
    pub(super) fn add(&mut self, node: Arc<Node>) -> usize {
        let known = self.nodes.iter().position(|known| known.at() == node.at());
        known.unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    /// Gives slots to a node.
    pub(super) fn set(&mut self, range: RangeInclusive<u16>, node: Arc<Node>) {
        let place = self.add(node);
        let place = u16::try_from(place + 1).unwrap_or_default();
        self.places.resize(usize::from(SLOTS), 0);
        self.places[usize::from(*range.start())..=usize::from(*range.end())].fill(place);
    }

    /// The master of a slot.
    pub(super) fn get(&self, slot: u16) -> Option<&Arc<Node>> {
        let place = self.places.get(usize::from(slot)).copied().unwrap_or_default();
        self.nodes.get(usize::from(place).checked_sub(1)?)
    }

    /// The node at an address.
    pub(super) fn at(&self, at: &At) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.at() == at)
    }

    /// Returns all masters, and nodes that calls were sent on to since.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Returns whether each slot has a node, and each node answers.
    pub(super) fn are_well(&self) -> bool {
        !self.places.is_empty() && !self.places.contains(&0) && self.nodes.iter().all(|node| node.ready().is_some())
    }
}

/// Slots that follow each other, and their master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) at: At,
}

/// The answer to CLUSTER SLOTS of the node at `asked`; `None` if it cannot be understood.
pub(super) fn read(answer: &Value, asked: &At) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    ranges.iter().map(|range| read_range(range, asked)).collect()
}

fn read_range(range: &Value, asked: &At) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else {
        return None;
    };
    let [host, Value::Int(port), ..] = &master[..] else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    (first <= last && last < SLOTS).then_some(())?;
    let at = at(host, u16::try_from(*port).ok()?, asked)?;
    Some(Range { first, last, at })
}

/// A node as another one names it: without a name, or with an unknown one, it is where that one is.
fn at(host: &str, port: u16, asked: &At) -> Option<At> {
    let host = match host {
        "" | "?" => &asked.host,
        host => host,
    };
    (host.len() <= LONGEST_HOST).then(|| At {
        host: host.to_owned(),
        port,
    })
}

/// Reads the node that a call is sent on to: `slot host:port`, as in `MOVED` and `ASK`.
pub(super) fn read_redirect(text: &str, asked: &At) -> Option<(u16, At)> {
    let (slot, address) = text.split_once(' ')?;
    let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
    let (host, port) = address.rsplit_once(':')?;
    Some((slot, at(host, port.parse().ok()?, asked)?))
}

/// The answer of a node.
#[derive(Debug)]
pub(super) struct Told {
    /// The cluster's epoch as that node knows it; it grows with each change of a master. 0 if it was not told.
    pub(super) epoch: u64,
    pub(super) ranges: Vec<Range>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> At {
        At {
            host: "10.0.0.1".to_owned(),
            port: 7000,
        }
    }

    fn there(host: &str, port: u16) -> At {
        At {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn slots_are_those_of_redis() {
        for (key, slot) in [
            ("default", 5718),
            ("asynq:{low}:pending", 15214),
            ("asynq:{q}:t:a{b}", 11958),
            ("asynq:queues", 3477),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_ne!(slot_of(b"a{}b"), slot_of(b""), "an empty tag is none");
    }

    #[test]
    fn where_a_redirect_leads() {
        let read = |text: &str| read_redirect(text, &here());
        assert_eq!(read("3999 127.0.0.1:6381"), Some((3999, there("127.0.0.1", 6381))));
        assert_eq!(read("3999 ::1:6381"), Some((3999, there("::1", 6381))));
        assert_eq!(read("0 :6381"), Some((0, there("10.0.0.1", 6381))));
        for bad in ["", "3999", "x 1:1", "16384 a:1", "3999 a:99999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_node_tells_of_slots() {
        let host = |name: &str| Value::BulkString(name.into());
        let range = |first: i64, last: i64, host: Value| {
            let id = Value::BulkString(b"id".to_vec());
            let node = Value::Array(vec![host, Value::Int(7001), id, Value::Array(Vec::new())]);
            let replica = Value::Array(vec![Value::Nil, Value::Int(7002)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node, replica])
        };
        let told = Value::Array(vec![
            range(0, 5, host("a")),
            range(6, 6, Value::Nil),
            range(9, 16383, host("?")),
        ]);
        let found = read(&told, &here()).unwrap();
        let expected = [(0, 5, "a"), (6, 6, "10.0.0.1"), (9, 16383, "10.0.0.1")];
        for (range, (first, last, host)) in found.iter().zip(expected) {
            assert_eq!((range.first, range.last, &range.at), (first, last, &there(host, 7001)));
        }
        for bad in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(5, 4, host("a"))]),
            Value::Array(vec![range(0, 16384, host("a"))]),
            Value::Array(vec![range(-1, 4, host("a"))]),
            Value::Array(vec![range(0, 1, Value::Int(1))]),
        ] {
            assert_eq!(read(&bad, &here()), None, "{bad:?}");
        }
    }
}
