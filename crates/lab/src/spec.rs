//! What a lab is made from, and what it says of itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use net::AddressMap;

const REGISTRY_PORT: u16 = 5000;

/// A machine that is to be simulated. What it becomes is decided by the config that it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    pub name: String,
    /// The declared address.
    pub address: IpAddr,
    pub disk: DiskSpec,
}

/// The one disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Its name below `/dev`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    pub model: String,
    pub serial: String,
    pub modalias: String,
    pub uuid: String,
    pub wwid: String,
    pub bus_path: String,
    /// Such as `nvme`, `sata`, `virtio`, `mmc`.
    pub transport: String,
    pub rotational: bool,
    /// Whole paths, such as `/dev/disk/by-id/…`.
    pub symlinks: Vec<String>,
}

impl Default for DiskSpec {
    fn default() -> Self {
        let nothing = String::new;
        Self {
            name: "nvme0n1".to_owned(),
            size: 512 << 30,
            model: "Simulated SSD".to_owned(),
            serial: "LAB0000000001".to_owned(),
            modalias: nothing(),
            uuid: nothing(),
            wwid: nothing(),
            bus_path: nothing(),
            transport: "nvme".to_owned(),
            rotational: false,
            symlinks: vec![],
        }
    }
}

impl DiskSpec {
    pub(super) fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// The device of a partition: a name that ends in a digit has a `p` before the number.
    pub(super) fn partition(&self, number: u32) -> String {
        let between = if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        format!("/dev/{}{between}{number}", self.name)
    }
}

/// A release that a run will install: what the lab serves its chart for, and in which order the world needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSpec {
    pub namespace: String,
    pub name: String,
    /// The chart as `HOST/PATH/NAME`, without a scheme, a version and a digest.
    pub chart: String,
    /// The chart's version; absent means the newest.
    pub version: Option<String>,
    /// Releases that come first, as `namespace/name`.
    pub needs: Vec<String>,
    /// Only the chart's CRDs are applied.
    pub crds_only: bool,
}

/// Where a rehearsal's charts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChartsFrom {
    /// Small charts of our own with the originals' names and shapes.
    #[default]
    StandIns,
    /// The originals, pulled before the rehearsal is sealed; a stand-in where that fails.
    Real,
}

/// Which control planes run an API server of their own. Controller manager and scheduler run once either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiServers {
    /// The first that is up; the others forward to it.
    #[default]
    One,
    /// Each: about 260 MB and a few seconds apiece.
    All,
}

/// The world to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub cluster: String,
    pub nodes: Vec<NodeSpec>,
    pub releases: Vec<ReleaseSpec>,
    /// Addresses of files that stand-ins are made for, in [`web_folder`].
    pub files: Vec<String>,
    /// The address of the Kubernetes API, when it is an address and no node's own.
    pub vip: Option<IpAddr>,
    pub api_port: u16,
    /// With a leading `v`.
    pub talos_version: String,
    /// Private; everything that the lab writes lies in it.
    pub folder: PathBuf,
    pub charts: ChartsFrom,
    pub api_servers: ApiServers,
}

impl Spec {
    /// Each declared address with its first octet replaced by 127.
    pub fn address_map(&self) -> AddressMap {
        AddressMap::loopback(self.nodes.iter().map(|node| node.address).chain(self.vip))
    }

    /// Where charts are served: at the API's own address, or at the first machine's; nothing without machines.
    pub(super) fn registry_address(&self) -> Option<SocketAddr> {
        let declared = self.vip.or_else(|| Some(self.nodes.first()?.address))?;
        Some(SocketAddr::new(self.address_map().dialled(declared), REGISTRY_PORT))
    }
}

/// What a running lab tells those who come to it: `lab.json` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFile {
    pub cluster: String,
    pub pid: u32,
    pub addresses: AddressMap,
    /// Registry host to the address that serves in its place; `*` stands for every host.
    pub mirrors: BTreeMap<String, String>,
    /// Charts that are not the originals, as a person reads them.
    pub stand_ins: Vec<String>,
}

/// The folder of a cluster's lab below the state directory.
pub fn lab_folder(state: &Path, cluster: &str) -> PathBuf {
    state.join("labs").join(cluster)
}

/// Where a lab keeps what stands in for files of the web, each under its host and path.
pub fn web_folder(lab: &Path) -> PathBuf {
    lab.join("web")
}

impl LabFile {
    const NAME: &'static str = "lab.json";

    /// # Errors
    ///
    /// When there is no lab in `folder`.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(folder.join(Self::NAME))?;
        serde_json::from_str(&text).map_err(std::io::Error::from)
    }

    pub(super) fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::write(folder.join(Self::NAME), serde_json::to_string_pretty(self)?)
    }
}
