//! Operators' Talos inputs, whatever format they are in: an inventory at once, a machine config for each node later.
//!
//! [`read()`] chooses the format by what lies in the folder. A new format is a file here and a line in `FORMATS`.

mod complete;
mod elsewhere;
mod exec;
mod facts;
mod finished;
mod jinja;
mod layers;
mod talhelper;
mod topf;
mod verify;
mod within;

pub use finished::is_machine_config;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Inventory, Node, Rendered, Role, SecretsBundle, Sources};
use yaml::{Diagnostic, Diagnostics};

/// A cluster's inputs, read and checked.
pub trait Inputs: Debug + Send + Sync {
    fn inventory(&self) -> &Inventory;

    /// What is no mistake and may still not be what was meant.
    fn warnings(&self) -> &Diagnostics;

    /// Where the secrets are that the configs are made from.
    fn secrets(&self) -> Secrets<'_>;

    /// The machine config of a node as its layers make it.
    ///
    /// # Errors
    ///
    /// What does not apply, each with its place.
    fn render(&self, bundle: &SecretsBundle, node: &Node) -> Result<Rendered, Diagnostics>;

    /// The machine config of a node, every document of it, fit to be sent.
    ///
    /// # Errors
    ///
    /// As [`Inputs::render`], and what no node would take.
    fn config(&self, bundle: &SecretsBundle, node: &Node) -> Result<Rendered, Diagnostics> {
        let rendered = self.render(bundle, node)?;
        verify::verify(&rendered, node)?;
        Ok(rendered)
    }
}

/// Where a cluster's secrets are.
#[derive(Debug, Clone)]
pub enum Secrets<'s> {
    /// In the configs themselves.
    Within(&'s SecretsBundle),
    /// In a file beside them.
    Beside(PathBuf),
    /// They should be in the configs, and are not all there.
    Nowhere(Diagnostics),
}

/// Where inputs lie, and what may be asked while they are read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    pub root: &'p Path,
    /// The cluster's folder.
    pub folder: &'p Path,
    /// Answers the variables that inputs name.
    pub environment: &'p BTreeMap<String, String>,
    pub sources: &'p Sources,
    pub settings: &'p Settings,
}

impl Place<'_> {
    /// The folder as the operator knows it.
    fn shown(&self) -> String {
        self.folder.strip_prefix(self.root).unwrap_or(self.folder).display().to_string()
    }
}

/// What `k8s-bootstrap.yaml` says of a cluster's inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// A command that prints a node's config; `{node}`, `{address}` and `{role}` are filled in.
    pub exec: Vec<String>,
    /// Nodes by their names, where the inputs do not say enough.
    pub nodes: BTreeMap<String, Declared>,
    /// What templates may use.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// What the settings say of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    pub address: Option<IpAddr>,
    pub role: Option<Role>,
    /// The image factory's schematic of the node, relative to the repository.
    pub schematic: Option<PathBuf>,
    /// What the node's templates see under these names, before anything else.
    pub variables: serde_json::Map<String, serde_json::Value>,
}

/// A format: what it is called, the sign by which its folder is known, and its reader.
struct Format {
    name: &'static str,
    sign: &'static str,
    is: fn(&Place<'_>) -> bool,
    read: fn(&Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics>,
}

const EXEC: &str = "exec";
const FINISHED: &str = "finished configs";

const FORMATS: [Format; 5] = [
    Format { name: EXEC, sign: "`exec` in k8s-bootstrap.yaml", is: exec::is, read: exec::read },
    Format { name: "talhelper", sign: "talconfig.yaml", is: talhelper::is, read: talhelper::read },
    Format { name: "topf", sign: "topf.yaml", is: topf::is, read: topf::read },
    Format { name: jinja::NAME, sign: "machineconfig.yaml.j2", is: jinja::is, read: jinja::read },
    Format {
        name: FINISHED,
        sign: "machine configs, as in clusterconfig/*.yaml",
        is: finished::is,
        read: finished::read,
    },
];

/// What the operator names comes before what lies there, and what describes configs before configs made from it.
fn found(place: &Place<'_>) -> Vec<&'static Format> {
    if exec::is(place) {
        return FORMATS.iter().filter(|format| format.name == EXEC).collect();
    }
    let mut found: Vec<&Format> = FORMATS.iter().filter(|format| (format.is)(place)).collect();
    // A plain file of a template's name beside another format is what somebody once rendered.
    if found.len() > 1 && !jinja::has_templates(place) {
        found.retain(|format| format.name != jinja::NAME);
    }
    match found.as_slice() {
        [describes @ .., results] if !describes.is_empty() && results.name == FINISHED => describes.to_vec(),
        _ => found,
    }
}

/// Reads the inputs of a cluster.
///
/// # Errors
///
/// Everything that is wrong in them, all at once; a folder that holds no format, or two.
pub fn read(place: &Place<'_>) -> Result<Arc<dyn Inputs>, Diagnostics> {
    let folder = place.shown();
    match found(place).as_slice() {
        [format] => (format.read)(place),
        [] => {
            let known: Vec<&str> = FORMATS.iter().map(|format| format.sign).collect();
            Err(Diagnostic::general(format!("{folder} holds no Talos inputs"))
                .with_hint(format!("one of these is looked for: {}", known.join(", ")))
                .into())
        }
        several => {
            let names: Vec<String> =
                several.iter().map(|format| format!("{} ({})", format.name, format.sign)).collect();
            Err(Diagnostic::general(format!("{folder} holds Talos inputs of several formats: {}", names.join(", ")))
                .with_hint("keep one, and move the others elsewhere")
                .into())
        }
    }
}

fn no_node(name: &str) -> Diagnostic {
    Diagnostic::general(format!("there is no node `{name}`"))
}

/// The secrets bundle in a folder, under any of its usual names; the later wins, as with talhelper.
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

/// No two nodes share a name or an address.
fn unique(nodes: &[Node], found: &mut Diagnostics) {
    let mut addresses: HashMap<IpAddr, &Node> = HashMap::new();
    let mut names: HashMap<&str, &Node> = HashMap::new();
    for node in nodes {
        if let Some(first) = addresses.insert(node.address, node) {
            let (name, address) = (&node.hostname, node.address);
            found.error(
                node.at.clone(),
                format!("node `{name}` has the address {address} of node `{}` ({})", first.hostname, first.at),
            );
        }
        if let Some(first) = names.insert(&node.hostname, node) {
            let (name, at) = (&node.hostname, &first.at);
            let message = if first.role == node.role {
                format!("a second node `{name}`, the first is at {at}")
            } else {
                format!("node `{name}` is in two roles, the first is at {at}")
            };
            found.error(node.at.clone(), message);
        }
    }
    if !nodes.is_empty() && !nodes.iter().any(|node| node.role == Role::ControlPlane) {
        found.push(
            Diagnostic::general("no node is a control plane").with_hint("one, three or five nodes have that role"),
        );
    }
}

#[cfg(test)]
mod tests;
