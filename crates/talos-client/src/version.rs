//! Which Talos a node runs, and what follows for how it is spoken to.
//!
//! Facts from Talos 1.11 to 1.14: 1.13 brought the lifecycle and image services, and 1.14 waits to be told where others
//! reboot by themselves. A version that is not known is spoken to as its nearest neighbour that is.

use std::fmt;

use semver::Version;

/// A node's Talos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TalosVersion(Version);

impl TalosVersion {
    /// Reads a tag such as `v1.12.4`.
    pub fn parse(tag: &str) -> Option<Self> {
        Version::parse(tag.trim().trim_start_matches('v')).ok().map(Self)
    }

    fn line(&self) -> (u64, u64) {
        (self.0.major, self.0.minor)
    }

    /// Installing, upgrading and pulling images in services of their own, with progress.
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
    fn what_a_version_offers() {
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
