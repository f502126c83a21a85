//! Readers for all formats of Talos inputs: an inventory without secrets, a machine config per node with them.
//!
//! [`read()`] detects the format by the files in the directory. A new format is a module here and a line in `FORMATS`.

mod complete;
mod embedded_secrets;
mod exec;
mod facts;
mod finished;
mod jinja;
mod layers;
mod repository_variables;
mod talhelper;
mod topf;
mod verify;

pub use finished::is_machine_config;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FetchedInputs, InputsError, Inventory, InventoryNode, RenderedConfig, Role, SecretsBundle};
use yaml::{Diagnostic, Diagnostics};

/// The parsed inputs of a cluster.
pub trait Inputs: Debug + Send + Sync {
    fn inventory(&self) -> &Inventory;

    /// Suspicious but valid settings.
    fn warnings(&self) -> &Diagnostics;

    /// Where the secrets of the cluster are.
    fn secrets(&self) -> SecretsLocation<'_>;

    /// Renders the machine config of a node.
    ///
    /// # Errors
    ///
    /// A layer cannot be applied.
    fn render(&self, bundle: &SecretsBundle, node: &InventoryNode) -> Result<RenderedConfig, Diagnostics>;

    /// Renders and validates the machine config of a node.
    ///
    /// # Errors
    ///
    /// As [`Inputs::render`], and everything that a node would reject.
    fn config(&self, bundle: &SecretsBundle, node: &InventoryNode) -> Result<RenderedConfig, Diagnostics> {
        let rendered = self.render(bundle, node)?;
        verify::verify(&rendered, node, &self.inventory().talos_version)?;
        Ok(rendered)
    }
}

/// The location of the secrets of a cluster.
#[derive(Debug, Clone)]
pub enum SecretsLocation<'s> {
    /// In the configs themselves.
    InConfigs(&'s SecretsBundle),
    /// In a separate file.
    File(PathBuf),
    /// Expected in the configs, but incomplete.
    Incomplete(Diagnostics),
}

/// The location of the inputs, and what their readers may use.
#[derive(Debug, Clone, Copy)]
pub struct InputContext<'p> {
    pub root: &'p Path,
    /// The directory of the cluster.
    pub folder: &'p Path,
    /// Environment variables for the inputs.
    pub environment: &'p BTreeMap<String, String>,
    pub sources: &'p FetchedInputs,
    pub settings: &'p InputSettings,
}

impl InputContext<'_> {
    /// The directory relative to the repository, for messages.
    fn display_folder(&self) -> String {
        self.folder.strip_prefix(self.root).unwrap_or(self.folder).display().to_string()
    }

    /// The text of a file, decrypted.
    fn read(&self, path: &Path) -> Result<String, InputsError> {
        let unreadable = |error| {
            let origin = layers::origin(self.root, path);
            Diagnostic::general(format!("cannot read {origin}: {error}"))
        };
        self.sources.read(path).map_err(|error| error.describe(unreadable))
    }
}

/// Settings in `k8s-bootstrap.yaml` for the inputs of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputSettings {
    /// A command that prints the config of a node; `{node}`, `{address}` and `{role}` are replaced.
    pub exec: Vec<String>,
    /// Nodes by name, for facts that the inputs lack.
    pub nodes: BTreeMap<String, DeclaredNode>,
    /// Variables for templates.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// Settings for a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredNode {
    pub address: Option<IpAddr>,
    pub role: Option<Role>,
    /// The image factory's schematic of the node, relative to the repository.
    pub schematic: Option<PathBuf>,
    /// Variables for the templates of this node; they override all others.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// An input format: its name, the files that identify it, and its reader.
