//! Validates the fields of a node.

use std::net::IpAddr;

use lazy_regex::regex_is_match;
use serde_json::{Map, Value};

use super::names::{is_domain, is_hostname, is_image, label_value, qualified_name, taint};
use super::{at, links};
use crate::talconfig::model::{Machine, Section, Talconfig};
use crate::talconfig::types::TalconfigFindings;
use talos_schema::Contract;
use yaml::{Diagnostic, Location};

pub(super) fn check(talconfig: &Talconfig, machine: &Machine, found: &mut TalconfigFindings) {
    let section = &machine.section;
    let place = |key: &str| at(section, key, &machine.at);
    let mut wrong = |key: &str, message: String| found.errors.error(place(key), message);
    match machine.hostname.as_str() {
        "" => wrong("hostname", "the node has no `hostname`".to_owned()),
        name if !is_hostname(name) => wrong("hostname", format!("invalid host name `{name}`")),
        _ => {}
    }
    if machine.addresses.is_empty() {
        wrong("ipAddress", "the node has no `ipAddress`".to_owned());
    }
    for address in machine.addresses.iter().filter(|text| text.parse::<IpAddr>().is_err()) {
        // Digits and dots are a misspelled address, although they may also form a domain.
        if !is_domain(address) || address.chars().all(|c| c.is_ascii_digit() || c == '.') {
            wrong("ipAddress", format!("invalid IP address `{address}`"));
        }
    }
    if section.text("installDisk").is_none() && section.object("installDiskSelector").is_none() {
        wrong("installDisk", "the node has neither `installDisk` nor `installDiskSelector`".to_owned());
    }
    if let Some(url) = section.text("talosImageURL").filter(|url| !is_image(url)) {
        wrong(
            "talosImageURL",
            format!("invalid `talosImageURL` `{url}`: expected an image with registry, without tag and digest"),
        );
    }
    for server in section.strings("nameservers").iter().filter(|text| text.parse::<IpAddr>().is_err()) {
        wrong("nameservers", format!("invalid name server `{server}`: expected an IP address"));
    }
    disk_selector(section, &machine.at, found);
    node_maps(section, &machine.at, found);
    disks(section, &machine.at, found);
    files(machine, found);
    machine_spec(section, &machine.at, found);
    firewall(section, &machine.at, found);
    volumes(section, &machine.at, found);
    let own_registry = talconfig.factory.text("registryURL").is_some_and(|url| url != "factory.talos.dev");
    if !own_registry && !section.flag("noSchematicValidate") {
        schematic(talconfig.contract, section, &machine.at, found);
    }
    links::check(talconfig.contract, section, &machine.at, found);
}

/// Whether a text is a number with an optional comparison and unit.
fn is_size(text: &str) -> bool {
    regex_is_match!(r"(?i)^(?:>=|<=|>|<|==)?\s*\d+(?:\.\d+)?\s*(?:[kmgtpe]?i?b?)$", text)
}

fn disk_selector(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let Some(selector) = section.object("installDiskSelector") else { return };
    let place = at(section, "installDiskSelector", holder);
    for (key, value) in texts(selector).filter(|(_, value)| !value.is_empty()) {
        let wrong = match key {
            "name" => Some("Talos does not support selecting a disk by name".to_owned()),
            "type" if !["ssd", "hdd", "nvme", "sd"].contains(&value) => {
                Some(format!("unknown disk type `{value}`: expected ssd, hdd, nvme or sd"))
            }
            "size" if !is_size(value.trim()) => {
                Some(format!("invalid disk size `{value}`: expected a size such as `>= 400GB`"))
            }
            _ => None,
        };
        if let Some(message) = wrong {
            found.errors.error(place.clone(), message);
        }
    }
}

