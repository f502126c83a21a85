//! What the tests of several crates share: children with a cleared environment, loopback networks, waiting, and the
//! output of a command as a transcript. Only tests depend on it, and it depends on no other crate.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared fails")]

mod child;
mod network;
mod output;
mod wait;

pub use child::{child, with_downloads};
pub use network::LoopbackNetwork;
pub use output::{CommandOutput, Redactions};
pub use wait::{Condition, Deadline, wait_until, wait_until_async};

/// Random numbers by a seed, which is printed; `K8S_BOOTSTRAP_TEST_SEED` repeats one.
pub fn random() -> rand::rngs::StdRng {
    let named = std::env::var("K8S_BOOTSTRAP_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = named.unwrap_or_else(rand::random);
    #[expect(clippy::print_stderr, reason = "the test harness shows it with a failure")]
    {
        eprintln!("seed: K8S_BOOTSTRAP_TEST_SEED={seed}");
    }
    rand::SeedableRng::seed_from_u64(seed)
}
