//! Documents about the network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::super::typed::Url;
use super::document::{Document, get, list, text};
use super::syntax::{expression_problem, is_subnet_or_address, is_wireguard_key};

/// Priorities of the kernel's default routing rules.
const RESERVED_PRIORITIES: [u32; 4] = [0, 32500, 32766, 32767];

/// Required fields by kind.
const REQUIRED: [(&str, &[&str]); 23] = [
    ("BGPInstanceConfig", &["name", "localASN"]),
    ("BlackholeRouteConfig", &["name"]),
    ("BondConfig", &["name", "links", "bondMode"]),
    ("BridgeConfig", &["name"]),
    ("DHCPv4Config", &["name"]),
    ("DHCPv6Config", &["name"]),
    ("DummyLinkConfig", &["name"]),
    ("EthernetConfig", &["name"]),
    ("HCloudVIPConfig", &["name", "link", "apiToken"]),
    ("HTTPProbeConfig", &["name", "url"]),
    ("Layer2VIPConfig", &["name", "link"]),
    ("LinkAliasConfig", &["name", "selector.match"]),
    ("LinkConfig", &["name"]),
    ("NetworkRuleConfig", &["name", "portSelector.ports"]),
    ("RoutingRuleConfig", &["name"]),
    ("StaticHostConfig", &["name", "hostnames"]),
    ("TCPProbeConfig", &["name", "endpoint"]),
    ("VLANConfig", &["name", "parent"]),
    ("VRFConfig", &["name"]),
    ("VethConfig", &["name", "peer.name"]),
    ("WireguardConfig", &["name", "privateKey"]),
    ("SideroLinkConfig", &["apiUrl"]),
    ("EventSinkConfig", &["endpoint"]),
];

pub(super) fn check(document: &mut Document<'_, '_>, kind: &str) {
    if let Some((_, fields)) = REQUIRED.iter().find(|(known, _)| *known == kind) {
        document.require(fields);
    }
    match kind {
        "BGPInstanceConfig" => bgp(document),
        "BlackholeRouteConfig" => {
            named_by(document, "an address prefix", |name| name.contains('/') && is_subnet_or_address(name));
        }
        "BondConfig" => bond(document),
        "DHCPv4Config" | "DHCPv6Config" => dhcp(document),
        "HCloudVIPConfig" | "Layer2VIPConfig" | "StaticHostConfig" => {
            named_by(document, "an IP address", |name| name.parse::<IpAddr>().is_ok());
        }
        "HostnameConfig" => hostname(document),
        "HTTPProbeConfig" | "TCPProbeConfig" => probe(document),
        "KubeSpanConfig" => kubespan(document),
        "LinkAliasConfig" => alias(document),
        "NetworkRuleConfig" => ports(document),
        "ResolverConfig" => resolver(document),
        "RoutingRuleConfig" => rule(document),
        "SideroLinkConfig" => url(document, "apiUrl", &["https", "grpc"]),
        "TimeSyncConfig" => time(document),
        "VethConfig" => veth(document),
        "VLANConfig" if !(1..=4094).contains(&document.number("vlanID")) => {
            document.error("vlanID", "must be between 1 and 4094");
        }
        "VRFConfig" => {
            let table = document.text("table");
            if matches!(table, "" | "unspec" | "local" | "main" | "default") {
                document.error("table", format!("the table {table} is reserved"));
            }
        }
        "WireguardConfig" => wireguard(document),
        "EventSinkConfig" => {
            let endpoint = document.text("endpoint");
            if !endpoint.is_empty()
                && !endpoint.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.starts_with('['))
            {
                document.error("endpoint", format!("\"{endpoint}\" is not HOST:PORT"));
            }
        }
        _ => {}
    }
    link(document, "");
    if kind == "VethConfig" {
        link(document, "peer.");
    }
}

fn named_by(document: &mut Document<'_, '_>, what: &str, is: fn(&str) -> bool) {
    let name = document.text("name");
    if !name.is_empty() && !is(name) {
        document.error("name", format!("\"{name}\" is not {what}, which documents of this kind use as name"));
    }
}

/// A URL of one of these schemes without a path.
pub(super) fn url(document: &mut Document<'_, '_>, field: &str, schemes: &[&str]) {
    let Some(url) = Url::parse(document.text(field)).filter(|_| document.has(field)) else { return };
    if !schemes.contains(&url.scheme) {
        document.error(field, format!("the scheme must be one of {}", schemes.join(", ")));
    } else if !matches!(url.path, "" | "/") {
        document.error(field, "the path must be empty");
    }
}

