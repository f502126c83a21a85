//! Disks, links and addresses of a machine, with those that every machine has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::json;

use super::{ResourceItem, messages as api};
use crate::node::SimulatedNode;
use crate::node::storage::{LOOP_DISK, LOOP_DISK_SIZE, format_size};
use crate::spec::DiskSpec;

const LINK: &str = "eth0";
const LOOPBACK: &str = "lo";
/// Where Talos serves DNS for the machine itself (1.11 to 1.14, `HostDNSAddress`).
const HOST_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 116, 108));

pub(super) fn disks(disk: &DiskSpec) -> Vec<ResourceItem> {
    vec![loop_disk(), system_disk(disk)]
}

/// It is read-only and has no transport.
fn loop_disk() -> ResourceItem {
    let message = api::Disk {
        size: LOOP_DISK_SIZE,
        io_size: 512,
        sector_size: 512,
        readonly: true,
        sub_system: "/sys/class/block".to_owned(),
        dev_path: format!("/dev/{LOOP_DISK}"),
        pretty_size: format_size(LOOP_DISK_SIZE),
        ..api::Disk::default()
    };
    let shown = json!({
        "dev_path": message.dev_path, "size": message.size, "pretty_size": message.pretty_size, "io_size": 512,
        "sector_size": 512, "readonly": true, "cdrom": false, "sub_system": message.sub_system,
    });
    ResourceItem::new(LOOP_DISK, &message, shown)
}

fn system_disk(disk: &DiskSpec) -> ResourceItem {
    let message = api::Disk {
        size: disk.size,
        io_size: 512,
        sector_size: 512,
        readonly: false,
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        modalias: disk.modalias.clone(),
        wwid: disk.wwid.clone(),
        bus_path: disk.bus_path.clone(),
        sub_system: "/sys/class/block".to_owned(),
        transport: disk.transport.clone(),
        rotational: disk.rotational,
        dev_path: disk.path(),
        pretty_size: format_size(disk.size),
        uuid: disk.uuid.clone(),
        symlinks: disk.symlinks.clone(),
    };
    let mut shown = json!({
        "dev_path": message.dev_path, "size": disk.size, "pretty_size": message.pretty_size, "io_size": 512,
        "sector_size": 512, "readonly": false, "cdrom": false, "sub_system": message.sub_system,
        "transport": message.transport,
    });
    let names = [
        ("model", &disk.model),
        ("serial", &disk.serial),
        ("modalias", &disk.modalias),
        ("wwid", &disk.wwid),
        ("bus_path", &disk.bus_path),
        ("uuid", &disk.uuid),
    ];
    for (key, value) in names.into_iter().filter(|(_, value)| !value.is_empty()) {
        shown[key] = json!(value);
    }
    if disk.rotational {
        shown["rotational"] = json!(true);
    }
    if !disk.symlinks.is_empty() {
        shown["symlinks"] = json!(disk.symlinks);
    }
    ResourceItem::new(&disk.name, &message, shown)
}

pub(super) fn links(node: &SimulatedNode) -> Vec<ResourceItem> {
    vec![link(node), loopback()]
}

fn link(node: &SimulatedNode) -> ResourceItem {
    let hardware = hardware_address(node);
    let shown: Vec<String> = hardware.iter().map(|byte| format!("{byte:02x}")).collect();
    let message = api::LinkStatus {
        index: 2,
        link_type: 1,
        hardware_addr: hardware,
        mtu: 1500,
        operational_state: 6,
        driver: "virtio_net".to_owned(),
        link_state: true,
    };
    let shown = json!({
        "index": 2, "type": "ether", "hardwareAddr": shown.join(":"), "mtu": 1500, "operationalState": "up",
        "kind": "", "driver": "virtio_net", "linkState": true,
    });
    ResourceItem::new(LINK, &message, shown)
}

fn loopback() -> ResourceItem {
    // `ARPHRD_LOOPBACK`, whose state is unknown.
    let message = api::LinkStatus {
        index: 1,
        link_type: 772,
        hardware_addr: vec![0; 6],
        mtu: 65_536,
        operational_state: 0,
        driver: String::new(),
        link_state: true,
    };
    let shown = json!({
        "index": 1, "type": "loopback", "hardwareAddr": "00:00:00:00:00:00", "mtu": 65_536,
        "operationalState": "unknown", "kind": "", "linkState": true,
    });
    ResourceItem::new(LOOPBACK, &message, shown)
}

/// A locally administered MAC address, derived from the IP address.
fn hardware_address(node: &SimulatedNode) -> Vec<u8> {
    let octets = match node.address() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    [&[0x02, 0x00][..], &octets].concat()
}

