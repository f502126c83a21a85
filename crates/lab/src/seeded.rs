//! Random choices that can be repeated: everything follows from the lab's seed.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A source of random choices for one purpose of one node. Sources of different purposes do not affect each other.
#[derive(Debug)]
pub(super) struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    pub(super) fn new(seed: u64, node: &str, purpose: &str) -> Self {
        let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(node).chain_update([0]);
        Self(Mutex::new(StdRng::from_seed(digest.chain_update(purpose).finalize().into())))
    }

    pub(super) fn bytes(&self) -> [u8; 4] {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// An identifier in the form of `/proc/sys/kernel/random/boot_id`.
    pub(super) fn uuid(&self) -> String {
        let [a, b, c, d]: [u32; 4] = self.0.lock().unwrap_or_else(PoisonError::into_inner).random();
        format!("{a:08x}-{:04x}-{:04x}-{:04x}-{:04x}{d:08x}", b >> 16, b & 0xffff, c >> 16, c & 0xffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices() {
        let ids = |seed, node, purpose| {
            let random = SeededRandom::new(seed, node, purpose);
            [random.uuid(), random.uuid()]
        };
        assert_eq!(ids(7, "cp-1", "boot"), ids(7, "cp-1", "boot"));
        assert_ne!(ids(7, "cp-1", "boot"), ids(8, "cp-1", "boot"));
        assert_ne!(ids(7, "cp-1", "boot"), ids(7, "cp-2", "boot"));
        assert_ne!(ids(7, "cp-1", "boot"), ids(7, "cp-1", "actor"));
        let [first, second] = ids(7, "cp-1", "boot");
        assert_ne!(first, second);
        assert_eq!(first.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