fn unspecified(text: &str) -> bool {
    let address = text.split('/').next().unwrap_or_default();
    address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// Addresses and routes, which all kinds of links have.
fn link(document: &mut Document<'_, '_>, within: &str) {
    for (index, address) in document.list(&format!("{within}addresses")).iter().enumerate() {
        let address = text(address, "address");
        if address.is_empty() || unspecified(address) {
            document.error(format!("{within}addresses[{index}].address"), "must be an address with its prefix length");
        }
    }
    for (index, route) in document.list(&format!("{within}routes")).iter().enumerate() {
        for field in ["destination", "gateway", "source"] {
            if unspecified(text(route, field)) {
                let message = "must be a valid address; leave the destination out for a default route";
                document.error(format!("{within}routes[{index}].{field}"), message);
            }
        }
    }
}

fn bond(document: &mut Document<'_, '_>) {
    if document.text("bondMode") == "802.3ad" {
        for field in ["miimon", "updelay", "downdelay"] {
            if !document.has(field) {
                document.warn(field, format!("{field} is not set, which is recommended for a bond in 802.3ad mode"));
            }
        }
    }
}

fn dhcp(document: &mut Document<'_, '_>) {
    let by_duid = document.text("clientIdentifier") == "duid";
    if by_duid != document.has("duidRaw") {
        document.error("duidRaw", "is required by the clientIdentifier duid, and only valid with it");
    }
}

fn hostname(document: &mut Document<'_, '_>) {
    let (auto, name) = (document.text("auto"), document.text("hostname"));
    if auto.is_empty() && name.is_empty() {
        document.error("hostname", "either 'auto' or 'hostname' must be set");
    }
    if !matches!(auto, "" | "off") && !name.is_empty() {
        document.error("hostname", "'auto' and 'hostname' cannot be set at the same time");
    }
    if auto == "talos-addr" {
        document.error("auto", "must be off or stable");
    }
    let first = name.split('.').next().unwrap_or_default();
    if name.len() > 253 || (!name.is_empty() && (first.is_empty() || first.len() > 63)) {
        document.error("hostname", format!("\"{name}\" is not a hostname"));
    }
}

fn probe(document: &mut Document<'_, '_>) {
    document.reject_negative(&["interval", "timeout"]);
    if document.number("failureThreshold") < 0 {
        document.error("failureThreshold", "cannot be negative");
    }
    if let Some(url) = Url::parse(document.text("url")).filter(|_| document.has("url"))
        && (!matches!(url.scheme, "http" | "https") || url.host.is_empty())
    {
        document.error("url", "must be an http or https URL with a host");
    }
}

fn kubespan(document: &mut Document<'_, '_>) {
    if document.has("mtu") && document.number("mtu") < 1280 {
        document.error("mtu", "should be at least 1280");
    }
    for (index, filter) in document.list("filters.endpoints").iter().enumerate() {
        if !is_subnet_or_address(filter.as_str().unwrap_or_default()) {
            document.error(format!("filters.endpoints[{index}]"), format!("{filter} is not a subnet"));
        }
    }
}

fn alias(document: &mut Document<'_, '_>) {
    let name = document.text("name");
    if let Some((prefix, verb)) = name.split_once('%')
        && (verb != "d" || prefix.is_empty())
    {
        document.error("name", format!("\"{name}\" should end in %d"));
    }
    expression(document, "selector.match");
}

/// Checks a CEL expression, if the field is set.
pub(super) fn expression(document: &mut Document<'_, '_>, field: &str) {
    if let Some(problem) = expression_problem(document.text(field)).filter(|_| document.has(field)) {
        document.error(field, problem);
    }
}

fn ports(document: &mut Document<'_, '_>) {
    let range = |ports: &Value| match ports {
        Value::Number(number) => number.as_u64().map(|port| (port, port)),
        other => other
            .as_str()
            .and_then(|text| text.split_once('-'))
            .and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?))),
    };
    let mut ranges: Vec<(u64, u64)> = document.list("portSelector.ports").iter().filter_map(range).collect();
    ranges.sort_unstable();
    if let Some((low, high)) = ranges.iter().find(|(low, high)| low > high) {
        document.error("portSelector.ports", format!("{low}-{high} is not a range"));
    } else if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        document.error("portSelector.ports", format!("ranges overlap at port {}", pair[1].0));
    }
    for (index, rule) in document.list("ingress").iter().enumerate() {
        if text(rule, "subnet").is_empty() {
            document.error(format!("ingress[{index}].subnet"), "is required");
        }
    }
}

fn resolver(document: &mut Document<'_, '_>) {
    if document.has("hostDNS") && !document.is_true("hostDNS.enabled") {
        for field in ["hostDNS.forwardKubeDNSToHost", "hostDNS.resolveMemberNames"] {
            if document.is_true(field) {
                document.error(field, "cannot be enabled while hostDNS.enabled is false");
            }
        }
    }
    let servers = document.list("nameservers");
    let mut encrypted = 0;
    for (index, server) in servers.iter().enumerate() {
        let plain = matches!(text(server, "protocol"), "" | "Do53");
        encrypted += usize::from(!plain);
        if plain != text(server, "tlsServerName").is_empty() {
            let message = "is required by encrypted DNS (DoT, DoH), and only valid with it";
            document.error(format!("nameservers[{index}].tlsServerName"), message);
        }
        if text(server, "address").is_empty() {
            document.error(format!("nameservers[{index}].address"), "must be an IP address");
        }
    }
    if encrypted > 0 && encrypted == servers.len() {
        let message = "are all encrypted: verifying their certificates requires a synchronized clock, but a booting node \
                       needs DNS to find its time servers";
        document.warn("nameservers", message);
    }
}

