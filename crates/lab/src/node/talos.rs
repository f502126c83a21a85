//! The Talos that a machine runs, and what its version decides on the wire.

/// A release of Talos 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Talos {
    /// With a leading `v`.
    tag: String,
    minor: u64,
}

impl Talos {
    /// From a tag such as `v1.12.4`.
    pub(crate) fn parse(tag: &str) -> Result<Self, String> {
        let refuse = || format!("`{tag}` is no version of Talos that a machine can be simulated with (v1.11 to v1.14)");
        let version = semver::Version::parse(tag.strip_prefix('v').ok_or_else(refuse)?).map_err(|_| refuse())?;
        if version.major != 1 || !(11..=14).contains(&version.minor) {
            return Err(refuse());
        }
        Ok(Self { tag: tag.to_owned(), minor: version.minor })
    }

    /// From an image reference such as `ghcr.io/siderolabs/installer:v1.13.2`, whose tag is the version.
    pub(super) fn of_image(image: &str) -> Result<Self, String> {
        let untagged = || format!("image reference {image:?} has no tag");
        let name = image.split('@').next().unwrap_or_default();
        let (_, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).ok_or_else(untagged)?;
        Self::parse(tag)
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn minor(&self) -> u64 {
        self.minor
    }

    /// The ordinary API server answers in maintenance mode too, for callers as readers (1.13). Before, a small server
    /// of its own does, and its port is closed from the accepted config until after the reboot.
    pub(super) fn one_server(&self) -> bool {
        self.minor >= 13
    }

    /// Only services whose answers carry metadata may be asked of several machines at once (1.13).
    pub(super) fn fans_out_by_service(&self) -> bool {
        self.minor >= 13
    }

    /// A config that needs a reboot is refused by no mode; the machine reports that it wants one (1.14).
    pub(super) fn applies_without_reboot(&self) -> bool {
        self.minor >= 14
    }

    /// Nothing more can be applied once an apply has chosen to reboot (1.12 and 1.13).
    pub(super) fn applies_once_before_reboot(&self) -> bool {
        matches!(self.minor, 12 | 13)
    }

    /// The installation of a config with an `UnattendedInstallConfig` is no sequence of its own (1.14).
    pub(super) fn installs_unattended(&self) -> bool {
        self.minor >= 14
    }

    /// Methods of control planes only are unimplemented elsewhere; before 1.13 some had texts of their own.
    pub(super) fn names_control_plane_methods(&self) -> bool {
        self.minor >= 13
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
            assert_eq!(Talos::of_image(image).unwrap().tag(), "v1.13.2");
        }
        assert!(Talos::of_image("127.0.0.1:5000/siderolabs/installer").unwrap_err().contains("no tag"));
        assert!(Talos::of_image("ghcr.io/siderolabs/installer:latest").unwrap_err().contains("latest"));
        assert!(Talos::parse("v1.10.0").is_err());
        assert!(Talos::parse("v1.14.0-rc.1").is_ok());
    }
}
