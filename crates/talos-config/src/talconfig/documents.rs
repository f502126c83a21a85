//! Converts fields of a talconfig to documents beside the legacy one (talhelper 3.1, `pkg/talos/multidocs.go`).

use serde_json::{Map, Value, json};

use talos_schema::Contract;

use super::model::{Machine, Section};
use super::{network, types};

/// A document, and the field of the talconfig that it comes from.
pub(super) type Made = (&'static str, Value);

/// All documents of a node, in talhelper's order.
pub(super) fn from_machine(machine: &Machine, contract: Contract) -> Vec<Made> {
    let section = &machine.section;
    let networks = has_network_documents(contract);
    let mut made: Vec<Made> = Vec::new();
    if networks {
        made.extend(resolver(section).map(|document| ("nameservers", document)));
        made.push(("hostname", hostname(machine)));
    }
    made.extend(firewall(section).into_iter().map(|document| ("ingressFirewall", document)));
    for (key, kind, of) in [
        ("extensionServices", "ExtensionServiceConfig", "ExtensionService"),
        ("volumes", "VolumeConfig", "Volume"),
        ("userVolumes", "UserVolumeConfig", "UserVolume"),
    ] {
        let documents = section.list(key).iter().filter_map(Value::as_object);
        made.extend(documents.map(|fields| (key, document(kind, types::encode(of, fields)))));
    }
    if networks {
        let documents = network::documents(section.list("networkInterfaces"));
        made.extend(documents.into_iter().map(|document| ("networkInterfaces", document)));
    }
    made
}

/// Whether talhelper writes network settings as documents of their own.
pub(super) fn has_network_documents(contract: Contract) -> bool {
    contract >= Contract::V1_12
}

fn document(kind: &str, fields: Value) -> Value {
    let mut document = json!({"apiVersion": "v1alpha1", "kind": kind});
    if let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) {
        document.extend(fields);
    }
    document
}

fn resolver(section: &Section) -> Option<Value> {
    let disable = section.flag("disableSearchDomain");
    let servers: Vec<Value> =
        section.strings("nameservers").iter().map(|address| json!({"address": address})).collect();
    (disable || !servers.is_empty()).then(|| {
        let mut fields = Map::new();
        if !servers.is_empty() {
            fields.insert("nameservers".to_owned(), json!(servers));
        }
        fields.insert("searchDomains".to_owned(), json!({"disableDefault": disable}));
        document("ResolverConfig", Value::Object(fields))
    })
}

fn hostname(machine: &Machine) -> Value {
    let fields = if machine.section.flag("ignoreHostname") {
        json!({"auto": "stable"})
    } else {
        json!({"auto": "off", "hostname": machine.hostname})
    };
    document("HostnameConfig", fields)
}

fn firewall(section: &Section) -> Vec<Value> {
    let Some(firewall) = section.object("ingressFirewall") else { return vec![] };
    let action = firewall.get("defaultAction").and_then(Value::as_str).unwrap_or("accept").to_lowercase();
    let rules = firewall.get("rules").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    std::iter::once(document("NetworkDefaultActionConfig", json!({"ingress": action})))
        .chain(rules.map(|rule| document("NetworkRuleConfig", types::encode("NetworkRule", rule))))
        .collect()
}