fn texts(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

/// Kubernetes' limit for the total size of annotations.
const ANNOTATIONS: usize = 256 << 10;

fn node_maps(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let is_template = |text: &str| text.contains("{{") || text.contains("}}");
    for key in ["nodeLabels", "nodeAnnotations", "nodeTaints"] {
        let mut size = 0;
        for (name, value) in section.object(key).into_iter().flat_map(texts) {
            size += name.len() + value.len();
            if key != "nodeTaints" && is_template(value) {
                continue;
            }
            let checked = qualified_name(name).and_then(|()| match key {
                "nodeLabels" => label_value(value),
                "nodeTaints" => taint(value),
                _ => Ok(()),
            });
            if let Err(reason) = checked {
                found.errors.error(at(section, key, holder), format!("`{key}.{name}`: {reason}"));
            }
        }
        if key == "nodeAnnotations" && size > ANNOTATIONS {
            found
                .errors
                .error(at(section, key, holder), format!("`{key}` have {size} bytes, the limit is {ANNOTATIONS}"));
        }
    }
}

fn disks(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let disks = section.list("machineDisks");
    let place = at(section, "machineDisks", holder);
    if !disks.is_empty() {
        let message = "`machineDisks` is deprecated; use `userVolumes`";
        found.warnings.push(Diagnostic::at_location(place.clone(), message));
    }
    for disk in disks {
        let partitions = disk.get("partitions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let last = partitions.len().saturating_sub(1);
        for partition in partitions.iter().take(last) {
            if partition.get("size").is_none_or(|size| size.as_u64() == Some(0)) {
                let mount = partition.get("mountpoint").and_then(Value::as_str).unwrap_or_default();
                found.errors.error(
                    place.clone(),
                    format!("the partition for {mount} uses the rest of the disk but is not the last one"),
                );
            }
        }
    }
}

fn files(machine: &Machine, found: &mut TalconfigFindings) {
    for (index, file) in machine.files.iter().enumerate() {
        let section = &machine.section;
        let place = section.item_at("machineFiles", index).unwrap_or(&machine.at).clone();
        let text = |key: &str| file.get(key).and_then(Value::as_str).unwrap_or_default();
        if !["create", "append", "overwrite"].contains(&text("op")) {
            let op = text("op");
            found
                .errors
                .error(place.clone(), format!("unknown `op` `{op}` of the file: expected create, append or overwrite"));
        }
        if !text("path").starts_with('/') {
            found.errors.error(place, format!("the path `{}` of the file is not absolute", text("path")));
        }
    }
}

fn machine_spec(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let Some(spec) = section.object("machineSpec") else { return };
    let place = at(section, "machineSpec", holder);
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let suffixes: &[&str] = match text("bootMethod") {
        "" | "iso" => &["iso"],
        "disk-image" => &["raw.zst", "raw.xz", "raw.tar.gz", "vhd.xz", "raw.gz", "ova", "qcow2"],
        "pxe" => &[],
        other => {
            found.errors.error(place, format!("unknown boot method `{other}`: expected iso, disk-image or pxe"));
            return;
        }
    };
    let suffix = text("imageSuffix");
    if !suffix.is_empty() && !suffixes.contains(&suffix) {
        let method = if text("bootMethod").is_empty() { "iso" } else { text("bootMethod") };
        found.errors.error(place, format!("the boot method `{method}` has no images with the suffix `{suffix}`"));
    }
}

fn firewall(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let Some(firewall) = section.object("ingressFirewall") else { return };
    let place = at(section, "ingressFirewall", holder);
    let mut wrong = |message: String| found.errors.error(place.clone(), message);
    let action = firewall.get("defaultAction").and_then(Value::as_str).unwrap_or("accept");
    if !["accept", "block"].contains(&action.to_lowercase().as_str()) {
        wrong(format!("unknown default action `{action}`: expected accept or block"));
    }
    for (index, rule) in firewall.get("rules").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = |pointer: &str| rule.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/name").is_empty() {
            wrong(format!("firewall rule {index} has no `name`"));
        }
        let protocol = text("/portSelector/protocol");
        if !["tcp", "udp", "icmp", "icmpv6"].contains(&protocol.to_lowercase().as_str()) {
            wrong(format!("firewall rule {index}: unknown protocol `{protocol}`"));
        }
        let ports =
            rule.pointer("/portSelector/ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if ports.is_empty() {
            wrong(format!("firewall rule {index} has no `portSelector.ports`"));
        }
        for port in ports.iter().filter(|port| !is_port_range(port)) {
            wrong(format!("firewall rule {index}: invalid port or port range {port}"));
        }
        for source in rule.get("ingress").and_then(Value::as_array).into_iter().flatten() {
            for key in ["subnet", "except"] {
                let Some(net) = source.get(key).and_then(Value::as_str) else { continue };
                if net.parse::<ipnet::IpNet>().is_err() {
                    wrong(format!("firewall rule {index}: invalid {key} `{net}`: expected a CIDR"));
                }
            }
        }
    }
}

