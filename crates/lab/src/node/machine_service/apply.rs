//! Configs that are applied.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tonic::{Request, Status};

use super::{Api, roles_of};
use crate::machine;
use crate::machine::{MachineConfig, Reader, Rejection};
use crate::node::access::ADMIN;
use crate::node::sequence::Sequence;
use crate::node::{Node, Stage};
use api::apply_configuration_request::Mode;
use talos_proto::machine as api;

/// How long a config is tried when nobody says how long (Talos 1.12).
const TRIAL: Duration = Duration::from_mins(1);

const AT_ONCE: &str = "Applied configuration without a reboot";
const AFTER_REBOOT: &str = "Applied configuration with a reboot";
const STAGED: &str = "Staged configuration to be applied after the next reboot";

/// What is done with a config that is not refused.
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

/// `obstacle` is why the config cannot be gone over to without a reboot.
fn decide(mode: Mode, obstacle: Option<String>) -> Result<Decision, Status> {
    match (mode, obstacle) {
        (Mode::Try | Mode::NoReboot, Some(obstacle)) => Err(Status::invalid_argument(obstacle)),
        (Mode::Try | Mode::NoReboot, None) => Ok(Decision::new(mode, AT_ONCE)),
        (Mode::Auto, None) => Ok(Decision::new(Mode::NoReboot, AT_ONCE)),
        (Mode::Auto, Some(obstacle)) => Ok(Decision::new(Mode::Reboot, format!("{AFTER_REBOOT}: {obstacle}"))),
        (Mode::Reboot, _) => Ok(Decision::new(Mode::Reboot, AFTER_REBOOT)),
        (Mode::Staged, _) => Ok(Decision::new(Mode::Staged, STAGED)),
    }
}

impl Api {
    pub(super) fn apply(
        &self,
        request: &Request<api::ApplyConfigurationRequest>,
    ) -> Result<api::ApplyConfiguration, Status> {
        let talos = self.node.talos();
        match (self.in_maintenance(), talos.one_server()) {
            (true, false) => self.apply_to_maintenance_server(request.get_ref()),
            (true, true) => self.apply_in_maintenance(request.get_ref()),
            (false, _) if !roles_of(request).iter().any(|role| role == ADMIN) => {
                Err(Status::permission_denied("not authorized"))
            }
            (false, _) => self.apply_configured(request.get_ref()),
        }
    }

    fn reader(&self) -> Reader {
        let state = self.node.state.borrow();
        Reader { minor: state.talos.minor(), installed: state.disk.installed.is_some() }
    }

    /// The small server of 1.11 and 1.12.
    fn apply_to_maintenance_server(
        &self,
        request: &api::ApplyConfigurationRequest,
    ) -> Result<api::ApplyConfiguration, Status> {
        let mode = request.mode();
        if matches!(mode, Mode::NoReboot | Mode::Staged) {
            let mode = mode.as_str_name().to_lowercase().replace('_', "-");
            let text = format!("apply configuration --mode='{mode}' is not supported in maintenance mode");
            return Err(Status::unimplemented(text));
        }
        let config = MachineConfig::parse(&text_of(request), self.reader()).map_err(|rejection| match rejection {
            Rejection::Parse(reason) => Status::unknown(format!("failed to parse config: {reason}")),
            Rejection::Incomplete => {
                Status::unknown("failed to parse config: no v1alpha1 document in the configuration")
            }
            Rejection::Invalid(problems) => {
                Status::invalid_argument(format!("configuration validation failed: {}", findings(&problems)))
            }
        })?;
        let mut answer = api::ApplyConfiguration::default();
        if request.dry_run {
            answer.mode_details =
                "Dry run summary:\nNode is running in maintenance mode and does not have a config yet.".to_owned();
            return Ok(answer);
        }
        self.node.persist(Arc::new(config), true);
        Ok(answer)
    }

    /// The one server of 1.13 and later takes parts of a config too.
    fn apply_in_maintenance(
        &self,
        request: &api::ApplyConfigurationRequest,
    ) -> Result<api::ApplyConfiguration, Status> {
        let mode = match request.mode() {
            Mode::Reboot | Mode::Auto => Mode::NoReboot,
            mode => mode,
        };
        let decision = decide(mode, None)?;
        let text = text_of(request);
        let whole = {
            let before = self.node.state.borrow().partial.clone();
            // What is only part of a config says nothing about the rest.
            machine::joined(before.as_deref(), &text).map_err(refusal)?
        };
        let config = match MachineConfig::parse(&text, self.reader()) {
            Err(Rejection::Incomplete) => None,
            config => Some(config.map_err(refusal)?),
        };
        if request.dry_run {
            let before = self.node.state.borrow().partial.clone().unwrap_or_default();
            return Ok(dry_run(&decision, &before, &whole));
        }
        match config {
            Some(_) => {
                let config = MachineConfig::parse(&whole, self.reader()).map_err(refusal)?;
                self.node.persist(Arc::new(config), true);
            }
            None => self.node.change(|state| state.partial = Some(whole)),
        }
        Ok(answer(decision, AT_ONCE))
    }

