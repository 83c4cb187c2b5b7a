//! Randomness, injected like the clock, so that a seeded run replays exactly.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// A source of random numbers. Cheap to clone; clones draw from one stream.
#[derive(Clone)]
pub struct Entropy(Arc<Mutex<StdRng>>);

impl Entropy {
    /// Seeded by the operating system.
    #[must_use]
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_os_rng())))
    }

    /// A stream that is the same for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
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

    /// Any 64 bits.
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
    fn around_stays_within_half_and_one_and_a_half() {
        let entropy = Entropy::seeded(1);
        for _ in 0..100 {
            let d = entropy.around(Duration::from_secs(1));
            assert!(d >= Duration::from_millis(500) && d < Duration::from_millis(1500));
        }
    }
}
