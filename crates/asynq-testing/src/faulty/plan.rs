//! Faults by chance, the same for the same seed.

use asynq_core::Entropy;

use super::{Fault, Op};

/// The share of calls that each fault strikes, in tenths of a per cent.
#[derive(Clone, Debug)]
#[must_use]
pub struct Plan {
    entropy: Entropy,
    ops: Option<Vec<Op>>,
    faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// No faults yet; the draws follow from the seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            entropy: Entropy::seeded(seed),
            ops: None,
            faults: Vec::new(),
        }
    }

    /// Only these operations.
    pub fn only(mut self, ops: &[Op]) -> Self {
        self.ops = Some(ops.to_vec());
        self
    }

    /// Adds a fault that strikes `per_mille` of 1000 calls. The sum over all faults is 1000 at most.
    pub fn with(mut self, per_mille: u64, fault: Fault) -> Self {
        self.faults.push((per_mille, fault));
        self
    }

    pub(super) fn draw(&self, op: Op) -> Option<Fault> {
        if self.ops.as_ref().is_some_and(|ops| !ops.contains(&op)) {
            return None;
        }
        let mut drawn = self.entropy.below(1000);
        for (per_mille, fault) in &self.faults {
            if drawn < *per_mille {
                return Some(*fault);
            }
            drawn -= per_mille;
        }
        None
    }
}
