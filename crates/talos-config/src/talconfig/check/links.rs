//! A node's network interfaces (Talos 1.14, `v1alpha1_validation.go`), and what of them no document can say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::Value;

use super::at;
use crate::Contract;
use crate::talconfig::model::Section;
use crate::talconfig::types::Found;
use yaml::{Diagnostic, Location};

pub(super) fn check(contract: Contract, section: &Section, holder: &Location, found: &mut Found) {
    let mut enslaved: BTreeMap<String, String> = BTreeMap::new();
    for (index, link) in section.list("networkInterfaces").iter().enumerate() {
        let place = section.item_at("networkInterfaces", index).cloned();
        let place = place.unwrap_or_else(|| at(section, "networkInterfaces", holder));
        let mut reasons = Vec::new();
        members(link, &mut enslaved, &mut reasons);
        if link.get("ignore") != Some(&Value::Bool(true)) {
            interface(link, &enslaved, &mut reasons);
        }
        for reason in reasons {
            found.errors.error(place.clone(), format!("interface {}: {reason}", name(link)));
        }
        if contract >= Contract::V1_12 {
            for reason in lost(link) {
                found.warnings.push(
                    Diagnostic::at(place.clone(), format!("interface {}: {reason}", name(link)))
                        .with_hint("it is lost here as with talhelper, which says nothing of it; take it out"),
                );
            }
        }
    }
}

fn name(link: &Value) -> String {
    text(link, "interface").map_or_else(|| "(by selector)".to_owned(), |name| format!("`{name}`"))
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn strings<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v str> {
    value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// No interface may be a part of two others.
fn members(link: &Value, enslaved: &mut BTreeMap<String, String>, reasons: &mut Vec<String>) {
    let owner = text(link, "interface").unwrap_or_default();
    let (bond, bridge) = (link.get("bond"), link.get("bridge"));
    if bond.is_some() && bridge.is_some() {
        reasons.push("it is a bond and a bridge".to_owned());
    }
    for group in [bond, bridge].into_iter().flatten() {
        for member in strings(group, "interfaces") {
            if let Some(other) = enslaved.insert(member.to_owned(), owner.to_owned()).filter(|other| other != owner) {
                reasons.push(format!("`{member}` is a part of `{other}` already"));
            }
        }
    }
    let selects = bond.and_then(|bond| bond.get("deviceSelectors")).and_then(Value::as_array);
    if bond.is_some_and(|bond| strings(bond, "interfaces").next().is_some())
        && selects.is_some_and(|all| !all.is_empty())
    {
        reasons.push("the bond has `interfaces` and `deviceSelectors`".to_owned());
    }
}

fn interface(link: &Value, enslaved: &BTreeMap<String, String>, reasons: &mut Vec<String>) {
    let selector = link.get("deviceSelector");
    match (text(link, "interface"), selector) {
        (None, None) => reasons.push("it has neither `interface` nor `deviceSelector`".to_owned()),
        (Some(_), Some(_)) => reasons.push("it has both `interface` and `deviceSelector`".to_owned()),
        _ => {}
    }
    if selector.and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
        reasons.push("its `deviceSelector` is empty".to_owned());
    }
    if let Some(bond) = link.get("bond") {
        self::bond(bond, reasons);
    }
    if let Some(guard) = link.get("wireguard") {
        wireguard(guard, reasons);
    }
    for vlan in link.get("vlans").and_then(Value::as_array).into_iter().flatten() {
        addresses(vlan, &format!("VLAN {}: ", number(vlan, "vlanId")), reasons);
    }
    let addressed = ["addresses", "cidr", "vip"].iter().any(|key| link.get(*key).is_some())
        || link.get("dhcp") == Some(&Value::Bool(true));
    if let Some(owner) = text(link, "interface").and_then(|name| enslaved.get(name)).filter(|_| addressed) {
        reasons.push(format!("it is a part of `{owner}` and has addresses of its own"));
    }
    addresses(link, "", reasons);
    if link.get("cidr").is_some() {
        reasons.push("`cidr` is deprecated: write `addresses`".to_owned());
    }
    if let Some(vip) = link.get("vip") {
        let address = text(vip, "ip").unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            reasons.push(format!("the shared address `{address}` is no IP address"));
        }
    }
    for route in link.get("routes").and_then(Value::as_array).into_iter().flatten() {
        self::route(route, reasons);
    }
}

