//! Latencies and faults of a lab.
//!
//! A scenario contains only what differs from its `base`, another scenario (`default` unless given).

mod control_plane;
mod discovery;
mod etcd;
mod pods;
mod registry;

use std::path::Path;
use std::time::Duration;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::Value;
use tonic::{Code, Status};
use yaml::Origin;

pub(super) use control_plane::{ApiServerFault, KubeletFault};
pub(super) use discovery::{Discovery, DiscoveryService};
pub(super) use etcd::EtcdTimings;
pub(super) use pods::{PodFault, PodFaultKind, PodLabel, PodTimings};
pub(super) use registry::{RegistryFault, RegistryFaultKind};

static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/scenarios");

/// The only scenario without a base.
const ROOT: &str = "default";

/// Latencies in milliseconds, and faults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// The Talos version that machines run, with a leading `v`, instead of the cluster's own.
    #[serde(default)]
    pub talos: Option<String>,
    /// The seed of the lab's random choices. A lab without one chooses a seed and reports it.
    #[serde(default)]
    pub seed: Option<u64>,
    /// From an accepted config to the reboot.
    pub install: Millis,
    /// From the reboot to an open port.
    pub boot: Millis,
    /// From an open port to a registered node, once the API is ready.
    pub kubelet_start: Millis,
    pub etcd: EtcdTimings,
    pub discovery: Discovery,
    pub pods: PodTimings,
    pub operators: OperatorDelays,
    /// Faults of calls to nodes.
    #[serde(default)]
    pub faults: Vec<CallFault>,
    /// Nodes whose kubelet does not start.
    #[serde(default)]
    pub kubelet_faults: Vec<KubeletFault>,
    /// Control planes whose API server does not run.
    #[serde(default)]
    pub api_server_faults: Vec<ApiServerFault>,
    /// Faults of pods.
    #[serde(default)]
    pub pod_faults: Vec<PodFault>,
    /// Faults of the chart registry.
    #[serde(default)]
    pub registry_faults: Vec<RegistryFault>,
    /// Machines whose clock needs longer after each boot.
    #[serde(default)]
    pub clock_faults: Vec<ClockFault>,
    /// What fails of Flux before it succeeds.
    #[serde(default)]
    pub flux_faults: Vec<FluxFault>,
}

/// A machine whose time servers respond late.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClockFault {
    /// The node's name.
    pub node: String,
    /// For so long after each boot its clock is not in sync.
    pub lasts: Millis,
}

/// An object of Flux whose controller reports a failure for a while.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FluxFault {
    pub object: FluxStage,
    /// The reason of its condition, such as `BuildFailed`.
    pub reason: String,
    pub message: String,
    pub lasts: Millis,
}

/// Where Flux fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FluxStage {
    /// Reading the source.
    Source,
    /// Applying the root Kustomization.
    Root,
    /// Applying the Kustomization that brings the HelmReleases.
    Kustomization,
    /// Each HelmRelease's upgrade.
    HelmRelease,
}

/// Latencies of simulated operators, each counted from its pod being Ready and its causes being true.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OperatorDelays {
    /// From Cilium's operator being Ready to its CRDs being registered.
    pub crd_registration: Millis,
    /// From cert-manager's webhook being Ready to its first response.
    pub webhook_serves: Millis,
    /// From cert-manager's injector being Ready to the CA being in a webhook configuration.
    pub ca_injection: Millis,
    /// From an issuer being created to its being Ready.
    pub issuer_ready: Millis,
    /// Each step in which flux-operator installs Flux.
    pub flux_step: Millis,
    /// Flux's first fetch of the repository.
    pub git_fetch: Millis,
    /// From a fetched repository to its objects being applied.
    pub kustomize: Millis,
    /// From a HelmRelease to helm-controller's upgrade.
    pub adoption: Millis,
}

/// A duration, written as milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    pub(super) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// A fault of a call to a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CallFault {
    /// The node's name.
    pub node: String,
    /// The affected method, such as `Bootstrap`.
    pub call: String,
    pub what: CallFaultKind,
    /// How many calls are affected.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallFaultKind {
    /// The call takes effect and its response is lost.
    LostReply,
    /// The node responds that it is not ready for the call yet.
    NotYet,
    /// The connection is refused: the call never reaches the node.
    Refused,
    /// The call takes this much longer.
    Slow(Millis),
    /// The node accepts the call, responds, and reboots before the call takes effect.
    Reboot,
    /// The node rejects the call with this gRPC code, such as `Unavailable`.
    Status { code: String, message: String },
    /// The installer that the call runs exits with this code.
    ExitCode(i32),
    /// The node loses power when the call arrives and stays away for this long before it boots. Each attempt to connect
    /// to it meanwhile is reset, and recorded as a call `connect`.
    Down(Millis),
    /// The network drops everything to and from the node for this long, from this call on: open connections stall without
    /// an error, and new ones get no response.
    Stall(Millis),
}