    fn apply_configured(&self, request: &api::ApplyConfigurationRequest) -> Result<api::ApplyConfiguration, Status> {
        let talos = self.node.talos();
        if talos.applies_once_before_reboot() && self.node.state.borrow().stage == Stage::Rebooting {
            return Err(Status::failed_precondition(
                "configuration was already applied and node is rebooting, cannot apply more configuration changes \
                 until next reboot",
            ));
        }
        if request.mode() != Mode::Try {
            self.node.drop_trial();
        }
        let config = MachineConfig::parse(&text_of(request), self.reader()).map_err(|rejection| match rejection {
            Rejection::Incomplete => Status::invalid_argument(
                "the applied machine configuration doesn't contain v1alpha1 config, did you mean to patch the machine \
                 config instead?",
            ),
            rejection => refusal(rejection),
        })?;
        let current = self.node.config().ok_or_else(|| Status::failed_precondition("no current config"))?;
        let (before, after) = (machine::canonical(&current), machine::canonical(&config));
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
            let obstacle = (!current.can_become(&config)).then(|| {
                format!("this config change can't be applied in immediate mode\ndiff:\n{}", diff(&before, &after))
            });
            decide(mode, obstacle)?
        };
        if request.dry_run {
            return Ok(dry_run(&decision, &before, &after));
        }
        Ok(self.take(request, decision, Arc::new(config)))
    }

    fn take(
        &self,
        request: &api::ApplyConfigurationRequest,
        decision: Decision,
        config: Arc<MachineConfig>,
    ) -> api::ApplyConfiguration {
        match decision.mode {
            Mode::Try => {
                let asked = request.try_mode_timeout.and_then(|asked| Duration::try_from(asked).ok());
                let trial = asked.unwrap_or(TRIAL);
                self.node.clone().try_out(config, trial);
                let until = format!(
                    "{AT_ONCE}\nThe config is applied in 'try' mode and will be automatically reverted back in {}",
                    spoken(trial)
                );
                return answer(decision, &until);
            }
            Mode::NoReboot | Mode::Auto => self.node.persist(config, true),
            Mode::Staged => self.node.persist(config, false),
            Mode::Reboot => {
                self.node.persist(config, false);
                self.node.order(Sequence::Reboot { force: false }, "");
            }
        }
        let details = decision.details.clone();
        answer(decision, &details)
    }
}

impl Node {
    /// Keeps the config, and goes over to it at once or at the next boot.
    fn persist(&self, config: Arc<MachineConfig>, at_once: bool) {
        self.change(|state| {
            state.disk.config = Some(config.clone());
            if at_once {
                state.config = Some(config);
                state.partial = None;
            }
        });
    }

    /// Goes over to a config and back again, unless another is applied before.
    fn try_out(self: Arc<Self>, config: Arc<MachineConfig>, trial: Duration) {
        let before = self.config();
        self.change(|state| state.config = Some(config));
        let node = self.clone();
        let back = tokio::spawn(async move {
            tokio::time::sleep(trial).await;
            node.change(|state| state.config = before);
        });
        let earlier = self.trial.lock().unwrap_or_else(PoisonError::into_inner).replace(back.abort_handle());
        if let Some(earlier) = earlier {
            earlier.abort();
        }
    }

    pub(in crate::node) fn drop_trial(&self) {
        if let Some(trial) = self.trial.lock().unwrap_or_else(PoisonError::into_inner).take() {
            trial.abort();
        }
    }
}

fn text_of(request: &api::ApplyConfigurationRequest) -> String {
    String::from_utf8_lossy(&request.data).into_owned()
}

fn refusal(rejection: Rejection) -> Status {
    Status::invalid_argument(match rejection {
        Rejection::Parse(reason) => reason,
        Rejection::Invalid(problems) => findings(&problems),
        Rejection::Incomplete => "no v1alpha1 document in the configuration".to_owned(),
    })
}

fn findings(problems: &[String]) -> String {
    let lines: String = problems.iter().map(|problem| format!("\t* {problem}\n")).collect();
    let errors = if problems.len() == 1 { "1 error".to_owned() } else { format!("{} errors", problems.len()) };
    format!("{errors} occurred:\n{lines}\n")
}

fn diff(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().header("a", "b").to_string()
}

fn answer(decision: Decision, details: &str) -> api::ApplyConfiguration {
    api::ApplyConfiguration {
        mode: decision.mode.into(),
        mode_details: details.to_owned(),
        ..api::ApplyConfiguration::default()
    }
}

fn dry_run(decision: &Decision, before: &str, after: &str) -> api::ApplyConfiguration {
    let difference = if before == after { "No changes.".to_owned() } else { diff(before, after) };
    // The reason is not told in a dry run.
    let how = decision.details.split(": ").next().unwrap_or_default();
    let details = format!("Dry run summary:\n{how} (skipped in dry-run).\nConfig diff:\n\n{difference}");
    answer(decision.clone(), &details)
}

/// A duration as Go writes it.
fn spoken(duration: Duration) -> String {
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
        assert_eq!(decide(Mode::Auto, None).unwrap(), Decision::new(Mode::NoReboot, AT_ONCE));
        let rebooting = decide(Mode::Auto, obstacle()).unwrap();
        assert_eq!(rebooting, Decision::new(Mode::Reboot, "Applied configuration with a reboot: it cannot be"));
        for mode in [Mode::NoReboot, Mode::Try] {
            assert_eq!(decide(mode, obstacle()).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(decide(Mode::Staged, obstacle()).unwrap().mode, Mode::Staged);
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let written = [60, 90, 3600, 5].map(|seconds| spoken(Duration::from_secs(seconds)));
        assert_eq!(written, ["1m0s", "1m30s", "1h0m0s", "5s"]);
        assert_eq!(spoken(Duration::from_millis(1500)), "1.5s");
    }
}
