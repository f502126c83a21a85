//! The Talos version of a node, and which API services it has.
//!
//! Facts from Talos 1.11 to 1.14: 1.13 added the lifecycle and image services; 1.14 waits for a Reboot call where earlier
//! versions reboot by themselves. An unknown version is handled like the nearest known one.

use std::fmt;

use semver::Version;

/// The Talos version of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalosVersion(Version);

impl TalosVersion {
    /// Parses a tag such as `v1.12.4`.
    pub fn parse(tag: &str) -> Option<Self> {
        Version::parse(tag.trim().trim_start_matches('v')).ok().map(Self)
    }

    fn line(&self) -> (u64, u64) {
        (self.0.major, self.0.minor)
    }

    /// Whether a dry run reports that a change needs a reboot, and the node reboots by itself when it is applied. Since 1.14
    /// it does neither: the operator reboots it (Talos 1.14, editing machine configuration).
    pub fn reports_reboots(&self) -> bool {
        self.line() < (1, 14)
    }

    /// Whether installing, upgrading and pulling images are separate services that report progress.
    pub fn has_lifecycle_service(&self) -> bool {
        self.line() >= (1, 13)
    }
}

impl fmt::Display for TalosVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_service_exists_since_1_13() {
        let table = [
            ("v1.10.7", false),
            ("v1.11.0", false),
            ("v1.12.4", false),
            ("v1.13.0-beta.1", true),
            ("v1.14.0-rc.1", true),
            ("v1.16.0", true),
            ("v2.0.0", true),
        ];
        for (tag, lifecycle) in table {
            let version = TalosVersion::parse(tag).unwrap();
            assert_eq!(version.has_lifecycle_service(), lifecycle, "{tag}");
            assert_eq!(version.to_string(), tag);
        }
        assert_eq!(TalosVersion::parse("main"), None);
    }
}
