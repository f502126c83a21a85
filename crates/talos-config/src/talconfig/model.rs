//! The parsed talconfig.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::{Endpoint, Inventory, InventoryNode, Role};
use talos_schema::Contract;
use yaml::{Diagnostic, Diagnostics, Location, Origin, Position};

/// A patch or an extra manifest, with the place of its text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch {
    /// The reference in the talconfig.
    pub(super) at: Location,
    /// The file with the text: a separate file, or the talconfig.
    pub(super) origin: Origin,
    /// The start of the first line, and the indentation of the others.
    pub(super) start: Position,
    pub(super) indent: usize,
    pub(super) text: String,
}

impl Patch {
    /// Whether the text is in a separate file, whose variables are not substituted yet.
    pub(super) fn is_file(&self) -> bool {
        self.origin != self.at.origin
    }

    /// Converts a position in the text to a position in the file.
    pub(super) fn place(&self, at: Position) -> Position {
        let column = if at.line == 1 { self.start.column - 1 } else { self.indent };
        Position { line: self.start.line + at.line - 1, column: column + at.column }
    }
}

/// The fields of a mapping, each with its place.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Section {
    values: Map<String, Value>,
    places: BTreeMap<String, Location>,
    items: BTreeMap<String, Vec<Location>>,
}

impl Section {
    pub(super) fn new(
        values: Map<String, Value>,
        places: BTreeMap<String, Location>,
        items: BTreeMap<String, Vec<Location>>,
    ) -> Self {
        Self { values, places, items }
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A string that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn list(&self, key: &str) -> &[Value] {
        self.value(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn strings(&self, key: &str) -> Vec<String> {
        self.list(key).iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(super) fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.value(key).and_then(Value::as_object)
    }

    /// The place of a key.
    pub(super) fn at(&self, key: &str) -> Option<&Location> {
        self.places.get(key)
    }

    /// The place of a list element.
    pub(super) fn item_at(&self, key: &str, index: usize) -> Option<&Location> {
        self.items.get(key)?.get(index)
    }

    /// Merges the fields of a role under those of a node: fields of the node win, the lists of `joined` are concatenated,
    /// in the order that they name.
    pub(super) fn over(self, role: &Self, joined: &[JoinedList<'_>]) -> Self {
        let mut merged = self;
        for (key, value) in &role.values {
            if let Some(list) = joined.iter().find(|list| list.key == key) {
                merged.join(role, list);
            } else if is_unset(key, merged.values.get(key)) {
                merged.values.insert(key.clone(), value.clone());
                merged.places.extend(role.places.get(key).map(|at| (key.clone(), at.clone())));
                merged.items.extend(role.items.get(key).map(|items| (key.clone(), items.clone())));
            }
        }
        merged
    }

    fn join(&mut self, role: &Self, JoinedList { key, first }: &JoinedList<'_>) {
        let key = *key;
        let joined = match first {
            First::Node => [self.list(key), role.list(key)].concat(),
            First::Role => [role.list(key), self.list(key)].concat(),
        };
        let places = |section: &Self| section.items.get(key).cloned().unwrap_or_default();
        let (own, others) = (places(self), places(role));
        let places = match first {
            First::Node => [own, others].concat(),
            First::Role => [others, own].concat(),
        };
        self.values.insert(key.to_owned(), Value::Array(joined));
        self.items.insert(key.to_owned(), places);
        if !self.places.contains_key(key) {
            self.places.extend(role.places.get(key).map(|at| (key.to_owned(), at.clone())));
        }
    }
}

/// A list of which the role's and the node's elements are joined.
pub(super) struct JoinedList<'a> {
    pub(super) key: &'a str,
    pub(super) first: First,
}

/// Whose elements come first.
pub(super) enum First {
    Node,
    Role,
}

/// Whether Go considers a value unset: an empty map or list is set, an empty scalar is not.
fn is_unset(key: &str, value: Option<&Value>) -> bool {
    match value {
        // The only field that is a struct and not a pointer, list or map.
        Some(Value::Object(spec)) if key == "machineSpec" => spec.iter().all(|(key, value)| is_unset(key, Some(value))),
        None | Some(Value::Null) => true,
        Some(Value::Bool(value)) => !value,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::Array(_) | Value::Object(_)) => false,
    }
}

/// A node of a talconfig.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub hostname: String,
    /// Addresses or host names; the first is used for the Talos API.
    pub addresses: Vec<String>,
    pub role: Role,
    pub at: Location,
    /// The file name that talhelper gives the config of the node.
    pub file_name: String,
    /// Its fields merged over those of its role.
    pub(super) section: Section,
    pub(super) patches: Vec<Patch>,
    pub(super) extra_manifests: Vec<Patch>,
    /// Files to write on the node, with their content.
    pub(super) files: Vec<Value>,
}

/// A parsed talconfig.
#[derive(Debug, Clone, PartialEq)]
pub struct Talconfig {
    pub cluster_name: String,
    pub endpoint: Endpoint,
    pub contract: Contract,
    /// With a leading `v`.
    pub talos_version: String,
    /// Without a leading `v`.
    pub kubernetes_version: String,
    pub machines: Vec<Machine>,
    /// Suspicious but valid settings.
    pub warnings: Diagnostics,
    pub(super) section: Section,
    pub(super) factory: Section,
    pub(super) inline_manifests: Vec<Value>,
    pub(super) patches: Vec<Patch>,
    /// The variables of `talenv.yaml`, and other variables that patches use.
    pub(super) variables: BTreeMap<String, String>,
    /// Undefined variables that patches use.
    pub(super) unknown: BTreeSet<String>,
}

impl Talconfig {
    /// Whether patches use undefined variables. They may have defaults, or only look like variables.
    pub fn has_undefined_variables(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// The inventory of the nodes.
    ///
    /// # Errors
    ///
    /// A node has a host name instead of an address (names are not resolved before a run), or no node is a control plane.
    pub fn inventory(&self) -> Result<Inventory, Diagnostics> {
        let mut found = Diagnostics::default();
        let mut nodes = Vec::new();
        for machine in &self.machines {
            let first = machine.addresses.first().map(String::as_str).unwrap_or_default();
            match first.parse::<IpAddr>() {
                Ok(address) => nodes.push(InventoryNode {
                    hostname: machine.hostname.clone(),
                    address,
                    role: machine.role,
                    at: machine.at.clone(),
                }),
                Err(_) => found.push(
                    Diagnostic::at_location(
                        machine.section.at("ipAddress").unwrap_or(&machine.at).clone(),
                        format!("node `{}` has the host name `{first}` instead of an address", machine.hostname),
                    )
                    .with_hint("put its address first: certificates and the order of control planes depend on it"),
                ),
            }
        }
        if nodes.len() == self.machines.len() && !nodes.iter().any(|node| node.role == Role::ControlPlane) {
            found.push(Diagnostic {
                location: self.section.at("nodes").cloned(),
                message: "no node is a control plane".to_owned(),
                hint: Some("set `controlPlane: true` on one, three or five nodes".to_owned()),
            });
        }
        found.into_result(Inventory {
            cluster_name: self.cluster_name.clone(),
            endpoint: self.endpoint.clone(),
            talos_version: self.talos_version.clone(),
            kubernetes_version: self.kubernetes_version.clone(),
            nodes,
        })
    }
}