impl CallFaultKind {
    /// Whether the fault happens on the network, before the call reaches the node.
    pub(super) fn is_network_fault(&self) -> bool {
        matches!(self, Self::Refused | Self::Slow(_) | Self::Down(_) | Self::Stall(_))
    }

    /// The response of a node that rejects the call.
    pub(super) fn rejection(&self) -> Option<Status> {
        match self {
            Self::NotYet => Some(Status::failed_precondition("bootstrap is not available yet")),
            Self::Status { code, message } => Some(Status::new(parse_code(code), message)),
            _ => None,
        }
    }
}

/// A gRPC code by its name. Other names give `Unknown`.
fn parse_code(name: &str) -> Code {
    (0..=16).map(Code::from).find(|code| format!("{code:?}") == name).unwrap_or(Code::Unknown)
}

/// Why a scenario is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("scenario `{name}` not found: it is neither built in ({builtin}) nor a file")]
    NotFound { name: String, builtin: String },
    #[error("cannot read scenario {name}")]
    Read { name: String, source: std::io::Error },
    #[error("scenario {name} is not valid YAML: {diagnostic}")]
    Yaml { name: String, diagnostic: yaml::Diagnostic },
    #[error("scenario {name} is invalid")]
    Field { name: String, source: serde_json::Error },
    #[error("scenario {name} is invalid: it must be a mapping")]
    NotAMapping { name: String },
    #[error("scenario {name} is invalid: `base` must be the name of a scenario")]
    BaseNotAName { name: String },
    #[error("scenario {name} is invalid: its bases form a cycle")]
    BaseCycle { name: String },
}

impl Scenario {
    /// Loads a built-in scenario by name, or a file.
    ///
    /// # Errors
    ///
    /// The scenario is not found or is invalid.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        let merged = load_with_bases(name, 0)?;
        serde_json::from_value(merged).map_err(|source| ScenarioError::Field { name: name.to_owned(), source })
    }
}

/// A scenario merged over its bases.
fn load_with_bases(name: &str, depth: usize) -> Result<Value, ScenarioError> {
    let owned_name = || name.to_owned();
    if depth > BUILTIN.files().count() + 1 {
        return Err(ScenarioError::BaseCycle { name: owned_name() });
    }
    let text = read_text(name)?;
    let node = yaml::parse_one(&Origin::new(name), &text)
        .map_err(|diagnostic| ScenarioError::Yaml { name: owned_name(), diagnostic })?;
    let mut own = node.to_json();
    let Value::Object(keys) = &mut own else { return Err(ScenarioError::NotAMapping { name: owned_name() }) };
    let base = match keys.remove("base") {
        Some(Value::String(base)) => base,
        Some(_) => return Err(ScenarioError::BaseNotAName { name: owned_name() }),
        None if name == ROOT => return Ok(own),
        None => ROOT.to_owned(),
    };
    let mut merged = load_with_bases(&base, depth + 1)?;
    overlay(&mut merged, own);
    Ok(merged)
}

/// Mappings are merged key by key; everything else is replaced.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                overlay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn read_text(name: &str) -> Result<String, ScenarioError> {
    if let Some(text) = BUILTIN.get_file(format!("{name}.yaml")).and_then(include_dir::File::contents_utf8) {
        return Ok(text.to_owned());
    }
    if Path::new(name).exists() {
        return std::fs::read_to_string(name).map_err(|source| ScenarioError::Read { name: name.to_owned(), source });
    }
    let names: Vec<_> = BUILTIN.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    Err(ScenarioError::NotFound { name: name.to_owned(), builtin: names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_valid() {
        for file in BUILTIN.files() {
            Scenario::load(file.path().file_stem().unwrap().to_str().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_file_changes_only_the_keys_that_it_contains() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let change =
            "base: fast\nseed: 7\npods: {start: 7}\nfaults: [{node: a, call: Version, what: {slow: 40}, times: 2}]\n";
        std::fs::write(file.path(), change).unwrap();
        let fast = Scenario::load("fast").unwrap();
        let changed = Scenario::load(file.path().to_str().unwrap()).unwrap();
        assert_eq!((fast.seed, changed.seed), (None, Some(7)));
        assert_eq!(changed.pods.start, Millis(7));
        assert_eq!(changed.pods.image_pull, fast.pods.image_pull);
        assert_eq!(changed.operators, fast.operators);
        assert_eq!(changed.faults[0].what, CallFaultKind::Slow(Millis(40)));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "operators: {webhokServes: 3}\n").unwrap();
        let error = Scenario::load(file.path().to_str().unwrap()).unwrap_err();
        let error = error_report::ErrorReport::new(&error).to_string();
        assert!(error.contains("unknown field `webhokServes`"), "{error}");
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_known_ones() {
        let error = Scenario::load("slow-sunday").unwrap_err().to_string();
        insta::assert_snapshot!(
            error,
            @"scenario `slow-sunday` not found: it is neither built in (default, fast) nor a file"
        );
    }
}