fn is_port_range(port: &Value) -> bool {
    if let Some(port) = port.as_u64() {
        return u16::try_from(port).is_ok();
    }
    let text = port.as_str().unwrap_or_default();
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    matches!((low.parse::<u16>(), high.parse::<u16>()), (Ok(low), Ok(high)) if low <= high)
}

fn volumes(section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    for key in ["volumes", "userVolumes"] {
        let mut seen = std::collections::BTreeSet::new();
        for (index, volume) in section.list(key).iter().enumerate() {
            let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
            if !seen.insert(name) {
                let place = section.item_at(key, index).unwrap_or(holder).clone();
                found.errors.error(place, format!("duplicate volume `{name}` in `{key}`"));
            }
        }
    }
}

/// Extensions and overlays, each with the first and the last Talos minor version that has it.
const FACTORY: &str = include_str!("../factory.txt");

/// Whether the image factory has an extension or overlay for a Talos minor version, as of the release of this program.
fn has(words: &[&str], line: &str) -> bool {
    let minor = |line: &str| line.trim_start_matches("1.").parse::<u32>().unwrap_or_default();
    FACTORY.lines().filter(|line| !line.starts_with('#')).any(|known| {
        let known: Vec<&str> = known.split_whitespace().collect();
        let (name, lines) = known.split_at(known.len().saturating_sub(2));
        name == words && lines.len() == 2 && (minor(lines[0])..=minor(lines[1])).contains(&minor(line))
    })
}

fn schematic(contract: Contract, section: &Section, holder: &Location, found: &mut TalconfigFindings) {
    let Some(schematic) = section.value("schematic") else { return };
    let place = at(section, "schematic", holder);
    let line = contract.to_string();
    let line = line.trim_start_matches('v');
    let hint = "if the image factory has it now, set `noSchematicValidate: true`";
    let extensions = schematic.pointer("/customization/systemExtensions/officialExtensions").and_then(Value::as_array);
    let mut seen = std::collections::BTreeSet::new();
    for extension in extensions.into_iter().flatten().filter_map(Value::as_str) {
        if !has(&[extension], line) {
            let message = format!("unknown official extension `{extension}` for Talos {line}");
            found.errors.push(Diagnostic::at_location(place.clone(), message).with_hint(hint));
        }
        if !seen.insert(extension) {
            found.errors.error(place.clone(), format!("duplicate extension `{extension}`"));
        }
    }
    let overlay = |key: &str| schematic.pointer(&format!("/overlay/{key}")).and_then(Value::as_str).unwrap_or_default();
    match (overlay("name"), overlay("image")) {
        ("", "") => {}
        ("", _) | (_, "") => found.errors.error(place, "an overlay requires `name` and `image`"),
        (name, image) if !has(&[name, image], line) => {
            let message = format!("unknown overlay `{name}` ({image}) for Talos {line}");
            found.errors.push(Diagnostic::at_location(place, message).with_hint(hint));
        }
        _ => {}
    }
}
