//! Applying and reading machine configs.

use std::time::Duration;

use secrecy::SecretString;

use super::error::{ClientError, ClientErrorKind};
use super::link::{Link, MAX_MESSAGE, Wait};
use super::resource::{MachineConfig, Resources};
use talos_proto::machine::ApplyConfigurationRequest;
use talos_proto::machine::apply_configuration_request::Mode as Wire;

/// Bytes of a message besides the config.
const ENVELOPE: usize = 1 << 10;

/// When a config becomes active (Talos 1.11 to 1.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMode {
    /// The node reboots if necessary. Always set: the protocol default is REBOOT, which 1.14 rejects.
    Auto,
    /// Immediately; rejected when it needs a reboot.
    NoReboot,
    /// At the next reboot.
    Staged,
    /// Immediately; reverted after this time.
    Try(Duration),
}

/// Whether a config is applied or only validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Apply,
    DryRun,
}

/// The node's response to a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyResult {
    pub warnings: Vec<String>,
    /// The node's description of what it does.
    pub details: String,
    pub rebooting: bool,
}

pub(super) async fn apply(
    link: &Link,
    config: &str,
    mode: ApplyMode,
    effect: Effect,
) -> Result<ApplyResult, ClientError> {
    let call = "apply configuration";
    if config.len() + ENVELOPE > MAX_MESSAGE {
        let (size, limit) = (config.len() >> 20, MAX_MESSAGE >> 20);
        let text = format!("the config has {size} MiB; the Talos API accepts at most {limit} MiB per message");
        return Err(link.error(call, ClientErrorKind::Rejected, text));
    }
    let wire = match mode {
        ApplyMode::Auto => Wire::Auto,
        ApplyMode::NoReboot => Wire::NoReboot,
        ApplyMode::Staged => Wire::Staged,
        ApplyMode::Try(_) => Wire::Try,
    };
    let timeout = match mode {
        ApplyMode::Try(timeout) => prost_types::Duration::try_from(timeout).ok(),
        _ => None,
    };
    let request = ApplyConfigurationRequest {
        data: config.as_bytes().to_vec(),
        mode: wire.into(),
        dry_run: effect == Effect::DryRun,
        try_mode_timeout: timeout,
    };
    let mut machine = link.machine();
    let answer = link.one(call, Wait::Short, machine.apply_configuration(link.request(request))).await?;
    let rebooting = effect == Effect::Apply && answer.mode_details.contains("with a reboot");
    Ok(ApplyResult { warnings: answer.warnings, details: answer.mode_details, rebooting })
}

/// The active config as text. It is secret.
pub(super) async fn running(resources: &Resources) -> Result<SecretString, ClientError> {
    let MachineConfig(text) = resources.get("v1alpha1").await?;
    Ok(text)
}
