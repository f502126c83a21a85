//! Client for a node in maintenance mode, which has no config yet and requires no client certificate.

use std::net::IpAddr;

use super::config;
use super::config::{ApplyMode, ApplyResult, Effect};
use super::connect;
use super::connect::CertificateFingerprint;
use super::error::{ClientError, ClientErrorKind};
use super::hardware;
use super::hardware::Disk;
use super::link::Link;
use super::resource::{MachineStatus, Resources, RunningVersion};
use super::version::TalosVersion;
use net::Dialer;

/// Client for a node in maintenance mode.
#[derive(Debug, Clone)]
pub struct Maintenance {
    link: Link,
    /// The fingerprint of the certificate that the node presented.
    pub fingerprint: Option<CertificateFingerprint>,
}

impl Maintenance {
    /// Connects, and verifies the fingerprint when one is pinned.
    ///
    /// # Errors
    ///
    /// The node does not respond, or its fingerprint does not match.
    pub async fn connect(
        dialer: &Dialer,
        node: IpAddr,
        pin: Option<&CertificateFingerprint>,
    ) -> Result<Self, ClientError> {
        let (link, seen) = connect::maintenance(dialer, node, pin).await?;
        Ok(Self { link, fingerprint: seen.fingerprint() })
    }

    /// The COSI resources of the node.
    pub fn resources(&self) -> Resources {
        Resources::new(self.link.clone())
    }

    /// The machine status: the one call that every Talos version supports in maintenance mode.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node requires a client certificate, so is already configured.
    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        self.resources().get("machine").await
    }

    /// The Talos version that the machine booted. Read as a resource: before 1.13 maintenance mode has no Version call.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn version(&self) -> Result<TalosVersion, ClientError> {
        let RunningVersion { version } = self.resources().get("version").await?;
        TalosVersion::parse(&version)
            .ok_or_else(|| self.link.error("version", ClientErrorKind::Other, format!("invalid version `{version}`")))
    }

    /// All disks of the machine.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn disks(&self) -> Result<Vec<Disk>, ClientError> {
        hardware::disks(&self.link).await
    }

    /// Applies the machine config. The node then installs Talos and reboots.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's message when the config is invalid.
    pub async fn apply_configuration(&self, config: &str) -> Result<ApplyResult, ClientError> {
        kill_points::around("config of a node", config::apply(&self.link, config, ApplyMode::Auto, Effect::Apply)).await
    }

    /// Dry run of [`Maintenance::apply_configuration`]: the node validates the config against its own disks and links.
    ///
    /// # Errors
    ///
    /// As [`Maintenance::apply_configuration`].
    pub async fn try_configuration(&self, config: &str) -> Result<ApplyResult, ClientError> {
        config::apply(&self.link, config, ApplyMode::Auto, Effect::DryRun).await
    }
}
