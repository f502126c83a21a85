//! How long things take in the lab's world, and what goes wrong there.

use std::path::Path;
use std::time::Duration;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/lab/scenarios");

/// Latencies in milliseconds, and faults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// From an accepted config to the reboot.
    pub install: Millis,
    /// From the reboot to an open port.
    pub boot: Millis,
    /// From an open port to a registered node, once the API answers.
    pub kubelet_start: Millis,
    #[serde(default)]
    pub faults: Vec<Fault>,
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

/// Something that goes wrong, a number of times.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The call has its effect and its answer is lost.
    LostReply,
    /// The node says that it is not ready for the call yet.
    NotYet,
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
        let unreadable = |reason: String| ScenarioError::Unreadable { name: name.to_owned(), reason };
        let text = match BUILTIN.get_file(format!("{name}.yaml")).and_then(include_dir::File::contents_utf8) {
            Some(text) => text.to_owned(),
            None if Path::new(name).exists() => {
                std::fs::read_to_string(name).map_err(|error| unreadable(error.to_string()))?
            }
            None => {
                let names: Vec<_> = BUILTIN.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
                return Err(ScenarioError::Unknown { name: name.to_owned(), builtin: names.join(", ") });
            }
        };
        serde_saphyr::from_str(&text).map_err(|error| unreadable(error.to_string()))
    }
}
