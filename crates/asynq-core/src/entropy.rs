//! Randomness, injected like the clock, so that a seeded run replays exactly.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{
    Rng, RngCore, SeedableRng as _, TryRngCore as _,
    rand_core::block::{BlockRng, BlockRngCore},
    rngs::{OsRng, SmallRng},
};

/// A source of random numbers. Cheap to clone; clones draw from one stream.
#[derive(Clone)]
pub struct Entropy(Arc<Mutex<Source>>);

enum Source {
    /// The randomness of the operating system. An id drawn from it cannot be guessed from other ids.
    System(BlockRng<Blocks>),
    Seeded(SmallRng),
}

/// A source that reads a block at a time from the operating system, so that one system call serves many ids.
struct Blocks;

impl BlockRngCore for Blocks {
    type Item = u32;
    type Results = [u32; 32];

    fn generate(&mut self, results: &mut Self::Results) {
        let mut bytes = [0; 128];
        #[expect(clippy::expect_used, reason = "it answered the first time, and then goes on to")]
        OsRng
            .try_fill_bytes(&mut bytes)
            .expect("the operating system has random numbers");
        for (result, bytes) in results.iter_mut().zip(bytes.as_chunks().0) {
            *result = u32::from_ne_bytes(*bytes);
        }
    }
}

impl RngCore for Source {
    fn next_u32(&mut self) -> u32 {
        match self {
            Self::System(rng) => rng.next_u32(),
            Self::Seeded(rng) => rng.next_u32(),
        }
    }

    fn next_u64(&mut self) -> u64 {
        match self {
            Self::System(rng) => rng.next_u64(),
            Self::Seeded(rng) => rng.next_u64(),
        }
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        match self {
            Self::System(rng) => rng.fill_bytes(bytes),
            Self::Seeded(rng) => rng.fill_bytes(bytes),
        }
    }
}

impl Entropy {
    /// Drawn from the operating system.
    ///
    /// # Panics
    /// If it has no random numbers.
    #[must_use]
    pub fn from_os() -> Self {
        let mut blocks = BlockRng::new(Blocks);
        blocks.generate_and_set(0);
        Self(Arc::new(Mutex::new(Source::System(blocks))))
    }

    /// Returns a source whose numbers depend only on the seed, on machines of the same word size.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Source::Seeded(SmallRng::seed_from_u64(seed)))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut Source) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A random UUID v4 in lower-case hyphenated form.
    #[must_use]
    pub fn uuid(&self) -> String {
        let bytes = self.with(|rng| rng.random::<[u8; 16]>());
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .hyphenated()
            .to_string()
    }

    /// Returns 64 random bits.
    #[must_use]
    pub fn bits(&self) -> u64 {
        self.with(|rng| rng.random())
    }

    /// A number from 0 up to, and without, `bound`; 0 if `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.with(|rng| rng.random_range(0..bound))
        }
    }

    /// `mean`/2 + a random share of `mean`: Go's jitter for polls.
    #[must_use]
    pub fn around(&self, mean: Duration) -> Duration {
        mean / 2 + mean.mul_f64(self.with(|rng| rng.random::<f64>()))
    }

    /// A random share of `most`.
    #[must_use]
    pub fn up_to(&self, most: Duration) -> Duration {
        most.mul_f64(self.with(|rng| rng.random::<f64>()))
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::from_os()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let (a, b) = (Entropy::seeded(7), Entropy::seeded(7));
        assert_eq!((a.uuid(), a.bits(), a.below(10)), (b.uuid(), b.bits(), b.below(10)));
    }

    #[test]
    fn uuid_is_v4_lower_case() {
        let id = Entropy::from_os().uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_eq!(id, id.to_lowercase());
    }

    #[test]
    fn no_block_of_the_system_comes_twice() {
        let entropy = Entropy::from_os();
        let drawn: std::collections::BTreeSet<u64> = (0..256).map(|_| entropy.bits()).collect();
        assert_eq!(drawn.len(), 256);
        let ids: std::collections::BTreeSet<String> = (0..256).map(|_| entropy.uuid()).collect();
        assert_eq!(ids.len(), 256);
    }

    #[test]
    fn around_stays_within_half_and_one_and_a_half() {
        let entropy = Entropy::seeded(1);
        for _ in 0..100 {
            let d = entropy.around(Duration::from_secs(1));
            assert!(d >= Duration::from_millis(500) && d < Duration::from_millis(1500));
        }
    }
}
