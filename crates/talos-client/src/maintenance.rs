//! A node in maintenance mode: it has no config yet, and asks nobody who they are.

use std::net::IpAddr;

use super::config;
use super::config::{Applied, Mode};
use super::connect;
use super::connect::Fingerprint;
use super::error::{ClientError, Kind};
use super::hardware;
use super::hardware::Disk;
use super::link::Link;
use super::resource::{MachineStatus, Resources, RunningVersion};
use super::version::TalosVersion;
use net::Dialer;

/// A node in maintenance mode.
#[derive(Debug, Clone)]
pub struct Maintenance {
    link: Link,
    /// The key that it showed.
    pub fingerprint: Option<Fingerprint>,
}

impl Maintenance {
    /// Connects, checking the fingerprint when one is pinned.
    ///
    /// # Errors
    ///
    /// A node that does not answer or shows another key.
    pub async fn connect(dialer: &Dialer, node: IpAddr, pin: Option<&Fingerprint>) -> Result<Self, ClientError> {
        let (link, seen) = connect::maintenance(dialer, node, pin).await?;
        Ok(Self { link, fingerprint: seen.fingerprint() })
    }

    /// What the node tells about itself.
    pub fn resources(&self) -> Resources {
        Resources::new(self.link.clone())
    }

    /// The machine's status; the one call that every Talos line answers in maintenance mode.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node asks for a certificate, so is configured already.
    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        self.resources().get("machine").await
    }

    /// The Talos that the machine was booted with. Asked as a resource: before 1.13 there is no Version call here.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn version(&self) -> Result<TalosVersion, ClientError> {
        let RunningVersion { version } = self.resources().get("version").await?;
        TalosVersion::parse(&version)
            .ok_or_else(|| self.link.error("version", Kind::Other, format!("`{version}` is no version")))
    }

    /// The disks that Talos could be installed on, and others.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn disks(&self) -> Result<Vec<Disk>, ClientError> {
        hardware::disks(&self.link).await
    }

    /// Hands the node its config. It installs and reboots by itself afterwards.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's own words when the config is not valid.
    pub async fn apply_configuration(&self, config: &str) -> Result<Applied, ClientError> {
        config::apply(&self.link, config, Mode::Auto, false).await
    }

    /// What the node says of a config that it is only asked about: its own checks, with its own disks and links.
    ///
    /// # Errors
    ///
    /// As [`Maintenance::apply_configuration`].
    pub async fn try_configuration(&self, config: &str) -> Result<Applied, ClientError> {
        config::apply(&self.link, config, Mode::Auto, true).await
    }
}
