//! How long things take in the lab's world, and what goes wrong there.
//!
//! A scenario names only what it changes: everything else is as in its `base`, another built-in scenario (`default`
//! unless it says so).

mod pods;

use std::path::Path;
use std::time::Duration;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::Value;
use tonic::{Code, Status};

use yaml::Origin;

pub(super) use pods::{Label, PodFault, PodPace, PodTrouble};

static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/scenarios");

/// The scenario that others build on; it alone has no base.
const ROOT: &str = "default";

/// Latencies in milliseconds, and faults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// The Talos that machines run, with a leading `v`, in place of the cluster's own.
    #[serde(default)]
    pub talos: Option<String>,
    /// From an accepted config to the reboot.
    pub install: Millis,
    /// From the reboot to an open port.
    pub boot: Millis,
    /// From an open port to a registered node, once the API answers.
    pub kubelet_start: Millis,
    pub pods: PodPace,
    pub operators: Operators,
    /// What befalls calls to nodes.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What befalls pods.
    #[serde(default)]
    pub pod_faults: Vec<PodFault>,
}

/// How long those take that act at run time, each from the moment in which its pod is Ready and its causes are there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Operators {
    /// Cilium's operator until its CRDs are registered.
    pub crd_registration: Millis,
    /// cert-manager's webhook from its pod being Ready to its first answer.
    pub webhook_serves: Millis,
    /// cert-manager's injector until a webhook configuration holds the CA.
    pub ca_injection: Millis,
    /// cert-manager's controller until an issuer is Ready.
    pub issuer_ready: Millis,
    /// Each of the steps in which flux-operator installs Flux.
    pub flux_step: Millis,
    /// Flux's first fetch of the repository.
    pub git_fetch: Millis,
    /// Flux from the repository to what it applies from it.
    pub kustomize: Millis,
    /// helm-controller from a HelmRelease to its upgrade.
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

/// Something that goes wrong with a call, a number of times.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// The node's name.
    pub node: String,
    /// The method that it befalls, such as `Bootstrap`.
    pub call: String,
    pub what: Trouble,
    /// How many calls it befalls.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The call has its effect and its answer is lost.
    LostReply,
    /// The node says that it is not ready for the call yet.
    NotYet,
    /// The connection is refused: the call never reaches the node.
    Refused,
    /// The call takes this much longer.
    Slow(Millis),
    /// The node takes the call, answers, and reboots before the call has its effect.
    Reboot,
    /// The node refuses the call with this gRPC code, such as `Unavailable`.
    Status { code: String, message: String },
    /// The installer that the call runs ends with this exit code.
    ExitCode(i32),
}

impl Trouble {
    /// Whether it happens between the caller and the node.
    pub(super) fn is_on_the_way(&self) -> bool {
        matches!(self, Self::Refused | Self::Slow(_))
    }

    /// The answer of a node that refuses the call.
    pub(super) fn refusal(&self) -> Option<Status> {
        match self {
            Self::NotYet => Some(Status::failed_precondition("bootstrap is not available yet")),
            Self::Status { code, message } => Some(Status::new(code_named(code), message)),
            _ => None,
        }
    }
}

/// A gRPC code by its name; one that there is not is Unknown.
fn code_named(name: &str) -> Code {
    (0..=16).map(Code::from).find(|code| format!("{code:?}") == name).unwrap_or(Code::Unknown)
}

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("there is no scenario `{name}`: neither a built-in one ({builtin}) nor a file")]
    Unknown { name: String, builtin: String },
    #[error("the scenario {name} cannot be read: {reason}")]
    Unreadable { name: String, reason: String },
}

impl Scenario {
    /// A built-in scenario by name, or a file.
    ///
    /// # Errors
    ///
    /// A name that is neither, a file that is no scenario.
    pub fn load(name: &str) -> Result<Self, ScenarioError> {
        let merged = layers(name, 0)?;
        serde_json::from_value(merged)
            .map_err(|error| ScenarioError::Unreadable { name: name.to_owned(), reason: error.to_string() })
    }
}

/// A scenario over its bases.
fn layers(name: &str, depth: usize) -> Result<Value, ScenarioError> {
    let unreadable = |reason: String| ScenarioError::Unreadable { name: name.to_owned(), reason };
    if depth > BUILTIN.files().count() + 1 {
        return Err(unreadable("its bases lead back to it".to_owned()));
    }
    let text = text(name)?;
    let node = yaml::parse_one(&Origin::new(name), &text).map_err(|error| unreadable(error.to_string()))?;
    let mut own = node.to_json();
    let Value::Object(keys) = &mut own else { return Err(unreadable("it is no mapping".to_owned())) };
    let base = match keys.remove("base") {
        Some(Value::String(base)) => base,
        Some(_) => return Err(unreadable("`base` is no name of a scenario".to_owned())),
        None if name == ROOT => return Ok(own),
        None => ROOT.to_owned(),
    };
    let mut merged = layers(&base, depth + 1)?;
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

fn text(name: &str) -> Result<String, ScenarioError> {
    if let Some(text) = BUILTIN.get_file(format!("{name}.yaml")).and_then(include_dir::File::contents_utf8) {
        return Ok(text.to_owned());
    }
    if Path::new(name).exists() {
        return std::fs::read_to_string(name)
            .map_err(|error| ScenarioError::Unreadable { name: name.to_owned(), reason: error.to_string() });
    }
    let names: Vec<_> = BUILTIN.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    Err(ScenarioError::Unknown { name: name.to_owned(), builtin: names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_can_be_read() {
        for file in BUILTIN.files() {
            Scenario::load(file.path().file_stem().unwrap().to_str().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_file_names_only_what_it_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let change = "base: fast\npods: {start: 7}\nfaults: [{node: a, call: Version, what: {slow: 40}, times: 2}]\n";
        std::fs::write(file.path(), change).unwrap();
        let fast = Scenario::load("fast").unwrap();
        let changed = Scenario::load(file.path().to_str().unwrap()).unwrap();
        assert_eq!(changed.pods.start, Millis(7));
        assert_eq!(changed.pods.image_pull, fast.pods.image_pull);
        assert_eq!(changed.operators, fast.operators);
        assert_eq!(changed.faults[0].what, Trouble::Slow(Millis(40)));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "operators: {webhokServes: 3}\n").unwrap();
        let error = Scenario::load(file.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("unknown field `webhokServes`"), "{error}");
    }

    #[test]
    fn a_name_that_is_nothing_is_answered_with_those_that_are() {
        let error = Scenario::load("slow-sunday").unwrap_err().to_string();
        insta::assert_snapshot!(
            error,
            @"there is no scenario `slow-sunday`: neither a built-in one (default, fast) nor a file"
        );
    }
}
