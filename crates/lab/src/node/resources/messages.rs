//! The protobuf messages of resource specs, with the fields that a simulated machine sets.

use std::net::IpAddr;

use prost::Message;

/// An address as Go's `netip` marshals it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NetIp {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
}

impl From<IpAddr> for NetIp {
    fn from(address: IpAddr) -> Self {
        let ip = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        Self { ip }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NetIpPrefix {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(int32, tag = "2")]
    prefix_length: i32,
}

impl NetIpPrefix {
    pub(super) fn new(address: IpAddr, prefix_length: i32) -> Self {
        Self { ip: NetIp::from(address).ip, prefix_length }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Version {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SecurityState {
    #[prost(bool, tag = "1")]
    pub(super) secure_boot: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UnattendedInstallStatus {
    #[prost(string, tag = "1")]
    pub(super) image: String,
    #[prost(int32, tag = "2")]
    pub(super) phase: i32,
    #[prost(string, tag = "3")]
    pub(super) error: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(int32, tag = "1")]
    pub(super) number: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MachineConfig {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) yaml_marshalled: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControlPlane {
    #[prost(int64, tag = "1")]
    pub(super) api_server_port: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(string, tag = "1")]
    pub(super) node_id: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) addresses: Vec<NetIp>,
    #[prost(string, tag = "3")]
    pub(super) hostname: String,
    #[prost(int32, tag = "4")]
    pub(super) machine_type: i32,
    #[prost(string, tag = "5")]
    pub(super) operating_system: String,
    #[prost(message, optional, tag = "6")]
    pub(super) control_plane: Option<ControlPlane>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) cluster_id: String,
    #[prost(string, tag = "2")]
    pub(super) cluster_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStatus {
    #[prost(string, tag = "1")]
    pub(super) nodename: String,
    #[prost(bool, tag = "2")]
    pub(super) node_ready: bool,
    #[prost(bool, tag = "3")]
    pub(super) unschedulable: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BootstrapManifestsConfig {
    #[prost(string, tag = "21")]
    pub(super) cni_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(bool, tag = "1")]
    pub(super) running: bool,
    #[prost(bool, tag = "2")]
    pub(super) healthy: bool,
    #[prost(bool, tag = "3")]
    pub(super) unknown: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeStatus {
    #[prost(bool, tag = "1")]
    pub(super) synced: bool,
    #[prost(int64, tag = "2")]
    pub(super) epoch: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Disk {
    #[prost(uint64, tag = "1")]
    pub(super) size: u64,
    #[prost(uint64, tag = "2")]
    pub(super) io_size: u64,
    #[prost(uint64, tag = "3")]
    pub(super) sector_size: u64,
    #[prost(bool, tag = "4")]
    pub(super) readonly: bool,
    #[prost(string, tag = "5")]
    pub(super) model: String,
    #[prost(string, tag = "6")]
    pub(super) serial: String,
    #[prost(string, tag = "7")]
    pub(super) modalias: String,
    #[prost(string, tag = "8")]
    pub(super) wwid: String,
    #[prost(string, tag = "9")]
    pub(super) bus_path: String,
    #[prost(string, tag = "10")]
    pub(super) sub_system: String,
    #[prost(string, tag = "11")]
    pub(super) transport: String,
    #[prost(bool, tag = "12")]
    pub(super) rotational: bool,
    #[prost(string, tag = "14")]
    pub(super) dev_path: String,
    #[prost(string, tag = "15")]
    pub(super) pretty_size: String,
    #[prost(string, tag = "17")]
    pub(super) uuid: String,
    #[prost(string, repeated, tag = "18")]
    pub(super) symlinks: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EtcdSpec {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) advertised_addresses: Vec<NetIp>,
    #[prost(string, tag = "3")]
    pub(super) image: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) listen_peer_addresses: Vec<NetIp>,
    #[prost(message, repeated, tag = "6")]
    pub(super) listen_client_addresses: Vec<NetIp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CertSan {
    #[prost(message, repeated, tag = "1")]
    pub(super) ips: Vec<NetIp>,
    #[prost(string, repeated, tag = "2")]
    pub(super) dns_names: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) fqdn: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SystemDisk {
    #[prost(string, tag = "1")]
    pub(super) disk_id: String,
    #[prost(string, tag = "2")]
    pub(super) dev_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct VolumeStatus {
    #[prost(int32, tag = "1")]
    pub(super) phase: i32,
    #[prost(string, tag = "2")]
    pub(super) location: String,
    #[prost(uint64, tag = "9")]
    pub(super) size: u64,
    #[prost(string, tag = "13")]
    pub(super) pretty_size: String,
    #[prost(int32, tag = "16")]
    pub(super) volume_type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LinkStatus {
    #[prost(uint32, tag = "1")]
    pub(super) index: u32,
    #[prost(int32, tag = "2")]
    pub(super) link_type: i32,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) hardware_addr: Vec<u8>,
    #[prost(uint32, tag = "7")]
    pub(super) mtu: u32,
    #[prost(int32, tag = "10")]
    pub(super) operational_state: i32,
    #[prost(string, tag = "15")]
    pub(super) driver: String,
    #[prost(bool, tag = "22")]
    pub(super) link_state: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AddressStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) address: Option<NetIpPrefix>,
    #[prost(uint32, tag = "6")]
    pub(super) link_index: u32,
    #[prost(string, tag = "7")]
    pub(super) link_name: String,
    /// `AF_INET` or `AF_INET6`.
    #[prost(int32, tag = "8")]
    pub(super) family: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeAddress {
    #[prost(message, repeated, tag = "1")]
    pub(super) addresses: Vec<NetIpPrefix>,
}

#[derive(Clone, PartialEq, Message)]
#[allow(clippy::struct_excessive_bools, reason = "the message is like this")]
pub(super) struct NetworkStatus {
    #[prost(bool, tag = "1")]
    pub(super) address_ready: bool,
    #[prost(bool, tag = "2")]
    pub(super) connectivity_ready: bool,
    #[prost(bool, tag = "3")]
    pub(super) hostname_ready: bool,
    #[prost(bool, tag = "4")]
    pub(super) etc_files_ready: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StaticPodStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) pod_status: Option<prost_types::Struct>,
}
