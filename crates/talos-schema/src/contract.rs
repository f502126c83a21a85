//! The Talos version that a config is generated for.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The version contract: the Talos minor version that a config is generated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contract {
    V1_11,
    V1_12,
    V1_13,
    V1_14,
}

/// A Talos version without a known contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Talos {version} is not supported; the supported versions are 1.{oldest} to 1.{newest}",
    oldest = Contract::OLDEST.minor(), newest = Contract::NEWEST.minor())]
pub struct UnknownContract {
    version: String,
}

/// What is known of a minor version of Talos. A new release is a new row.
struct Release {
    contract: Contract,
    minor: u32,
    /// The release that the golden tests compare with.
    tag: &'static str,
    /// Its default Kubernetes version.
    kubernetes: &'static str,
    /// The Kubernetes minor versions that it supports (Talos 1.14, `pkg/machinery/compatibility`).
    kubernetes_minors: RangeInclusive<u64>,
}

const RELEASES: [Release; 4] = [
    Release { contract: Contract::V1_11, minor: 11, tag: "v1.11.6", kubernetes: "1.34.1", kubernetes_minors: 29..=34 },
    Release { contract: Contract::V1_12, minor: 12, tag: "v1.12.4", kubernetes: "1.35.0", kubernetes_minors: 30..=35 },
    Release { contract: Contract::V1_13, minor: 13, tag: "v1.13.9", kubernetes: "1.36.1", kubernetes_minors: 31..=36 },
    Release {
        contract: Contract::V1_14,
        minor: 14,
        tag: "v1.14.0-rc.1",
        kubernetes: "1.36.1",
        kubernetes_minors: 32..=37,
    },
];

impl Contract {
    /// The contract when none is given.
    pub const DEFAULT: Self = Self::V1_12;
    /// The oldest supported one.
    pub const OLDEST: Self = RELEASES[0].contract;
    /// The newest supported one.
    pub const NEWEST: Self = RELEASES[RELEASES.len() - 1].contract;

    /// The release of this minor version that the golden tests compare with.
    pub fn release(self) -> &'static str {
        self.known().tag
    }

    /// The default Kubernetes version of [`Contract::release`], without a leading `v`.
    pub fn kubernetes(self) -> &'static str {
        self.known().kubernetes
    }

    /// The Kubernetes minor versions that this version of Talos supports.
    pub fn kubernetes_minors(self) -> RangeInclusive<u64> {
        self.known().kubernetes_minors.clone()
    }

    /// The minor version of Talos 1.
    pub fn minor(self) -> u32 {
        self.known().minor
    }

    fn known(self) -> &'static Release {
        RELEASES.iter().find(|release| release.contract == self).unwrap_or(&RELEASES[0])
    }
}

impl FromStr for Contract {
    type Err = UnknownContract;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        let mut numbers = version.trim_start_matches('v').split('.');
        let minor = match (numbers.next(), numbers.next()) {
            (Some("1"), Some(minor)) => minor.parse::<u32>().ok(),
            _ => None,
        };
        let known = RELEASES.iter().find(|release| Some(release.minor) == minor);
        known.map(|release| release.contract).ok_or_else(|| UnknownContract { version: version.to_owned() })
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}", self.minor())
    }
}
