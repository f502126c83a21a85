//! Converts interfaces to documents, for contracts from 1.12 on (talhelper 3.1, `pkg/talos/networkconfig.go`).
//!
//! Settings that talhelper loses but documents support (`dummy`, `duidv6`, `vlanFiltering: false`, a VLAN's `cidr`, a
//! cloud provider's shared address) are kept; the checks warn about settings that documents do not support.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

/// The documents for `networkInterfaces`, in talhelper's order.
pub(super) fn documents(interfaces: &[Value]) -> Vec<Value> {
    let names = names(interfaces);
    let named: Vec<(&str, &Value)> = names.iter().map(String::as_str).zip(interfaces).collect();
    let each = |of: &dyn Fn(&str, &Value) -> Vec<Value>| -> Vec<Value> {
        named.iter().flat_map(|(name, interface)| of(name, interface)).collect()
    };
    [
        each(&|name, of| of.get("deviceSelector").and_then(|selector| alias(name, selector)).into_iter().collect()),
        each(&|name, of| members(name, of).into_iter().filter_map(|(name, selector)| alias(&name, selector)).collect()),
        each(&|name, of| of.get("bond").map(|bond| self::bond(name, of, bond)).into_iter().collect()),
        each(&|name, of| if truth(of, "dhcp") { dhcp(name, of.get("dhcpOptions")) } else { vec![] }),
        each(&|name, of| vip(name, of.get("vip")).into_iter().collect()),
        each(&|name, of| link(name, of).into_iter().collect()),
        each(&|name, of| list(of, "vlans").iter().flat_map(|of| vlan(name, of)).collect()),
        each(&|name, of| of.get("wireguard").map(|guard| wireguard(name, of, guard)).into_iter().collect()),
        each(&|name, of| of.get("bridge").map(|bridge| self::bridge(name, of, bridge)).into_iter().collect()),
    ]
    .concat()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn truth(value: &Value, key: &str) -> bool {
    value.get(key) == Some(&json!(true))
}

fn document(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1alpha1", "kind": kind, "name": name})
}

/// Copies set scalars to their names in the document.
fn copy(into: &mut Value, from: &Value, fields: &[(&str, &str)]) {
    for (key, under) in fields {
        let value = from.get(key).filter(|value| **value != json!("") && **value != json!(0) && !value.is_null());
        if let Some(value) = value {
            into[*under] = value.clone();
        }
    }
}

/// The names of the interfaces; one with only a selector gets a unique alias.
fn names(interfaces: &[Value]) -> Vec<String> {
    let mut used: BTreeSet<String> =
        interfaces.iter().filter_map(|interface| text(interface, "interface").map(str::to_owned)).collect();
    let mut next = |prefix: &str| {
        let free = (0..=interfaces.len()).map(|index| format!("{prefix}{index}")).find(|name| !used.contains(name));
        let free = free.unwrap_or_default();
        used.insert(free.clone());
        free
    };
    interfaces
        .iter()
        .map(|interface| match text(interface, "interface") {
            Some(name) => name.to_owned(),
            None if interface.get("bond").is_some() => next("bond"),
            None if interface.get("bridge").is_some() => next("br"),
            None if interface.get("wireguard").is_some() => next("wg"),
            None => next("ethSel"),
        })
        .collect()
}

fn alias(name: &str, selector: &Value) -> Option<Value> {
    let mut document = document("LinkAliasConfig", name);
    document["selector"] = json!({"match": expression(selector)?});
    Some(document)
}

/// Converts a device selector to the CEL expression of Talos 1.12 and later.
fn expression(selector: &Value) -> Option<String> {
    let globs = [
        ("hardwareAddr", "mac(link.hardware_addr)"),
        ("permanentAddr", "mac(link.permanent_addr)"),
        ("busPath", "link.bus_path"),
        ("driver", "link.driver"),
        ("pciID", "link.pciid"),
    ];
    let glob = |(key, of): (&str, &str)| text(selector, key).map(|pattern| format!(r#"glob("{pattern}", {of})"#));
    let mut clauses: Vec<String> = globs.into_iter().filter_map(glob).collect();
    if let Some(physical) = selector.get("physical").and_then(Value::as_bool) {
        clauses.push(format!("link.type {} 1", if physical { "==" } else { "!=" }));
    }
    (!clauses.is_empty()).then(|| clauses.join(" && "))
}

/// The bond members with only a selector, with their aliases.
fn members<'v>(name: &str, interface: &'v Value) -> Vec<(String, &'v Value)> {
    let selectors = interface.get("bond").map(|bond| list(bond, "deviceSelectors")).unwrap_or_default();
    selectors.iter().enumerate().map(|(index, selector)| (format!("{name}-m{index}"), selector)).collect()
}

/// Names of bond fields in the legacy config and in the document.
const BOND: [(&str, &str); 24] = [
    ("mode", "bondMode"),
    ("miimon", "miimon"),
    ("updelay", "updelay"),
    ("downdelay", "downdelay"),
    ("useCarrier", "useCarrier"),
    ("xmitHashPolicy", "xmitHashPolicy"),
    ("arpInterval", "arpInterval"),
    ("arpIPTarget", "arpIpTargets"),
    ("arpValidate", "arpValidate"),
    ("arpAllTargets", "arpAllTargets"),
    ("lacpRate", "lacpRate"),
    ("failOverMac", "failOverMac"),
    ("adSelect", "adSelect"),
    ("adActorSysPrio", "adActorSysPrio"),
    ("adUserPortKey", "adUserPortKey"),
    ("primaryReselect", "primaryReselect"),
    ("resendIgmp", "resendIGMP"),
    ("minLinks", "minLinks"),
    ("lpInterval", "lpInterval"),
    ("packetsPerSlave", "packetsPerSlave"),
    ("numPeerNotif", "numPeerNotif"),
    ("tlbDynamicLb", "tlbLogicalLb"),
    ("allSlavesActive", "allSlavesActive"),
    ("peerNotifyDelay", "peerNotifDelay"),
];

fn bond(name: &str, interface: &Value, bond: &Value) -> Value {
    let mut document = document("BondConfig", name);
    let members = members(name, interface).into_iter().map(|(name, _)| json!(name));
    let links: Vec<Value> = list(bond, "interfaces").iter().cloned().chain(members).collect();
    if !links.is_empty() {
        document["links"] = json!(links);
    }
    copy(&mut document, bond, &BOND);
    common(&mut document, interface);
    document
}

fn bridge(name: &str, interface: &Value, bridge: &Value) -> Value {
    let mut document = document("BridgeConfig", name);
    let links = list(bridge, "interfaces");
    if !links.is_empty() {
        document["links"] = json!(links);
    }
    if let Some(enabled) = bridge.pointer("/stp/enabled") {
        document["stp"] = json!({"enabled": enabled});
    }
    if let Some(filtering) = bridge.pointer("/vlan/vlanFiltering") {
        document["vlan"] = json!({"filtering": filtering});
    }
    common(&mut document, interface);
    document
}

fn wireguard(name: &str, interface: &Value, guard: &Value) -> Value {
    let mut document = document("WireguardConfig", name);
    let same = ["privateKey", "listenPort", "firewallMark"].map(|key| (key, key));
    copy(&mut document, guard, &same);
    let peer = |peer: &Value| {
        let mut out = json!({});
        let same = ["publicKey", "persistentKeepaliveInterval"].map(|key| (key, key));
        copy(&mut out, peer, &same);
        if text(peer, "endpoint").is_some_and(|endpoint| endpoint.parse::<std::net::SocketAddr>().is_ok()) {
            copy(&mut out, peer, &[("endpoint", "endpoint")]);
        }
        if !list(peer, "allowedIPs").is_empty() {
            out["allowedIPs"] = json!(list(peer, "allowedIPs"));
        }
        out
    };
    let peers: Vec<Value> = list(guard, "peers").iter().map(peer).collect();
    if !peers.is_empty() {
        document["peers"] = json!(peers);
    }
    common(&mut document, interface);
    document
}

/// The document of the link itself, if it has settings.
fn link(name: &str, interface: &Value) -> Option<Value> {
    let special = ["bond", "bridge", "wireguard"].iter().any(|key| interface.get(key).is_some());
    let dummy = truth(interface, "dummy");
    let mut document = document(if dummy { "DummyLinkConfig" } else { "LinkConfig" }, name);
    let bare = document.clone();
    common(&mut document, interface);
    (!special && (dummy || document != bare)).then_some(document)
}

fn vlan(parent: &str, vlan: &Value) -> Vec<Value> {
    let Some(id) = vlan.get("vlanId").and_then(Value::as_u64).filter(|id| *id > 0) else { return vec![] };
    let name = format!("{parent}.{id}");
    let mut document = document("VLANConfig", &name);
    document["vlanID"] = json!(id);
    document["parent"] = json!(parent);
    common(&mut document, vlan);
    let mut documents = vec![document];
    if truth(vlan, "dhcp") {
        documents.extend(dhcp(&name, vlan.get("dhcpOptions")));
    }
    documents.extend(vip(&name, vlan.get("vip")));
    documents
}

fn dhcp(name: &str, options: Option<&Value>) -> Vec<Value> {
    let flag = |key: &str| options.and_then(|options| options.get(key)).and_then(Value::as_bool);
    let with_metric = |kind: &str| {
        let mut document = document(kind, name);
        if let Some(options) = options {
            copy(&mut document, options, &[("routeMetric", "routeMetric")]);
        }
        document
    };
    let mut documents = Vec::new();
    if flag("ipv4").unwrap_or(true) {
        documents.push(with_metric("DHCPv4Config"));
    }
    if flag("ipv6").unwrap_or(false) {
        let mut document = with_metric("DHCPv6Config");
        if let Some(duid) = options.and_then(|options| text(options, "duidv6")) {
            document["clientIdentifier"] = json!("duid");
            document["duidRaw"] = json!(duid);
        }
        documents.push(document);
    }
    documents
}

fn vip(link: &str, vip: Option<&Value>) -> Option<Value> {
    let address = text(vip?, "ip")?;
    let token = vip?.pointer("/hcloud/apiToken");
    let mut document = document(if token.is_some() { "HCloudVIPConfig" } else { "Layer2VIPConfig" }, address);
    document["link"] = json!(link);
    if let Some(token) = token {
        document["apiToken"] = token.clone();
    }
    Some(document)
}

/// Settings of all kinds of links.
fn common(document: &mut Value, from: &Value) {
    copy(document, from, &[("mtu", "mtu")]);
    let cidr = text(from, "cidr").map(|cidr| json!(cidr));
    let addresses: Vec<Value> = list(from, "addresses")
        .iter()
        .chain(cidr.as_ref())
        .filter_map(Value::as_str)
        .map(|address| json!({"address": with_prefix(address)}))
        .collect();
    if !addresses.is_empty() {
        document["addresses"] = json!(addresses);
    }
    let routes: Vec<Value> = list(from, "routes").iter().map(route).collect();
    if !routes.is_empty() {
        document["routes"] = json!(routes);
    }
}

/// Adds the full prefix length to an address without one.
fn with_prefix(address: &str) -> String {
    match (address.parse::<IpNet>(), address.parse::<IpAddr>()) {
        (Ok(network), _) => network.to_string(),
        (_, Ok(address)) => IpNet::from(address).to_string(),
        _ => address.to_owned(),
    }
}

/// Converts a route; the default route has no destination in a document.
fn route(route: &Value) -> Value {
    let mut out = json!({});
    if let Some(network) = text(route, "network").map(with_prefix) {
        let is_default = network.parse::<IpNet>().is_ok_and(|net| net.prefix_len() == 0 && net.addr().is_unspecified());
        if !is_default {
            out["destination"] = json!(network);
        }
    }
    copy(&mut out, route, &["gateway", "source", "metric", "mtu"].map(|key| (key, key)));
    out
}
