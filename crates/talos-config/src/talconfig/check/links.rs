//! Validates network interfaces (Talos 1.14, `v1alpha1_validation.go`) and warns about settings that documents lack.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde_json::Value;

use super::at;
use crate::talconfig::model::Section;
use crate::talconfig::types::TalconfigFindings;
use talos_schema::Contract;
use yaml::{Diagnostic, Location};

pub(super) fn check(contract: Contract, section: &Section, holder: &Location, found: &mut TalconfigFindings) {
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
                    Diagnostic::at_location(place.clone(), format!("interface {}: {reason}", name(link)))
                        .with_hint("the setting is dropped, like in talhelper; remove it"),
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

/// An interface may be a member of only one bond or bridge.
fn members(link: &Value, enslaved: &mut BTreeMap<String, String>, reasons: &mut Vec<String>) {
    let owner = text(link, "interface").unwrap_or_default();
    let (bond, bridge) = (link.get("bond"), link.get("bridge"));
    if bond.is_some() && bridge.is_some() {
        reasons.push("it is both a bond and a bridge".to_owned());
    }
    for group in [bond, bridge].into_iter().flatten() {
        for member in strings(group, "interfaces") {
            if let Some(other) = enslaved.insert(member.to_owned(), owner.to_owned()).filter(|other| other != owner) {
                reasons.push(format!("`{member}` is already a member of `{other}`"));
            }
        }
    }
    let selects = bond.and_then(|bond| bond.get("deviceSelectors")).and_then(Value::as_array);
    if bond.is_some_and(|bond| strings(bond, "interfaces").next().is_some())
        && selects.is_some_and(|all| !all.is_empty())
    {
        reasons.push("the bond has both `interfaces` and `deviceSelectors`".to_owned());
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
        reasons.push(format!("it is a member of `{owner}` and must not have addresses"));
    }
    addresses(link, "", reasons);
    if link.get("cidr").is_some() {
        reasons.push("`cidr` is deprecated; use `addresses`".to_owned());
    }
    if let Some(vip) = link.get("vip") {
        let address = text(vip, "ip").unwrap_or_default();
        if address.parse::<IpAddr>().is_err() {
            reasons.push(format!("invalid shared IP address `{address}`"));
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
        reasons.push(format!("{of}it has both `addresses` and `cidr`"));
    }
    for address in strings(link, "addresses").chain(text(link, "cidr")).filter(|text| !is_address(text)) {
        reasons.push(format!("{of}invalid address `{address}`: expected the form 10.0.0.1/24"));
    }
}

fn route(route: &Value, reasons: &mut Vec<String>) {
    if let Some(network) = text(route, "network").filter(|text| text.parse::<IpNet>().is_err()) {
        reasons.push(format!("invalid network `{network}` of a route"));
    }
    for key in ["gateway", "source"] {
        if let Some(address) = text(route, key).filter(|text| text.parse::<IpAddr>().is_err()) {
            reasons.push(format!("invalid {key} `{address}` of a route: expected an IP address"));
        }
    }
    if text(route, "network").is_none() && text(route, "gateway").is_none() {
        reasons.push("a route has neither `network` nor `gateway`".to_owned());
    }
}

/// The values of bond fields; the first is the default.
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
            reasons.push(format!("unknown {key} `{value}` of the bond: expected one of {}", choices.join(", ")));
        }
    }
    let interval = number(bond, "miimon");
    for key in ["updelay", "downdelay"] {
        let delay = number(bond, key);
        if interval == 0 && delay != 0 {
            reasons.push(format!("{key} of the bond requires `miimon`"));
        } else if interval != 0 && !delay.is_multiple_of(interval) {
            reasons.push(format!("{key} of the bond must be a multiple of `miimon`"));
        }
    }
    for key in ["arpIPTarget", "adActorSystem"] {
        if bond
            .get(key)
            .is_some_and(|value| value.as_str() != Some("") && value.as_array().is_none_or(|list| !list.is_empty()))
        {
            reasons.push(format!("Talos does not support {key} of a bond"));
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
            reasons.push(format!("the bond mode {mode} does not support {key}"));
        }
    }
}

fn wireguard(guard: &Value, reasons: &mut Vec<String>) {
    let is_key = |key: &str| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32);
    if !is_key(text(guard, "privateKey").unwrap_or_default()) {
        reasons.push("invalid private key: expected the base64 of 32 bytes".to_owned());
    }
    for peer in guard.get("peers").and_then(Value::as_array).into_iter().flatten() {
        if !is_key(text(peer, "publicKey").unwrap_or_default()) {
            reasons.push("invalid public key of a peer: expected the base64 of 32 bytes".to_owned());
        }
        let endpoint = text(peer, "endpoint");
        if endpoint
            .is_some_and(|endpoint| endpoint.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()))
        {
            reasons.push(format!("invalid endpoint `{}` of a peer: expected HOST:PORT", endpoint.unwrap_or_default()));
        }
        for network in strings(peer, "allowedIPs").filter(|text| text.parse::<IpNet>().is_err()) {
            reasons.push(format!("invalid network `{network}` of a peer"));
        }
    }
}

/// Settings that documents do not support.
fn lost(link: &Value) -> Vec<&'static str> {
    let peers = link.pointer("/wireguard/peers").and_then(Value::as_array);
    let by_name =
        |peer: &Value| text(peer, "endpoint").is_some_and(|endpoint| endpoint.parse::<std::net::SocketAddr>().is_err());
    [
        (link.get("ignore") == Some(&Value::Bool(true)), "Talos 1.12 and later do not support `ignore: true`"),
        (link.pointer("/bond/primary").is_some(), "Talos 1.12 and later do not support `primary` of a bond"),
        (
            link.get("bridgePort").is_some(),
            "Talos 1.12 and later do not support `bridgePort`; list the interface in `interfaces` of the bridge",
        ),
        (link.pointer("/vip/equinixMetal").is_some(), "Talos 1.12 and later do not support `vip.equinixMetal`"),
        (
            peers.is_some_and(|peers| peers.iter().any(by_name)),
            "Talos 1.12 and later require an IP address as endpoint of a peer",
        ),
    ]
    .into_iter()
    .filter_map(|(is_lost, what)| is_lost.then_some(what))
    .collect()
}
