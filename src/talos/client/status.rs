//! What a node says about itself: COSI's `MachineStatuses.runtime.talos.dev/machine`.

use serde::Deserialize;

use crate::proto::cosi::resource::Resource;

/// The stage that a machine is in (Talos 1.11 to 1.14, YAML spelling).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Unknown,
    Booting,
    Installing,
    Maintenance,
    Running,
    Rebooting,
    #[serde(rename = "shutting down")]
    ShuttingDown,
    Resetting,
    Upgrading,
}

/// Stage, readiness, and what is missing. `ready` means something in `booting` and `running` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineStatus {
    pub stage: Stage,
    pub ready: bool,
    /// Conditions that do not hold, each with its reason.
    pub unmet: Vec<String>,
}

#[derive(Deserialize)]
struct Spec {
    stage: Stage,
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    unmet_conditions: Option<Vec<Unmet>>,
}

#[derive(Deserialize)]
struct Unmet {
    name: String,
    #[serde(default)]
    reason: String,
}

impl MachineStatus {
    pub(super) fn from_resource(resource: &Resource) -> Option<Self> {
        let spec: Spec = serde_saphyr::from_str(&resource.spec.as_ref()?.yaml_spec).ok()?;
        let unmet = spec.status.unmet_conditions.unwrap_or_default();
        Some(Self {
            stage: spec.stage,
            ready: spec.status.ready,
            unmet: unmet.into_iter().map(|condition| format!("{}: {}", condition.name, condition.reason)).collect(),
        })
    }
}
