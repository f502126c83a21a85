//! Validates a talconfig beyond field types (talhelper 3.1, `pkg/config/validator.go`), with warnings for suspicious
//! settings.

mod links;
mod names;
mod nodes;

use std::collections::HashMap;

use ipnet::IpNet;

use super::model::{Machine, Section, Talconfig};
use super::types::TalconfigFindings;
use talos_schema::Contract;
use yaml::{Diagnostic, Location, Origin, Position};

pub(super) fn check(origin: &Origin, talconfig: &Talconfig, found: &mut TalconfigFindings) {
    cluster(origin, talconfig, found);
    for machine in &talconfig.machines {
        nodes::check(talconfig, machine, found);
    }
    unique(talconfig, found);
}

fn top(origin: &Origin) -> Location {
    origin.location(Position { line: 1, column: 1 })
}

/// The place of a field, or of its parent when the field is absent.
fn at(section: &Section, key: &str, holder: &Location) -> Location {
    section.at(key).unwrap_or(holder).clone()
}

fn cluster(origin: &Origin, talconfig: &Talconfig, found: &mut TalconfigFindings) {
    let section = &talconfig.section;
    let place = |key: &str| at(section, key, &top(origin));
    for key in ["clusterName", "kubernetesVersion", "endpoint"] {
        if section.text(key).is_none() {
            found.errors.error(place(key), format!("the talconfig has no `{key}`"));
        }
    }
    if talconfig.machines.is_empty() {
        found.errors.error(place("nodes"), "the talconfig has no `nodes`");
    }
    if section.text("talosVersion").is_none() {
        let version = &talconfig.talos_version;
        found.warnings.push(
            Diagnostic::at_location(
                place("talosVersion"),
                format!("the talconfig has no `talosVersion`; using {version}, the default of talhelper"),
            )
            .with_hint("set `talosVersion`, since the default changes with talhelper releases"),
        );
    }
    if let Some(domain) = section.text("domain").filter(|domain| !names::is_domain(domain)) {
        found.errors.error(place("domain"), format!("invalid domain `{domain}`"));
    }
    for key in ["clusterPodNets", "clusterSvcNets"] {
        for (index, net) in section.strings(key).iter().enumerate() {
            if net.parse::<IpNet>().is_err() {
                let at = section.item_at(key, index).cloned().unwrap_or_else(|| place(key));
                found
                    .errors
                    .error(at, format!("`{key}`: invalid network `{net}`: expected a CIDR such as 10.42.0.0/16"));
            }
        }
    }
    let version = &talconfig.talos_version;
    if semver::Version::parse(version.trim_start_matches('v')).is_err() && version.parse::<Contract>().is_ok() {
        found.errors.push(
            Diagnostic::at_location(
                place("talosVersion"),
                format!("invalid Talos version `{version}`: expected the form v1.12.4"),
            )
            .with_hint("it becomes the tag of the installer image"),
        );
    }
    kubernetes_version(talconfig, place("kubernetesVersion"), found);
    cni(section, &place("cniConfig"), found);
    manifests(section, &place("inlineManifests"), found);
}

fn kubernetes_version(talconfig: &Talconfig, at: Location, found: &mut TalconfigFindings) {
    let version = &talconfig.kubernetes_version;
    if version.is_empty() {
        return;
    }
    let Ok(parsed) = semver::Version::parse(version) else {
        found.errors.push(
            Diagnostic::at_location(at, format!("invalid Kubernetes version `{version}`: expected the form 1.35.0"))
                .with_hint("without quotes, YAML reads 1.30 as the number 1.3"),
        );
        return;
    };
    // The compatibility of newer Talos versions is unknown.
    let Ok(line) = talconfig.talos_version.parse::<Contract>() else { return };
    let known = line.kubernetes_minors();
    if !(parsed.major == 1 && known.contains(&parsed.minor)) {
        let (low, high) = (known.start(), known.end());
        found.errors.error(
            at,
            format!(
                "Talos {} does not support Kubernetes {version}, only 1.{low} to 1.{high}",
                talconfig.talos_version
            ),
        );
    }
}

fn cni(section: &Section, at: &Location, found: &mut TalconfigFindings) {
    let Some(cni) = section.object("cniConfig") else { return };
    let name = cni.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
    let filled = |pointer: &str| {
        let value = section.value("cniConfig").and_then(|cni| cni.pointer(pointer));
        value.is_some_and(|value| {
            value == &serde_json::json!(true) || value.as_array().is_some_and(|list| !list.is_empty())
        })
    };
    let mut wrong = |message: String| found.errors.error(at.clone(), message);
    if !["flannel", "custom", "none"].contains(&name) {
        wrong(format!("unknown CNI `{name}`: expected flannel, custom or none"));
        return;
    }
    if name == "custom" && !filled("/urls") {
        wrong("the CNI `custom` requires `urls`".to_owned());
    }
    if name != "custom" && filled("/urls") {
        wrong(format!("the CNI `{name}` does not support `urls`"));
    }
    if name != "flannel" && (filled("/flannel/extraArgs") || filled("/flannel/kubeNetworkPoliciesEnabled")) {
        wrong(format!("the CNI `{name}` does not support flannel settings"));
    }
}

fn manifests(section: &Section, at: &Location, found: &mut TalconfigFindings) {
    let mut seen = HashMap::new();
    for (index, manifest) in section.list("inlineManifests").iter().enumerate() {
        let at = section.item_at("inlineManifests", index).unwrap_or(at).clone();
        let name = manifest.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        if name.trim().is_empty() {
            found.errors.error(at, "an inline manifest has no `name`");
        } else if let Some(first) = seen.insert(name, at.clone()) {
            found.errors.error(at, format!("duplicate inline manifest `{name}`, first at {first}"));
        }
    }
}

fn unique(talconfig: &Talconfig, found: &mut TalconfigFindings) {
    let mut addresses: HashMap<&str, &Machine> = HashMap::new();
    let mut hostnames: HashMap<&str, &Machine> = HashMap::new();
    for machine in &talconfig.machines {
        let place = |key: &str| at(&machine.section, key, &machine.at);
        for address in &machine.addresses {
            if let Some(first) = addresses.insert(address, machine) {
                let (this, other, there) =
                    (&machine.hostname, &first.hostname, at(&first.section, "ipAddress", &first.at));
                found.errors.error(
                    place("ipAddress"),
                    format!("node `{this}` has the same address {address} as node `{other}` ({there})"),
                );
            }
        }
        if machine.hostname.is_empty() {
            continue;
        }
        let Some(first) = hostnames.insert(machine.hostname.as_str(), machine) else { continue };
        let (name, there) = (&machine.hostname, at(&first.section, "hostname", &first.at));
        found.errors.error(
            place("hostname"),
            if first.role == machine.role {
                format!("duplicate node `{name}`, first at {there}")
            } else {
                format!("node `{name}` is both a control plane and a worker, first at {there}")
            },
        );
    }
}
