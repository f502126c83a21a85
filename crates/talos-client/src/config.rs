//! Machine configs on their way to a node and back.

use std::time::Duration;

use secrecy::SecretString;

use super::error::{ClientError, Kind};
use super::link::{Link, MAX_MESSAGE, Wait};
use super::resource::{MachineConfig, Resources};
use talos_proto::machine::ApplyConfigurationRequest;
use talos_proto::machine::apply_configuration_request::Mode as Wire;

/// Room in a message for what is not the config.
const ENVELOPE: usize = 1 << 10;

/// When a config becomes active (Talos 1.11 to 1.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The node reboots if it must. Never left to the wire's default, which is a reboot and refused from 1.14 on.
    Auto,
    /// At once, and refused when that needs a reboot.
    NoReboot,
    /// With the next reboot.
    Staged,
    /// At once, and taken back after so long.
    Try(Duration),
}

/// How a node took a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub warnings: Vec<String>,
    /// The node's own words.
    pub details: String,
    pub rebooting: bool,
}

pub(super) async fn apply(link: &Link, config: &str, mode: Mode, dry_run: bool) -> Result<Applied, ClientError> {
    let call = "apply configuration";
    if config.len() + ENVELOPE > MAX_MESSAGE {
        let (size, limit) = (config.len() >> 20, MAX_MESSAGE >> 20);
        let text = format!("the config has {size} MiB, and Talos takes {limit} MiB in one message at most");
        return Err(link.error(call, Kind::Refused, text));
    }
    let wire = match mode {
        Mode::Auto => Wire::Auto,
        Mode::NoReboot => Wire::NoReboot,
        Mode::Staged => Wire::Staged,
        Mode::Try(_) => Wire::Try,
    };
    let timeout = match mode {
        Mode::Try(timeout) => prost_types::Duration::try_from(timeout).ok(),
        _ => None,
    };
    let request = ApplyConfigurationRequest {
        data: config.as_bytes().to_vec(),
        mode: wire.into(),
        dry_run,
        try_mode_timeout: timeout,
    };
    let mut machine = link.machine();
    let answer = link.one(call, Wait::Short, machine.apply_configuration(link.request(request))).await?;
    let rebooting = !dry_run && answer.mode_details.contains("with a reboot");
    Ok(Applied { warnings: answer.warnings, details: answer.mode_details, rebooting })
}

/// The active config as text. It is secret.
pub(super) async fn running(resources: &Resources) -> Result<SecretString, ClientError> {
    let MachineConfig(text) = resources.get("v1alpha1").await?;
    Ok(text)
}