fn rule(document: &mut Document<'_, '_>) {
    let name = document.text("name");
    match name.parse::<u32>() {
        _ if name.is_empty() => {}
        Ok(priority) if RESERVED_PRIORITIES.contains(&priority) => {
            document.error("name", format!("the priority {priority} is reserved"));
        }
        Ok(_) => {}
        Err(_) => document.error("name", format!("\"{name}\" is not a priority, which routing rules use as name")),
    }
    let unicast = matches!(document.text("action"), "" | "unspec" | "unicast");
    if matches!(document.text("table"), "" | "unspec") && unicast {
        document.error("table", "either a table or an action that is not unicast is required");
    }
    if document.number("fwMask") != 0 && document.number("fwMark") == 0 {
        document.error("fwMask", "requires fwMark");
    }
}

fn time(document: &mut Document<'_, '_>) {
    document.reject_negative(&["bootTimeout"]);
    if document.has("ntp") && document.has("ptp") {
        document.error("ntp", "ntp and ptp are mutually exclusive");
    }
    if document.is_true("ntp.useNTS") {
        for (index, server) in document.list("ntp.servers").iter().enumerate() {
            if server.as_str().is_some_and(|server| server.parse::<IpAddr>().is_ok()) {
                document
                    .error(format!("ntp.servers[{index}]"), format!("NTS requires a hostname, {server} is an address"));
            }
        }
    }
}

fn veth(document: &mut Document<'_, '_>) {
    for field in ["name", "peer.name"] {
        let name = document.text(field);
        let clean = name.len() <= 15
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        if !clean {
            document.error(
                field,
                format!("\"{name}\" is not a valid link name: at most 15 bytes without slash, colon and space"),
            );
        }
    }
    if !document.text("name").is_empty() && document.text("name") == document.text("peer.name") {
        document.error("peer.name", "must differ from the name");
    }
}

fn wireguard(document: &mut Document<'_, '_>) {
    if document.has("privateKey") && !is_wireguard_key(document.text("privateKey")) {
        document.error("privateKey", "is not a WireGuard key");
    }
    if !(0..=65535).contains(&document.number("listenPort")) {
        document.error("listenPort", "must be between 0 and 65535");
    }
    for (index, peer) in document.list("peers").iter().enumerate() {
        if !is_wireguard_key(text(peer, "publicKey")) {
            document.error(format!("peers[{index}].publicKey"), "is not a WireGuard key");
        }
        if get(peer, "presharedKey").is_some() && !is_wireguard_key(text(peer, "presharedKey")) {
            document.error(format!("peers[{index}].presharedKey"), "is not a WireGuard key");
        }
        if text(peer, "persistentKeepaliveInterval").starts_with('-') {
            document.error(format!("peers[{index}].persistentKeepaliveInterval"), "cannot be negative");
        }
    }
}

fn bgp(document: &mut Document<'_, '_>) {
    if document.text("routerID").contains(':') {
        document.error("routerID", "must be an IPv4 address");
    }
    let neighbors = document.list("neighbors");
    if neighbors.is_empty() {
        document.warn("neighbors", "is empty");
    }
    let mut seen = BTreeSet::new();
    for (index, neighbor) in neighbors.iter().enumerate() {
        let path = format!("neighbors[{index}]");
        let (address, link) = (text(neighbor, "address"), text(neighbor, "link"));
        if address.is_empty() == link.is_empty() {
            document.error(&path, "exactly one of address or link must be set");
        } else if !seen.insert((address, link)) {
            document.error(&path, format!("duplicate neighbor {address}{link}"));
        }
        for field in ["holdTime", "bfd.transmitInterval", "bfd.receiveInterval"] {
            if text(neighbor, field).starts_with('-') {
                document.error(format!("{path}.{field}"), "must not be negative");
            }
        }
        if get(neighbor, "bfd").is_some() && !document.text("vrf").is_empty() {
            document.error(format!("{path}.bfd"), "is not supported in a VRF");
        }
    }
    imports(document);
}

fn imports(document: &mut Document<'_, '_>) {
    let mut seen = BTreeSet::new();
    for (index, route) in document.list("importRoutes").iter().enumerate() {
        let path = format!("importRoutes[{index}]");
        let instance = text(route, "bgpInstance");
        if instance.is_empty() || instance == document.text("name") {
            document.error(format!("{path}.bgpInstance"), "must be another instance");
        } else if !seen.insert(instance) {
            document.error(format!("{path}.bgpInstance"), format!("duplicate instance \"{instance}\""));
        }
        if list(route, "prefixes").is_empty() {
            document.error(format!("{path}.prefixes"), "is required");
        }
    }
}
