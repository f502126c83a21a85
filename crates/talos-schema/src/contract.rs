//! The Talos version that a config is generated for.

use std::fmt;
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
#[error("Talos {0} is not supported; the supported versions are 1.11, 1.12, 1.13 and 1.14")]
pub struct UnknownContract(String);

/// The default release of each minor version, and its default Kubernetes version.
const RELEASES: [(Contract, &str, &str); 4] = [
    (Contract::V1_11, "v1.11.6", "1.34.1"),
    (Contract::V1_12, "v1.12.4", "1.35.0"),
    (Contract::V1_13, "v1.13.9", "1.36.1"),
    (Contract::V1_14, "v1.14.0-rc.1", "1.36.1"),
];

impl Contract {
    /// The contract when none is given.
    pub const DEFAULT: Self = Self::V1_12;

    /// The release of this minor version that the golden tests compare with.
    pub fn release(self) -> &'static str {
        self.known().1
    }

    /// The default Kubernetes version of [`Contract::release`], without a leading `v`.
    pub fn kubernetes(self) -> &'static str {
        self.known().2
    }

    fn known(self) -> (Self, &'static str, &'static str) {
        let [first, ..] = RELEASES;
        RELEASES.into_iter().find(|(contract, ..)| *contract == self).unwrap_or(first)
    }
}

impl FromStr for Contract {
    type Err = UnknownContract;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        let line: Vec<&str> = version.trim_start_matches('v').split('.').take(2).collect();
        match line.as_slice() {
            ["1", "11"] => Ok(Self::V1_11),
            ["1", "12"] => Ok(Self::V1_12),
            ["1", "13"] => Ok(Self::V1_13),
            ["1", "14"] => Ok(Self::V1_14),
            _ => Err(UnknownContract(version.to_owned())),
        }
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_11 => "v1.11",
            Self::V1_12 => "v1.12",
            Self::V1_13 => "v1.13",
            Self::V1_14 => "v1.14",
        })
    }
}
