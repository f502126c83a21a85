//! Network interfaces of the legacy document.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{Document, get, list, number, text};
use super::syntax::{is_address, is_subnet_or_address, is_wireguard_key};

const LIST: &str = "machine.network.interfaces";
const LOAD_BALANCING: [&str; 2] = ["balance-tlb", "balance-alb"];

/// The allowed values of bond fields.
const BOND_VALUES: [(&str, &[&str]); 7] = [
    ("xmitHashPolicy", &["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4"]),
    ("lacpRate", &["slow", "fast"]),
    ("arpValidate", &["none", "active", "backup", "all", "filter", "filter-active", "filter-backup"]),
    ("arpAllTargets", &["any", "all"]),
    ("primaryReselect", &["always", "better", "failure"]),
    ("failOverMac", &["none", "active", "follow"]),
    ("adSelect", &["stable", "bandwidth", "count"]),
];
const BOND_MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

pub(super) fn check(document: &mut Document<'_, '_>) {
    let owners = owners(document);
    for (index, device) in document.list(LIST).iter().enumerate() {
        if get(device, "ignore") == Some(&Value::Bool(true)) {
            continue;
        }
        let path = format!("{LIST}[{index}]");
        identity(document, &path, device);
        addressing(document, &path, device, &owners);
        routes(document, &path, device);
        if let Some(bond) = get(device, "bond") {
            bond_fields(document, &format!("{path}.bond"), bond);
        }
        if let Some(wireguard) = get(device, "wireguard") {
            tunnel(document, &format!("{path}.wireguard"), wireguard);
        }
        for (vlan, value) in list(device, "vlans").iter().enumerate() {
            addresses(document, &format!("{path}.vlans[{vlan}]"), value);
        }
    }
    kubespan(document);
}

fn kubespan(document: &mut Document<'_, '_>) {
    let path = "machine.network.kubespan";
    if !document.is_true(&format!("{path}.enabled")) {
        return;
    }
    if document.has(&format!("{path}.mtu")) && document.number(&format!("{path}.mtu")) < 1280 {
        document.error(format!("{path}.mtu"), "should be at least 1280");
    }
    for list in ["endpoints", "excludeAdvertisedNetworks"] {
        let path = format!("{path}.filters.{list}");
        for (index, filter) in document.list(&path).iter().enumerate() {
            if !is_subnet_or_address(filter.as_str().unwrap_or_default()) {
                document.error(format!("{path}[{index}]"), format!("{filter} is not a subnet"));
            }
        }
    }
}

/// The bond or bridge of each member interface.
fn owners<'v>(document: &mut Document<'v, '_>) -> BTreeMap<&'v str, &'v str> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, device) in document.list(LIST).iter().enumerate() {
        let name = text(device, "interface");
        let path = format!("{LIST}[{index}]");
        if get(device, "bond").is_some() && get(device, "bridge").is_some() {
            document.error(&path, format!("the interface \"{name}\" is both a bond and a bridge"));
        }
        if !list(device, "bond.interfaces").is_empty() && !list(device, "bond.deviceSelectors").is_empty() {
            document.error(format!("{path}.bond"), "interfaces and deviceSelectors are mutually exclusive");
        }
        let members = if get(device, "bridge").is_some() { "bridge.interfaces" } else { "bond.interfaces" };
        for member in list(device, members).iter().filter_map(Value::as_str) {
            if let Some(other) = owners.insert(member, name).filter(|other| *other != name) {
                document.error(&path, format!("\"{member}\" is a member of both \"{other}\" and \"{name}\""));
            }
        }
    }
    owners
}

fn identity(document: &mut Document<'_, '_>, path: &str, device: &Value) {
    let selector = get(device, "deviceSelector");
    match (text(device, "interface").is_empty(), selector) {
        (true, None) => document.error(path, "either interface or deviceSelector is required"),
        (false, Some(_)) => document.error(path, "interface and deviceSelector are mutually exclusive"),
        _ => {}
    }
    if selector.and_then(Value::as_object).is_some_and(|map| map.values().all(|value| value.as_str() == Some(""))) {
        document.error(format!("{path}.deviceSelector"), "should contain at least one field");
    }
}

fn addressing(document: &mut Document<'_, '_>, path: &str, device: &Value, owners: &BTreeMap<&str, &str>) {
    let name = text(device, "interface");
    let addressed = get(device, "dhcp") == Some(&Value::Bool(true))
        || !text(device, "cidr").is_empty()
        || !list(device, "addresses").is_empty()
        || get(device, "vip").is_some();
    if owners.contains_key(name) && addressed {
        document.error(path, format!("\"{name}\" is a member of a bond or bridge and must not have addresses"));
    }
    addresses(document, path, device);
    if !text(device, "cidr").is_empty() {
        document.warn(format!("{path}.cidr"), "is deprecated; use addresses");
    }
    if get(device, "vip").is_some() && !is_plain(text(device, "vip.ip")) {
        document.error(format!("{path}.vip.ip"), format!("\"{}\" is not an IP address", text(device, "vip.ip")));
    }
}