/// An address on a link.
struct LinkAddress {
    link: &'static str,
    link_index: u32,
    address: IpAddr,
    prefix_length: u8,
    scope: &'static str,
}

fn prefix_length(node: &SimulatedNode) -> u8 {
    if node.address().is_ipv4() { 24 } else { 64 }
}

/// The link-local address that follows from a MAC address (RFC 4291, appendix A).
fn link_local(hardware: &[u8]) -> IpAddr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    octets[8..11].copy_from_slice(&hardware[..3]);
    octets[13..].copy_from_slice(&hardware[3..6]);
    octets[8] ^= 0x02;
    IpAddr::V6(Ipv6Addr::from(octets))
}

pub(super) fn addresses(node: &SimulatedNode) -> Vec<ResourceItem> {
    let own = node.address();
    let on = |link: &'static str, address: IpAddr, prefix_length: u8, scope: &'static str| {
        let link_index = if link == LOOPBACK { 1 } else { 2 };
        LinkAddress { link, link_index, address, prefix_length, scope }
    };
    let all = [
        on(LINK, own, prefix_length(node), "global"),
        on(LINK, link_local(&hardware_address(node)), 64, "link"),
        on(LOOPBACK, Ipv4Addr::LOCALHOST.into(), 8, "host"),
        on(LOOPBACK, HOST_DNS, 32, "host"),
        on(LOOPBACK, Ipv6Addr::LOCALHOST.into(), 128, "host"),
    ];
    let shared = node.lab.control_plane.vip_on(own);
    let shared = shared.map(|vip| on(LINK, vip, if vip.is_ipv4() { 32 } else { 128 }, "global"));
    all.iter().chain(shared.iter()).map(address).collect()
}

fn address(address: &LinkAddress) -> ResourceItem {
    let shown = format!("{}/{}", address.address, address.prefix_length);
    let is_v4 = address.address.is_ipv4();
    let message = api::AddressStatus {
        address: Some(api::NetIpPrefix::new(address.address, address.prefix_length.into())),
        link_index: address.link_index,
        link_name: address.link.to_owned(),
        family: if is_v4 { 2 } else { 10 },
    };
    let family = if is_v4 { "inet4" } else { "inet6" };
    let text = json!({
        "address": shown, "linkIndex": address.link_index, "linkName": address.link, "family": family,
        "scope": address.scope,
    });
    ResourceItem::new(&format!("{}/{shown}", address.link), &message, text)
}

/// Without loopback and link-local addresses (Talos 1.11 to 1.14, `NodeAddressController`).
pub(super) fn node_addresses(node: &SimulatedNode) -> Vec<ResourceItem> {
    let prefix = api::NetIpPrefix::new(node.address(), prefix_length(node).into());
    let shown = json!({"addresses": [format!("{}/{}", node.address(), prefix_length(node))], "sortAlgorithm": "v1"});
    ["accumulative", "current", "default", "routed"]
        .map(|id| ResourceItem::new(id, &api::NodeAddress { addresses: vec![prefix.clone()] }, shown.clone()))
        .to_vec()
}

/// Whether etcd may advertise an address: one of the valid subnets has it, and no excluded one, which begin with
/// an exclamation mark (Talos 1.11 to 1.14, `EtcdSpecController`).
pub(in crate::node) fn is_advertised(address: IpAddr, subnets: &[String]) -> bool {
    let contains = |subnet: &str| subnet.parse::<IpNet>().is_ok_and(|subnet| subnet.contains(&address));
    let is_excluded = subnets.iter().filter_map(|subnet| subnet.strip_prefix('!')).any(contains);
    let mut valid = subnets.iter().filter(|subnet| !subnet.starts_with('!')).peekable();
    !is_excluded && (valid.peek().is_none() || valid.any(|subnet| contains(subnet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_advertises_addresses_of_its_subnets() {
        let advertised = |subnets: &[&str]| {
            let subnets: Vec<String> = subnets.iter().map(|&subnet| subnet.to_owned()).collect();
            is_advertised([10, 0, 0, 11].into(), &subnets)
        };
        assert!(advertised(&[]) && advertised(&["192.0.2.0/24", "10.0.0.0/24"]) && advertised(&["!192.0.2.0/24"]));
        assert!(!advertised(&["192.0.2.0/24"]) && !advertised(&["10.0.0.0/8", "!10.0.0.0/24"]));
    }

    #[test]
    fn the_link_local_address_follows_from_the_mac_address() {
        assert_eq!(link_local(&[0x02, 0x00, 10, 0, 0, 11]).to_string(), "fe80::aff:fe00:b");
    }
}
