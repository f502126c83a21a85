//! Applying and reading machine configs.

use std::time::Duration;

use secrecy::SecretString;

use super::error::{ClientError, ClientErrorKind};
use super::link::{Link, MAX_MESSAGE, Wait};
use super::resource::{MachineConfig, Resources};
use super::version::TalosVersion;
use talos_proto::machine::ApplyConfigurationRequest;
use talos_proto::machine::apply_configuration_request::Mode as Wire;

/// Bytes of a message besides the config.
const ENVELOPE: usize = 1 << 10;

/// When a config becomes active (Talos 1.11 to 1.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyMode {
    /// The node reboots if necessary, up to 1.13. Always set: the protocol default is REBOOT, which 1.14 rejects.
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

/// What applying a config to a configured node changes, as the node's own dry run reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeEffect {
    None,
    /// It takes effect while the node runs.
    Live,
    /// It takes effect after a reboot, or the node does not report that it can do without one.
    Reboot,
}

/// Talos 1.11 to 1.14, `v1alpha1_server.go`: a dry run is this line, the mode with an optional reason and "(skipped in
/// dry-run).", "Config diff:" and the diff of all documents or "No changes.".
const SUMMARY: &str = "Dry run summary:\n";
const WITHOUT_REBOOT: &str = "Applied configuration without a reboot";
const DIFF: &str = "Config diff:";
const NO_CHANGES: &str = "No changes.";

impl ChangeEffect {
    /// Reads the response to a dry run in AUTO mode. A text that is not known counts as a reboot.
    pub(super) fn from_dry_run(version: &TalosVersion, details: &str) -> Self {
        let Some(summary) = details.strip_prefix(SUMMARY) else { return Self::Reboot };
        if !summary.starts_with(WITHOUT_REBOOT) {
            return Self::Reboot;
        }
        let Some((_, diff)) = summary.split_once(DIFF) else { return Self::Reboot };
        if diff.trim() == NO_CHANGES {
            return Self::None;
        }
        if version.reports_reboots() { Self::Live } else { Self::Reboot }
    }
}

impl std::fmt::Display for ChangeEffect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "unchanged",
            Self::Live => "change applied live",
            Self::Reboot => "change needs a reboot",
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(tag: &str, details: &str) -> ChangeEffect {
        ChangeEffect::from_dry_run(&TalosVersion::parse(tag).unwrap(), details)
    }

    #[test]
    fn a_dry_run_is_read_by_its_mode_and_diff() {
        let summary = |mode: &str, diff: &str| {
            format!("Dry run summary:\nApplied configuration {mode} (skipped in dry-run).\nConfig diff:\n\n{diff}")
        };
        let changed = "--- a\n+++ b\n@@ -1 +1 @@\n-with a reboot: No changes.\n+without a reboot\n";
        for tag in ["v1.11.6", "v1.12.4", "v1.13.9"] {
            assert_eq!(effect(tag, &summary("without a reboot", "No changes.")), ChangeEffect::None);
            assert_eq!(effect(tag, &summary("without a reboot", changed)), ChangeEffect::Live);
            assert_eq!(effect(tag, &summary("with a reboot", changed)), ChangeEffect::Reboot);
            assert_eq!(effect(tag, &summary("with a reboot: it cannot be\nas is", changed)), ChangeEffect::Reboot);
        }
        // 1.14 answers "without a reboot" to every change, also to those that have no effect before the operator reboots it.
        assert_eq!(effect("v1.14.0-rc.1", &summary("without a reboot", changed)), ChangeEffect::Reboot);
        assert_eq!(effect("v1.14.0-rc.1", &summary("without a reboot", "No changes.")), ChangeEffect::None);
    }

    #[test]
    fn an_unknown_text_counts_as_a_reboot() {
        let unknown = [
            "",
            "No changes.",
            "Applied configuration without a reboot",
            "Dry run summary:\nStaged configuration to be applied after the next reboot (skipped in dry-run).\nConfig diff:\n\nNo changes.",
            "Dry run summary:\nNode is running in maintenance mode and does not have a config yet.",
            "Dry run summary:\nApplied configuration without a reboot (skipped in dry-run).",
        ];
        for text in unknown {
            assert_eq!(effect("v1.12.4", text), ChangeEffect::Reboot, "{text}");
        }
    }
}
