//! Everything random of a simulation, from one seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length)
    }

    /// Whether something happens that happens `often` of 1000 times.
    pub(crate) fn happens(&mut self, often: u64) -> bool {
        often > 0 && self.within(1..=1000) <= often
    }

    pub(crate) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}

/// How often each fault happens. No two seeds have the same rates: a fault that is rare among many is common where it is
/// one of few.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FaultRates {
    // In each second, of 1000.
    pub(crate) reboot: u64,
    pub(crate) wipe: u64,
    pub(crate) partition: u64,
    pub(crate) block: u64,
    pub(crate) api_outage: u64,
    pub(crate) registry_outage: u64,
    pub(crate) disk_full: u64,
    pub(crate) etcd_alarm: u64,
    // For each request, of 1000.
    pub(crate) lost_request: u64,
    pub(crate) lost_reply: u64,
    pub(crate) late_request: u64,
    pub(crate) unread_alarms: u64,
    // For each boot, run and hook, of 1000.
    pub(crate) slow_boot: u64,
    pub(crate) kill: u64,
    pub(crate) stop: u64,
    pub(crate) hook_failure: u64,
}

impl FaultRates {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let mut rate = |most| if chance.happens(500) { chance.within(1..=most) } else { 0 };
        Self {
            reboot: rate(12),
            wipe: rate(12),
            partition: rate(12),
            block: rate(15),
            api_outage: rate(12),
            registry_outage: rate(8),
            disk_full: rate(8),
            etcd_alarm: rate(8),
            lost_request: rate(100),
            lost_reply: rate(200),
            late_request: rate(400),
            unread_alarms: rate(300),
            slow_boot: rate(300),
            kill: rate(900),
            stop: rate(300),
            hook_failure: rate(500),
        }
    }
}
