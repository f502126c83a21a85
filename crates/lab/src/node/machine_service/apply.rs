//! The `ApplyConfiguration` call.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use talos_proto::machine as api;
use talos_proto::machine::apply_configuration_request::Mode;
use tonic::{Request, Status};

use crate::machine_config::{self, AcceptedConfig, AppliedConfig, ConfigReader, ConfigRejection, SystemState};
use crate::node::access::ADMIN;
use crate::node::api::{NodeApi, roles_of};
use crate::node::sequence::{NodeSequence, RebootMode};
use crate::node::{NodeStage, SimulatedNode};
use crate::scenario::CallFaultKind;

/// The default timeout of try mode (Talos 1.12).
const TRY_TIMEOUT: Duration = Duration::from_mins(1);

const WITHOUT_REBOOT: &str = "Applied configuration without a reboot";
const WITH_REBOOT: &str = "Applied configuration with a reboot";
const STAGED: &str = "Staged configuration to be applied after the next reboot";

/// When a stored config becomes active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activation {
    Now,
    NextBoot,
}

/// How an accepted config is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    mode: Mode,
    details: String,
}

impl Decision {
    fn new(mode: Mode, details: impl Into<String>) -> Self {
        Self { mode, details: details.into() }
    }
}

/// `obstacle` is why the config cannot be applied without a reboot.
fn decide(mode: Mode, obstacle: Option<String>) -> Result<Decision, Status> {
    match (mode, obstacle) {
        (Mode::Try | Mode::NoReboot, Some(obstacle)) => Err(Status::invalid_argument(obstacle)),
        (Mode::Try | Mode::NoReboot, None) => Ok(Decision::new(mode, WITHOUT_REBOOT)),
        (Mode::Auto, None) => Ok(Decision::new(Mode::NoReboot, WITHOUT_REBOOT)),
        (Mode::Auto, Some(obstacle)) => Ok(Decision::new(Mode::Reboot, format!("{WITH_REBOOT}: {obstacle}"))),
        (Mode::Reboot, _) => Ok(Decision::new(Mode::Reboot, WITH_REBOOT)),
        (Mode::Staged, _) => Ok(Decision::new(Mode::Staged, STAGED)),
    }
}

impl NodeApi {
    pub(super) fn apply(
        &self,
        request: &Request<api::ApplyConfigurationRequest>,
    ) -> Result<api::ApplyConfiguration, Status> {
        let talos = self.node.talos();
        // A reboot loses a config that is not on the disk yet.
        if self.in_maintenance() && request.extensions().get::<CallFaultKind>() == Some(&CallFaultKind::Reboot) {
            return Ok(api::ApplyConfiguration::default());
        }
        match (self.in_maintenance(), talos.has_full_maintenance_api()) {
            (true, false) => self.apply_to_maintenance_server(request.get_ref()),
            (true, true) => self.apply_in_maintenance(request.get_ref()),
            (false, _) if !roles_of(request).iter().any(|role| role == ADMIN) => {
                Err(Status::permission_denied("not authorized"))
            }
            (false, _) => self.apply_configured(request.get_ref()),
        }
    }

    fn reader(&self) -> ConfigReader {
        let state = self.node.state.borrow();
        let system = if state.disk.installed.is_some() { SystemState::Installed } else { SystemState::NotInstalled };
        ConfigReader { talos: state.talos.version().clone(), system }
    }

    /// The separate maintenance server of 1.11 and 1.12. A config without a `v1alpha1` document keeps it running.
    fn apply_to_maintenance_server(
        &self,
        request: &api::ApplyConfigurationRequest,
    ) -> Result<api::ApplyConfiguration, Status> {
        let mode = request.mode();
        if matches!(mode, Mode::NoReboot | Mode::Staged) {
            let mode = mode.as_str_name().to_lowercase().replace('_', "-");
            let message = format!("apply configuration --mode='{mode}' is not supported in maintenance mode");
            return Err(Status::unimplemented(message));
        }
        let text = config_text(request);
        let accepted = AcceptedConfig::read(&text, &self.reader()).map_err(|rejection| match rejection {
            ConfigRejection::Parse(reason) => Status::unknown(format!("failed to parse config: {reason}")),
            ConfigRejection::Invalid(reason) => {
                Status::invalid_argument(format!("configuration validation failed: {reason}"))
            }
            ConfigRejection::InvalidHere(reason) => {
                Status::invalid_argument(format!("runtime configuration validation failed: {reason}"))
            }
        })?;
        let mut response =
            api::ApplyConfiguration { warnings: accepted.warnings.clone(), ..api::ApplyConfiguration::default() };
        if request.dry_run {
            response.mode_details =
                "Dry run summary:\nNode is running in maintenance mode and does not have a config yet.".to_owned();
            return Ok(response);
        }
        self.node.store_accepted(accepted, text);
        Ok(response)
    }

