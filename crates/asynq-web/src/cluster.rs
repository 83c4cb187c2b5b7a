//! The nodes of a Redis Cluster, as `CLUSTER NODES` tells them.

/// The masters of a cluster, by their slots.
#[derive(Debug, Default)]
pub(crate) struct Nodes(Vec<Shard>);

/// A master with its replicas.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Ranges of slots.
    pub(crate) slots: Vec<(u16, u16)>,
    /// The master, then its replicas.
    pub(crate) nodes: Vec<Node>,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// `host:port`.
    pub(crate) address: String,
    /// Flags, such as `master`, `slave`, `fail?`, `fail`.
    pub(crate) flags: String,
    /// The node that has answered reaches it.
    pub(crate) is_connected: bool,
}

impl Node {
    /// Reads a line: `id host:port@bus flags master ping pong epoch state slots…`.
    fn of(row: &[&str]) -> Self {
        let part = |nth: usize| row.get(nth).copied().unwrap_or_default();
        Self {
            address: part(1).split(['@', ',']).next().unwrap_or_default().to_owned(),
            flags: part(2).to_owned(),
            is_connected: part(7) == "connected",
        }
    }

    /// Returns whether the cluster takes it for failed, or doubts it.
    pub(crate) fn has_failed(&self) -> bool {
        !self.is_connected && !self.flags.contains("myself")
            || self
                .flags
                .split(',')
                .any(|flag| matches!(flag, "fail" | "fail?" | "noaddr"))
    }
}

impl Shard {
    /// Returns the number of its slots.
    pub(crate) fn count(&self) -> u32 {
        let length = |(first, last): &(u16, u16)| u32::from(last.saturating_sub(*first)) + 1;
        self.slots.iter().map(length).sum()
    }

    /// Returns the address of its master.
    pub(crate) fn master(&self) -> &str {
        self.nodes.first().map_or("", |node| &node.address)
    }
}

impl Nodes {
    /// Reads the answer to `CLUSTER NODES`.
    pub(crate) fn parse(text: &str) -> Self {
        let rows = || text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let masters = rows().filter(|row| row.len() > 8);
        let shards = masters.map(|master| {
            let slots = master[8..].iter().filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse().ok()?, last.parse().ok()?))
            });
            let replicas = rows().filter(|row| row.get(3) == master.first());
            let mut nodes = vec![Node::of(&master)];
            nodes.extend(replicas.map(|replica| Node::of(&replica)));
            Shard {
                slots: slots.collect(),
                nodes,
            }
        });
        Self(shards.collect())
    }

    /// Returns the masters that have slots, with their replicas.
    pub(crate) fn shards(&self) -> &[Shard] {
        &self.0
    }

    /// Returns the master of a slot, with its replicas.
    pub(crate) fn of(&self, slot: u16) -> Option<&Shard> {
        let has = |shard: &&Shard| shard.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        self.0.iter().find(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_by_their_slots() {
        let text = "aa 127.0.0.1:1@11,host myself,master - 0 0 1 connected 0-99 200\n\
                    bb :2@12 master - 0 0 2 connected 100-199 [201->-aa]\n\
                    cc 127.0.0.1:3@13 slave,fail? aa 0 0 1 connected\n";
        let nodes = Nodes::parse(text);
        let of = |slot| {
            let nodes = nodes.of(slot).into_iter().flat_map(|shard| &shard.nodes);
            nodes.map(|node| node.address.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(0), "127.0.0.1:1 127.0.0.1:3");
        assert_eq!(of(200), "127.0.0.1:1 127.0.0.1:3");
        assert_eq!(of(199), ":2");
        assert_eq!(of(300), "");
        assert!(Nodes::parse("\n\nrubbish").of(0).is_none());
        let first = &nodes.shards()[0];
        assert_eq!((first.count(), first.master()), (101, "127.0.0.1:1"));
        let failed: Vec<bool> = first.nodes.iter().map(Node::has_failed).collect();
        assert_eq!(failed, [false, true]);
    }
}
