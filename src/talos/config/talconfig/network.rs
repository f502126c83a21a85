//! A node's network: documents from Talos 1.12 on, the legacy `machine.network` before.

use serde_json::{Value, json};

use super::model::Node;
use crate::talos::config::Documents;
use crate::talos::config::document::put;

/// The network as fields of the legacy document (contracts before 1.12).
pub(super) fn legacy(config: &mut Value, node: &Node, nameservers: &[String], interfaces: &[Value]) {
    if !node.ignore_hostname {
        put(config, &["machine", "network", "hostname"], json!(node.hostname));
    }
    if !nameservers.is_empty() {
        put(config, &["machine", "network", "nameservers"], json!(nameservers));
    }
    if !interfaces.is_empty() {
        put(config, &["machine", "network", "interfaces"], json!(interfaces));
    }
}

/// The network as documents of its own (contracts from 1.12 on), as talhelper 3.1 writes them.
pub(super) fn documents(documents: &mut Documents, node: &Node, nameservers: &[String], interfaces: &[Value]) {
    if !node.ignore_hostname {
        documents.0.retain(|document| document.get("kind") != Some(&json!("HostnameConfig")));
        documents.0.push(json!({
            "apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "off", "hostname": node.hostname,
        }));
    }
    if !nameservers.is_empty() {
        let servers: Vec<Value> = nameservers.iter().map(|address| json!({"address": address})).collect();
        documents.0.push(json!({
            "apiVersion": "v1alpha1", "kind": "ResolverConfig", "nameservers": servers,
            "searchDomains": {"disableDefault": false},
        }));
    }
    for (index, interface) in interfaces.iter().enumerate() {
        interface_documents(documents, interface, index);
    }
}

fn interface_documents(documents: &mut Documents, interface: &Value, index: usize) {
    let name = link_name(documents, interface, index);
    let mut link = match interface.get("bond") {
        Some(bond) => bond_document(documents, &name, bond),
        None => json!({"apiVersion": "v1alpha1", "kind": "LinkConfig", "name": name}),
    };
    for key in ["mtu"] {
        if let Some(value) = interface.get(key) {
            link[key] = value.clone();
        }
    }
    if let Some(addresses) = interface.get("addresses").and_then(Value::as_array) {
        link["addresses"] = addresses.iter().map(|address| json!({"address": address})).collect();
    }
    if let Some(routes) = interface.get("routes").and_then(Value::as_array) {
        link["routes"] = routes.iter().map(route).collect();
    }
    documents.0.push(link);
    if interface.get("dhcp") == Some(&json!(true)) {
        documents.0.push(json!({"apiVersion": "v1alpha1", "kind": "DHCPv4Config", "name": name}));
    }
    if let Some(vip) = interface.get("vip").and_then(|vip| vip.get("ip")) {
        documents.0.push(json!({"apiVersion": "v1alpha1", "kind": "Layer2VIPConfig", "name": vip, "link": name}));
    }
    for vlan in interface.get("vlans").and_then(Value::as_array).into_iter().flatten() {
        vlan_documents(documents, &name, vlan);
    }
}

/// The interface's name; a device selector gets an alias that stands for whatever it selects.
fn link_name(documents: &mut Documents, interface: &Value, index: usize) -> String {
    if let Some(name) = interface.get("interface").and_then(Value::as_str) {
        return name.to_owned();
    }
    let alias = format!("ethSel{index}");
    let selector = interface.get("deviceSelector").unwrap_or(&Value::Null);
    documents.0.push(alias_document(&alias, selector));
    alias
}

fn alias_document(alias: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1alpha1", "kind": "LinkAliasConfig", "name": alias,
        "selector": {"match": expression(selector)},
    })
}

/// A device selector as the expression that Talos 1.12 selects links by.
fn expression(selector: &Value) -> String {
    let clause = |(key, value): (&String, &Value)| {
        let text = value.as_str().unwrap_or_default();
        match key.as_str() {
            "hardwareAddr" => format!(r#"glob("{text}", mac(link.hardware_addr))"#),
            "permanentAddr" => format!(r#"glob("{text}", mac(link.permanent_addr))"#),
            "busPath" => format!(r#"glob("{text}", link.bus_path)"#),
            "driver" => format!(r#"glob("{text}", link.driver)"#),
            "pciID" => format!(r#"glob("{text}", link.pciid)"#),
            _ => format!("link.{key} == {value}"),
        }
    };
    selector.as_object().map(|map| map.iter().map(clause).collect::<Vec<_>>().join(" && ")).unwrap_or_default()
}

fn bond_document(documents: &mut Documents, name: &str, bond: &Value) -> Value {
    let mut links: Vec<Value> = bond.get("interfaces").and_then(Value::as_array).cloned().unwrap_or_default();
    for (index, selector) in bond.get("deviceSelectors").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let alias = format!("{name}-m{index}");
        documents.0.push(alias_document(&alias, selector));
        links.push(json!(alias));
    }
    let mut document = json!({"apiVersion": "v1alpha1", "kind": "BondConfig", "name": name, "links": links});
    for (from, to) in [
        ("mode", "bondMode"),
        ("miimon", "miimon"),
        ("updelay", "updelay"),
        ("downdelay", "downdelay"),
        ("xmitHashPolicy", "xmitHashPolicy"),
        ("lacpRate", "lacpRate"),
        ("adSelect", "adSelect"),
        ("primary", "primary"),
    ] {
        if let Some(value) = bond.get(from) {
            document[to] = value.clone();
        }
    }
    document
}

fn vlan_documents(documents: &mut Documents, parent: &str, vlan: &Value) {
    let id = vlan.get("vlanId").and_then(Value::as_u64).unwrap_or_default();
    let name = format!("{parent}.{id}");
    let mut document =
        json!({"apiVersion": "v1alpha1", "kind": "VLANConfig", "name": name, "vlanID": id, "parent": parent});
    if let Some(mtu) = vlan.get("mtu") {
        document["mtu"] = mtu.clone();
    }
    if let Some(addresses) = vlan.get("addresses").and_then(Value::as_array) {
        document["addresses"] = addresses.iter().map(|address| json!({"address": address})).collect();
    }
    if let Some(routes) = vlan.get("routes").and_then(Value::as_array) {
        document["routes"] = routes.iter().map(route).collect();
    }
    documents.0.push(document);
    if vlan.get("dhcp") == Some(&json!(true)) {
        documents.0.push(json!({"apiVersion": "v1alpha1", "kind": "DHCPv4Config", "name": name}));
    }
}

/// The default route has no destination in a document.
fn route(route: &Value) -> Value {
    let mut out = json!({});
    if let Some(network) =
        route.get("network").filter(|network| **network != json!("0.0.0.0/0") && **network != json!("::/0"))
    {
        out["destination"] = network.clone();
    }
    for key in ["gateway", "metric", "source", "mtu"] {
        if let Some(value) = route.get(key) {
            out[key] = value.clone();
        }
    }
    out
}