    /// The ordinary server, since 1.13. A dry run has no warnings, and a config replaces the documents before it.
    fn apply_in_maintenance(
        &self,
        request: &api::ApplyConfigurationRequest,
    ) -> Result<api::ApplyConfiguration, Status> {
        let mode = match request.mode() {
            Mode::Reboot | Mode::Auto => Mode::NoReboot,
            mode => mode,
        };
        let decision = decide(mode, None)?;
        let text = config_text(request);
        let accepted = AcceptedConfig::read(&text, &self.reader()).map_err(rejection_status)?;
        if request.dry_run {
            let before = self.node.state.borrow().partial.clone().unwrap_or_default();
            return Ok(dry_run(&decision, &machine_config::canonical(&before), &machine_config::canonical(&text)));
        }
        let warnings = accepted.warnings.clone();
        self.node.store_accepted(accepted, text);
        Ok(api::ApplyConfiguration { warnings, ..response(decision, WITHOUT_REBOOT) })
    }

    fn apply_configured(&self, request: &api::ApplyConfigurationRequest) -> Result<api::ApplyConfiguration, Status> {
        let talos = self.node.talos();
        if talos.applies_once_before_reboot() && self.node.state.borrow().stage == NodeStage::Rebooting {
            return Err(Status::failed_precondition(
                "configuration was already applied and node is rebooting, cannot apply more configuration changes \
                 until next reboot",
            ));
        }
        if request.mode() != Mode::Try {
            self.node.cancel_trial();
        }
        let text = config_text(request);
        let accepted = AcceptedConfig::read(&text, &self.reader()).map_err(rejection_status)?;
        let config = accepted.complete.ok_or_else(|| {
            Status::invalid_argument(
                "the applied machine configuration doesn't contain v1alpha1 config, did you mean to patch the machine \
                 config instead?",
            )
        })?;
        let current = self.node.config().ok_or_else(|| Status::failed_precondition("no current config"))?;
        let (before, after) = (machine_config::canonical(&current.text), machine_config::canonical(&text));
        let mode = request.mode();
        let decision = if talos.applies_without_reboot() {
            match mode {
                Mode::Reboot => {
                    return Err(Status::unimplemented(
                        "the REBOOT mode is not supported, please use AUTO or NO_REBOOT modes instead",
                    ));
                }
                Mode::Auto => decide(Mode::NoReboot, None)?,
                mode => decide(mode, None)?,
            }
        } else {
            let obstacle = (!current.can_switch_without_reboot(&config)).then(|| {
                format!("this config change can't be applied in immediate mode\ndiff:\n{}", diff(&before, &after))
            });
            decide(mode, obstacle)?
        };
        if request.dry_run {
            return Ok(dry_run(&decision, &before, &after));
        }
        let warnings = accepted.warnings;
        Ok(api::ApplyConfiguration { warnings, ..self.carry_out(request, decision, Arc::new(config)) })
    }