struct Format {
    name: &'static str,
    sign: &'static str,
    detects: fn(&InputContext<'_>) -> bool,
    read: fn(&InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError>,
}

const EXEC: &str = "exec";
const FINISHED: &str = "finished configs";

const FORMATS: [Format; 5] = [
    Format { name: EXEC, sign: "`exec` in k8s-bootstrap.yaml", detects: exec::detects, read: exec::read },
    Format { name: "talhelper", sign: "talconfig.yaml", detects: talhelper::detects, read: talhelper::read },
    Format { name: "topf", sign: "topf.yaml", detects: topf::detects, read: topf::read },
    Format { name: jinja::NAME, sign: "machineconfig.yaml.j2", detects: jinja::detects, read: jinja::read },
    Format {
        name: FINISHED,
        sign: "machine configs, as in clusterconfig/*.yaml",
        detects: finished::detects,
        read: finished::read,
    },
];

/// The detected formats: `exec` settings override files, and a description overrides configs rendered from it.
fn detect(place: &InputContext<'_>) -> Result<Vec<&'static Format>, InputsError> {
    if exec::detects(place) {
        return Ok(FORMATS.iter().filter(|format| format.name == EXEC).collect());
    }
    let mut found: Vec<&Format> = FORMATS.iter().filter(|format| (format.detects)(place)).collect();
    // A plain file with the name of a template beside another format is an old rendered file.
    if found.len() > 1 && !jinja::has_templates(place)? {
        found.retain(|format| format.name != jinja::NAME);
    }
    Ok(match found.as_slice() {
        [describes @ .., results] if !describes.is_empty() && results.name == FINISHED => describes.to_vec(),
        _ => found,
    })
}

/// Reads the inputs of a cluster.
///
/// # Errors
///
/// All errors of the inputs, and what they need from outside; no format or several formats detected.
pub fn read(place: &InputContext<'_>) -> Result<Arc<dyn Inputs>, InputsError> {
    let folder = place.display_folder();
    match detect(place)?.as_slice() {
        [format] => (format.read)(place),
        [] => {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.sign).collect();
            Err(Diagnostic::general(format!("no Talos inputs found in {folder}"))
                .with_hint(format!("supported inputs: {}", known.join(", ")))
                .into())
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|format| format!("{} ({})", format.name, format.sign)).collect();
            Err(Diagnostic::general(format!("{folder} has Talos inputs in several formats: {}", names.join(", ")))
                .with_hint("keep one, and move the others to another directory")
                .into())
        }
    }
}

fn no_node(name: &str) -> Diagnostic {
    Diagnostic::general(format!("unknown node `{name}`"))
}

/// The secrets bundle in a directory, under any of its usual names; later names take precedence, like in talhelper.
fn bundles(folder: &Path) -> Option<PathBuf> {
    let names = [
        "secrets.yaml",
        "secrets.sops.yaml",
        "talsecret.yaml",
        "talsecret.sops.yaml",
        "talsecret.yml",
        "talsecret.sops.yml",
    ];
    names.iter().rev().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Checks that names and addresses of nodes are unique, and that there is a control plane.
fn check_nodes(nodes: &[InventoryNode], found: &mut Diagnostics) {
    let mut addresses: HashMap<IpAddr, &InventoryNode> = HashMap::new();
    let mut names: HashMap<&str, &InventoryNode> = HashMap::new();
    for node in nodes {
        if let Some(first) = addresses.insert(node.address, node) {
            let (name, address) = (&node.hostname, node.address);
            found.error(
                node.at.clone(),
                format!("node `{name}` has the same address {address} as node `{}` ({})", first.hostname, first.at),
            );
        }
        if let Some(first) = names.insert(&node.hostname, node) {
            let (name, at) = (&node.hostname, &first.at);
            let message = if first.role == node.role {
                format!("duplicate node `{name}`, first at {at}")
            } else {
                format!("node `{name}` has two roles, first at {at}")
            };
            found.error(node.at.clone(), message);
        }
    }
    if !nodes.is_empty() && !nodes.iter().any(|node| node.role == Role::ControlPlane) {
        found.push(
            Diagnostic::general("no node is a control plane").with_hint("give one, three or five nodes that role"),
        );
    }
}

#[cfg(test)]
mod tests;
