//! Data files for templates, as for `minijinja-cli`: YAML files beside the templates whose top-level keys are template
//! variables. One of them may list the nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::super::{DeclaredNode, InputContext, layers};
use crate::{InputsError, Role};

const NAMES: [&str; 3] = ["name", "hostname", "host"];
const ADDRESSES: [&str; 4] = ["ip", "address", "ipAddress", "ip_address"];
const ROLES: [&str; 4] = ["role", "type", "machineType", "machine_type"];
const CONTROLLERS: [&str; 4] = ["controller", "controlPlane", "controlplane", "control_plane"];

/// The values of the variables `names` in the files; a file that cannot be read or parsed has none.
///
/// # Errors
///
/// Files that have to be decrypted first.
pub(super) fn read(
    place: &InputContext<'_>,
    paths: &[PathBuf],
    names: &BTreeSet<String>,
) -> Result<Map<String, Value>, InputsError> {
    let mut data = Map::new();
    let mut found = InputsError::default();
    if names.is_empty() {
        return Ok(data);
    }
    for path in paths {
        let text = match place.sources.read(path) {
            Ok(text) => text,
            Err(error) => {
                found.needs.extend(error.need());
                continue;
            }
        };
        let Ok(node) = yaml::parse_one(&layers::origin(place.root, path), &text) else { continue };
        let Value::Object(fields) = node.to_json() else { continue };
        for (name, value) in fields.into_iter().filter(|(name, _)| names.contains(name)) {
            data.entry(name).or_insert(value);
        }
    }
    found.into_result(data)
}

/// The nodes in the data, by name: `nodes: {cp-1: {ip: 10.0.0.1, controller: true}}`, or a list with names.
pub(super) fn nodes(data: &Map<String, Value>) -> Vec<(String, DeclaredNode)> {
    data.values().map(listed).find(|nodes| !nodes.is_empty()).unwrap_or_default()
}

fn listed(value: &Value) -> Vec<(String, DeclaredNode)> {
    let first = |fields: &Value, keys: &[&str]| keys.iter().find_map(|key| fields.get(key)).cloned();
    let text = |value: Value| value.as_str().map(str::to_owned);
    let declared = |fields: &Value| -> Option<DeclaredNode> {
        let address: IpAddr = text(first(fields, &ADDRESSES)?)?.parse().ok()?;
        let word = first(fields, &ROLES).and_then(text).map(|word| role(&word));
        let flag = first(fields, &CONTROLLERS).and_then(|flag| flag.as_bool());
        let flag = flag.map(|is| if is { Role::ControlPlane } else { Role::Worker });
        Some(DeclaredNode { address: Some(address), role: word.flatten().or(flag), ..DeclaredNode::default() })
    };
    let nodes: Option<Vec<(String, DeclaredNode)>> = match value {
        Value::Object(all) => all.iter().map(|(name, fields)| Some((name.clone(), declared(fields)?))).collect(),
        Value::Array(all) => {
            all.iter().map(|fields| Some((text(first(fields, &NAMES)?)?, declared(fields)?))).collect()
        }
        _ => None,
    };
    nodes.unwrap_or_default()
}

fn role(word: &str) -> Option<Role> {
    match word.replace(['-', '_'], "").to_ascii_lowercase().as_str() {
        "controlplane" | "controller" | "master" => Some(Role::ControlPlane),
        "worker" => Some(Role::Worker),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_a_map_or_a_list() {
        let summary = |data: Value| {
            let nodes = nodes(data.as_object().unwrap()).into_iter();
            nodes.map(|(name, node)| format!("{name} {} {:?}", node.address.unwrap(), node.role)).collect::<Vec<_>>()
        };
        assert_eq!(
            summary(
                json!({"vip": "10.0.0.9", "nodes": {"a": {"ip": "10.0.0.1", "controller": true}, "b": {"ip": "10.0.0.2"}}})
            ),
            ["a 10.0.0.1 Some(ControlPlane)", "b 10.0.0.2 None"]
        );
        assert_eq!(
            summary(json!({"machines": [{"hostname": "a", "address": "10.0.0.1", "role": "worker"}]})),
            ["a 10.0.0.1 Some(Worker)"]
        );
        assert!(summary(json!({"nodes": {"a": {"mac": "00:00"}}, "other": [1]})).is_empty());
    }
}