fn is_plain(text: &str) -> bool {
    !text.contains('/') && is_address(text)
}

fn addresses(document: &mut Document<'_, '_>, path: &str, device: &Value) {
    let name = text(device, "interface");
    let of = if name.is_empty() { String::new() } else { format!("of \"{name}\" ") };
    let cidr = text(device, "cidr");
    if !cidr.is_empty() && !list(device, "addresses").is_empty() {
        document.error(path, format!("{of}has both cidr and addresses, which are mutually exclusive"));
    }
    if !cidr.is_empty() && !is_address(cidr) {
        document.error(format!("{path}.cidr"), format!("{of}is not an address: {cidr}"));
    }
    for (index, address) in list(device, "addresses").iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if !is_address(address) {
            document.error(format!("{path}.addresses[{index}]"), format!("{of}is not an address: {address}"));
        }
    }
}

fn routes(document: &mut Document<'_, '_>, path: &str, device: &Value) {
    for (index, route) in list(device, "routes").iter().enumerate() {
        let path = format!("{path}.routes[{index}]");
        let network = text(route, "network");
        let valid = network.contains('/') && is_address(network);
        if !network.is_empty() && !valid {
            document.error(format!("{path}.network"), format!("\"{network}\" is not a network"));
        }
        for field in ["gateway", "source"] {
            let address = text(route, field);
            if !address.is_empty() && !is_plain(address) {
                document.error(format!("{path}.{field}"), format!("\"{address}\" is not an address"));
            }
        }
        if network.is_empty() && text(route, "gateway").is_empty() {
            document.error(path, "either network or gateway should be set");
        }
    }
}

fn bond_fields(document: &mut Document<'_, '_>, path: &str, bond: &Value) {
    let mode = if text(bond, "mode").is_empty() { "balance-rr" } else { text(bond, "mode") };
    if !BOND_MODES.contains(&mode) {
        document.error(format!("{path}.mode"), format!("unknown bond mode {mode}"));
    }
    for (field, allowed) in BOND_VALUES {
        let value = text(bond, field);
        if !value.is_empty() && !allowed.contains(&value) {
            document
                .error(format!("{path}.{field}"), format!("unknown value {value}: expected {}", allowed.join(", ")));
        }
    }
    let miimon = number(bond, "miimon");
    for field in ["updelay", "downdelay"] {
        let delay = number(bond, field);
        if miimon == 0 && delay != 0 {
            document.error(format!("{path}.{field}"), "can't be set without miimon");
        } else if miimon != 0 && delay % miimon != 0 {
            document.error(format!("{path}.{field}"), "should be a multiple of miimon");
        }
    }
    if !list(bond, "arpIPTarget").is_empty() {
        document.error(format!("{path}.arpIPTarget"), "is not supported");
    }
    if !text(bond, "adActorSystem").is_empty() {
        document.error(format!("{path}.adActorSystem"), "is not supported");
    }
    bond_mode(document, path, bond, mode);
}

/// Fields that only some modes support.
fn bond_mode(document: &mut Document<'_, '_>, path: &str, bond: &Value, mode: &str) {
    let lacp = mode == "802.3ad";
    let balancing = LOAD_BALANCING.contains(&mode);
    let set = |field: &str| !text(bond, field).is_empty() || number(bond, field) > 0;
    let misplaced = [
        ("lacpRate", !lacp),
        ("arpValidate", lacp || balancing),
        ("primary", mode != "active-backup" && !balancing),
        ("arpInterval", lacp || balancing),
        ("packetsPerSlave", mode != "balance-rr" && number(bond, "packetsPerSlave") > 1),
        ("tlbDynamicLb", !balancing),
        ("adActorSysPrio", !lacp),
        ("adUserPortKey", !lacp),
    ];
    for (field, _) in misplaced.into_iter().filter(|(field, wrong)| *wrong && set(field)) {
        document.error(format!("{path}.{field}"), format!("is not supported in the mode {mode}"));
    }
}

fn tunnel(document: &mut Document<'_, '_>, path: &str, wireguard: &Value) {
    if !is_wireguard_key(text(wireguard, "privateKey")) {
        document.error(format!("{path}.privateKey"), "is not a WireGuard key");
    }
    for (index, peer) in list(wireguard, "peers").iter().enumerate() {
        let path = format!("{path}.peers[{index}]");
        if !is_wireguard_key(text(peer, "publicKey")) {
            document.error(format!("{path}.publicKey"), "is not a WireGuard key");
        }
        let endpoint = text(peer, "endpoint");
        let port = endpoint.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !endpoint.is_empty() && !port {
            document.error(format!("{path}.endpoint"), format!("\"{endpoint}\" is not HOST:PORT"));
        }
        for (allowed, network) in list(peer, "allowedIPs").iter().enumerate() {
            let network = network.as_str().unwrap_or_default();
            if !(network.contains('/') && is_address(network)) {
                document.error(format!("{path}.allowedIPs[{allowed}]"), format!("\"{network}\" is not a network"));
            }
        }
    }
}
