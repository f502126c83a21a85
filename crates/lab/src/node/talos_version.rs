//! The Talos version of a machine, and the differences between versions on the wire.

/// Why a Talos version cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TalosVersionError {
    #[error("Talos version `{0}` cannot be simulated: supported are v1.11 to v1.14")]
    Unsupported(String),
    #[error("image reference {0:?} has no tag")]
    Untagged(String),
}

/// A release of Talos 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TalosVersion {
    /// With a leading `v`.
    tag: String,
    version: semver::Version,
}

impl TalosVersion {
    /// Parses a tag such as `v1.12.4`.
    pub(crate) fn parse(tag: &str) -> Result<Self, TalosVersionError> {
        let version = tag.strip_prefix('v').and_then(|version| semver::Version::parse(version).ok());
        let supported = version.filter(|version| version.major == 1 && (11..=14).contains(&version.minor));
        match supported {
            Some(version) => Ok(Self { tag: tag.to_owned(), version }),
            None => Err(TalosVersionError::Unsupported(tag.to_owned())),
        }
    }

    /// The version in the tag of an image such as `ghcr.io/siderolabs/installer:v1.13.2`.
    pub(super) fn from_image(image: &str) -> Result<Self, TalosVersionError> {
        let name = image.split('@').next().unwrap_or_default();
        let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
        Self::parse(tag.ok_or_else(|| TalosVersionError::Untagged(image.to_owned()))?)
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn minor(&self) -> u64 {
        self.version.minor
    }

    pub(super) fn version(&self) -> &semver::Version {
        &self.version
    }

    /// In maintenance mode the ordinary API server responds, and treats callers as readers (1.13). Before, there is a
    /// separate server with few methods, and its port is closed from the accepted config until after the reboot.
    pub(super) fn has_full_maintenance_api(&self) -> bool {
        self.minor() >= 13
    }

    /// Only services whose responses carry metadata can be called on several nodes at once (1.13).
    pub(super) fn fans_out_by_service(&self) -> bool {
        self.minor() >= 13
    }

    /// No mode rejects a config that needs a reboot, and none reboots the machine (1.14).
    pub(super) fn applies_without_reboot(&self) -> bool {
        self.minor() >= 14
    }

    /// After an apply that reboots, no further config is accepted (1.12 and 1.13).
    pub(super) fn applies_once_before_reboot(&self) -> bool {
        matches!(self.minor(), 12 | 13)
    }

    /// An `UnattendedInstallConfig` is installed outside of a sequence (1.14).
    pub(super) fn installs_unattended(&self) -> bool {
        self.minor() >= 14
    }

    /// A bootstrap needs etcd's CA in the config (1.14).
    pub(super) fn checks_etcd_before_bootstrap(&self) -> bool {
        self.minor() >= 14
    }

    /// Workers reject all control plane methods with the same message. Before 1.13 some had messages of their own.
    pub(super) fn rejects_control_plane_methods_uniformly(&self) -> bool {
        self.minor() >= 13
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_tag_of_the_installer_image() {
        for image in [
            "ghcr.io/siderolabs/installer:v1.13.2",
            "127.0.0.1:5000/siderolabs/installer:v1.13.2@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ] {
            assert_eq!(TalosVersion::from_image(image).unwrap().tag(), "v1.13.2");
        }
        assert!(
            TalosVersion::from_image("127.0.0.1:5000/siderolabs/installer").unwrap_err().to_string().contains("no tag")
        );
        assert!(
            TalosVersion::from_image("ghcr.io/siderolabs/installer:latest").unwrap_err().to_string().contains("latest")
        );
        assert!(TalosVersion::parse("v1.10.0").is_err());
        assert!(TalosVersion::parse("v1.14.0-rc.1").is_ok());
    }
}