    fn carry_out(
        &self,
        request: &api::ApplyConfigurationRequest,
        decision: Decision,
        config: Arc<AppliedConfig>,
    ) -> api::ApplyConfiguration {
        match decision.mode {
            Mode::Try => {
                let requested = request.try_mode_timeout.and_then(|timeout| Duration::try_from(timeout).ok());
                let trial = requested.unwrap_or(TRY_TIMEOUT);
                self.node.clone().try_config(config, trial);
                let until = format!(
                    "{WITHOUT_REBOOT}\nThe config is applied in 'try' mode and will be automatically reverted back in {}",
                    go_duration(trial)
                );
                return response(decision, &until);
            }
            Mode::NoReboot | Mode::Auto => self.node.store_config(config, Activation::Now),
            Mode::Staged => self.node.store_config(config, Activation::NextBoot),
            Mode::Reboot => {
                self.node.store_config(config, Activation::NextBoot);
                self.node.request_sequence(NodeSequence::Reboot(RebootMode::Default), "");
            }
        }
        let details = decision.details.clone();
        response(decision, &details)
    }
}

impl SimulatedNode {
    /// Activates a config in maintenance mode.
    fn store_accepted(&self, accepted: AcceptedConfig, text: String) {
        match accepted.complete {
            Some(config) => self.store_config(Arc::new(config), Activation::Now),
            None => self.change(|state| state.partial = Some(text)),
        }
    }

    /// Stores the config for the next boot, and activates it now if requested.
    fn store_config(&self, config: Arc<AppliedConfig>, activation: Activation) {
        self.change(|state| {
            state.disk.config = Some(config.clone());
            if activation == Activation::Now {
                state.config = Some(config);
                state.partial = None;
            }
        });
    }

    /// Activates a config and reverts it after a time, unless another is applied before.
    fn try_config(self: Arc<Self>, config: Arc<AppliedConfig>, trial: Duration) {
        let before = self.config();
        self.change(|state| state.config = Some(config));
        let node = self.clone();
        let revert = tokio::spawn(async move {
            tokio::time::sleep(trial).await;
            node.change(|state| state.config = before);
        });
        let earlier = self.trial.lock().unwrap_or_else(PoisonError::into_inner).replace(revert.abort_handle());
        if let Some(earlier) = earlier {
            earlier.abort();
        }
    }

    pub(in crate::node) fn cancel_trial(&self) {
        if let Some(trial) = self.trial.lock().unwrap_or_else(PoisonError::into_inner).take() {
            trial.abort();
        }
    }
}

fn config_text(request: &api::ApplyConfigurationRequest) -> String {
    String::from_utf8_lossy(&request.data).into_owned()
}

fn rejection_status(rejection: ConfigRejection) -> Status {
    let (ConfigRejection::Parse(reason) | ConfigRejection::Invalid(reason) | ConfigRejection::InvalidHere(reason)) =
        rejection;
    Status::invalid_argument(reason)
}

fn diff(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().header("a", "b").to_string()
}

fn response(decision: Decision, details: &str) -> api::ApplyConfiguration {
    api::ApplyConfiguration {
        mode: decision.mode.into(),
        mode_details: details.to_owned(),
        ..api::ApplyConfiguration::default()
    }
}

fn dry_run(decision: &Decision, before: &str, after: &str) -> api::ApplyConfiguration {
    let difference = if before == after { "No changes.".to_owned() } else { diff(before, after) };
    // A dry run omits the reason.
    let mode = decision.details.split(": ").next().unwrap_or_default();
    let details = format!("Dry run summary:\n{mode} (skipped in dry-run).\nConfig diff:\n\n{difference}");
    response(decision.clone(), &details)
}

/// A duration as Go writes it.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, duration.as_secs_f64() % 60.0);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_needs_a_reboot_gets_one_only_when_the_mode_allows() {
        let obstacle = || Some("it cannot be".to_owned());
        assert_eq!(decide(Mode::Auto, None).unwrap(), Decision::new(Mode::NoReboot, WITHOUT_REBOOT));
        let rebooting = decide(Mode::Auto, obstacle()).unwrap();
        assert_eq!(rebooting, Decision::new(Mode::Reboot, "Applied configuration with a reboot: it cannot be"));
        for mode in [Mode::NoReboot, Mode::Try] {
            assert_eq!(decide(mode, obstacle()).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(decide(Mode::Staged, obstacle()).unwrap().mode, Mode::Staged);
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let written = [60, 90, 3600, 5].map(|seconds| go_duration(Duration::from_secs(seconds)));
        assert_eq!(written, ["1m0s", "1m30s", "1h0m0s", "5s"]);
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
    }
}