fn is_address(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

fn addresses(link: &Value, of: &str, reasons: &mut Vec<String>) {
    if strings(link, "addresses").next().is_some() && text(link, "cidr").is_some() {
        reasons.push(format!("{of}it has `addresses` and `cidr`"));
    }
    for address in strings(link, "addresses").chain(text(link, "cidr")).filter(|text| !is_address(text)) {
        reasons.push(format!("{of}`{address}` is no address such as 10.0.0.1/24"));
    }
}

fn route(route: &Value, reasons: &mut Vec<String>) {
    if let Some(network) = text(route, "network").filter(|text| text.parse::<IpNet>().is_err()) {
        reasons.push(format!("the route's network `{network}` is no network"));
    }
    for key in ["gateway", "source"] {
        if let Some(address) = text(route, key).filter(|text| text.parse::<IpAddr>().is_err()) {
            reasons.push(format!("the route's {key} `{address}` is no IP address"));
        }
    }
    if text(route, "network").is_none() && text(route, "gateway").is_none() {
        reasons.push("a route has neither `network` nor `gateway`".to_owned());
    }
}

/// What a bond's fields may say; empty is the first.
const CHOICES: [(&str, &[&str]); 8] = [
    ("mode", &["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"]),
    ("xmitHashPolicy", &["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4"]),
    ("lacpRate", &["slow", "fast"]),
    ("arpValidate", &["none", "active", "backup", "all", "filter", "filter-active", "filter-backup"]),
    ("arpAllTargets", &["any", "all"]),
    ("primaryReselect", &["always", "better", "failure"]),
    ("failOverMac", &["none", "active", "follow"]),
    ("adSelect", &["stable", "bandwidth", "count"]),
];

fn bond(bond: &Value, reasons: &mut Vec<String>) {
    for (key, choices) in CHOICES {
        if let Some(value) = text(bond, key).filter(|value| !choices.contains(value)) {
            reasons.push(format!("the bond's {key} `{value}` is none of {}", choices.join(", ")));
        }
    }
    let interval = number(bond, "miimon");
    for key in ["updelay", "downdelay"] {
        let delay = number(bond, key);
        if interval == 0 && delay != 0 {
            reasons.push(format!("the bond's {key} needs `miimon`"));
        } else if interval != 0 && !delay.is_multiple_of(interval) {
            reasons.push(format!("the bond's {key} is no multiple of `miimon`"));
        }
    }
    for key in ["arpIPTarget", "adActorSystem"] {
        if bond
            .get(key)
            .is_some_and(|value| value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty()))
        {
            reasons.push(format!("Talos does not support a bond's {key}"));
        }
    }
    let mode = text(bond, "mode").unwrap_or("balance-rr");
    let given = |key: &str| text(bond, key).is_some() || number(bond, key) > 0;
    let balanced = ["balance-alb", "balance-tlb"].contains(&mode);
    let watched = mode != "802.3ad" && !balanced;
    for (key, allowed) in [
        ("lacpRate", mode == "802.3ad"),
        ("arpValidate", watched),
        ("arpInterval", watched),
        ("primary", mode == "active-backup" || balanced),
        ("packetsPerSlave", mode == "balance-rr" || number(bond, "packetsPerSlave") == 1),
        ("tlbDynamicLb", balanced),
        ("adActorSysPrio", mode == "802.3ad"),
        ("adUserPortKey", mode == "802.3ad"),
    ] {
        if given(key) && !allowed {
            reasons.push(format!("a bond of the mode {mode} has no {key}"));
        }
    }
}

fn wireguard(guard: &Value, reasons: &mut Vec<String>) {
    let is_key = |key: &str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32);
    if !is_key(text(guard, "privateKey").unwrap_or_default()) {
        reasons.push("the private key is not the base64 of 32 bytes".to_owned());
    }
    for peer in guard.get("peers").and_then(Value::as_array).into_iter().flatten() {
        if !is_key(text(peer, "publicKey").unwrap_or_default()) {
            reasons.push("a peer's public key is not the base64 of 32 bytes".to_owned());
        }
        let endpoint = text(peer, "endpoint");
        if endpoint
            .is_some_and(|endpoint| endpoint.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()))
        {
            reasons.push(format!("the peer's endpoint `{}` has no port", endpoint.unwrap_or_default()));
        }
        for network in strings(peer, "allowedIPs").filter(|text| text.parse::<IpNet>().is_err()) {
            reasons.push(format!("the peer's network `{network}` is no network"));
        }
    }
}

/// What is dropped on the way into documents.
fn lost(link: &Value) -> Vec<&'static str> {
    let peers = link.pointer("/wireguard/peers").and_then(Value::as_array);
    let by_name =
        |peer: &Value| text(peer, "endpoint").is_some_and(|endpoint| endpoint.parse::<std::net::SocketAddr>().is_err());
    [
        (link.get("ignore") == Some(&Value::Bool(true)), "from Talos 1.12 on nothing says `ignore: true`"),
        (link.pointer("/bond/primary").is_some(), "from Talos 1.12 on nothing says a bond's `primary`"),
        (link.get("bridgePort").is_some(), "from Talos 1.12 on an interface is named in its bridge's `interfaces`"),
        (link.pointer("/vip/equinixMetal").is_some(), "from Talos 1.12 on nothing says `vip.equinixMetal`"),
        (peers.is_some_and(|peers| peers.iter().any(by_name)), "from Talos 1.12 on a peer's endpoint is an address"),
    ]
    .into_iter()
    .filter_map(|(is_lost, what)| is_lost.then_some(what))
    .collect()
}
