//! What a lab is built from, and the file through which a running lab describes itself.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use net::AddressMap;
use serde::{Deserialize, Serialize};

const REGISTRY_PORT: u16 = 5000;

/// A machine to simulate. Its role follows from the config that is applied to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    pub name: String,
    /// The declared address.
    pub address: IpAddr,
    pub disk: DiskSpec,
}

/// The single disk of a simulated machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Below `/dev`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    pub model: String,
    pub serial: String,
    pub modalias: String,
    pub uuid: String,
    pub wwid: String,
    pub bus_path: String,
    /// `nvme`, `sata`, `virtio` or `mmc`, for example.
    pub transport: String,
    pub rotational: bool,
    /// Absolute paths, such as `/dev/disk/by-id/…`.
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

    /// The device of a partition. The kernel puts a `p` before the number if the disk's name ends in a digit.
    pub(super) fn partition(&self, number: u32) -> String {
        let separator = if self.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        format!("/dev/{}{separator}{number}", self.name)
    }
}

/// A release by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseKey {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A release that a run will install. The lab serves its chart and knows which releases it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSpec {
    pub namespace: String,
    pub name: String,
    /// The chart as `HOST/PATH/NAME`, without scheme, version and digest.
    pub chart: String,
    /// The chart's version. Absent means the newest.
    pub version: Option<String>,
    /// Releases to install first, as `namespace/name`.
    pub needs: Vec<String>,
    pub flux: FluxRelease,
}

/// What Flux makes of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FluxRelease {
    /// No HelmRelease adopts it, or only its CRDs are applied.
    NotAdopted,
    /// Its HelmRelease refers to an OCIRepository: the chart's version gets the digest.
    FromOciRepository,
    /// Its HelmRelease has a chart template: the chart keeps its version.
    FromChartTemplate,
}

impl ReleaseSpec {
    pub(super) fn key(&self) -> ReleaseKey {
        ReleaseKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// Where the charts of a rehearsal come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChartsFrom {
    /// Small built-in charts with the names and workloads of the originals.
    #[default]
    StandIns,
    /// The originals, pulled before the rehearsal is sealed. A chart that cannot be pulled is replaced by a stand-in.
    Real,
}

/// Which control planes run their own API server. Controller manager and scheduler run once in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiServers {
    /// The first control plane that is up. The others forward to it.
    #[default]
    One,
    /// Every control plane: about 260 MB and a few seconds each.
    All,
}

/// Who plays Flux. source-controller, helm-controller and flux-operator are always played.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FluxControllers {
    #[default]
    Played,
    /// The real kustomize-controller builds this tree; the played one where the real one cannot be had.
    RealKustomize(WorkingTree),
}

/// The files that Flux's source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkingTree {
    pub root: PathBuf,
    pub encrypted: EncryptedFiles,
}

/// What becomes of files that SOPS encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptedFiles {
    /// kustomize-controller decrypts them with the cluster's key.
    Keep,
    /// Their values are replaced: the cluster's key is a placeholder.
    Placeholders,
}

/// Why kustomize-controller is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlayedReason {
    NotRequested,
    /// The program cannot be had, with the reason.
    Unavailable(String),
}

/// The kustomize-controller of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KustomizeSummary {
    Played(PlayedReason),
    /// The real one, by its version.
    Real(String),
}

/// The test cluster to simulate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    pub cluster: String,
    pub nodes: Vec<NodeSpec>,
    pub releases: Vec<ReleaseSpec>,
    /// URLs of CRD files. Stand-ins for them are written to [`web_folder`].
    pub crd_urls: Vec<String>,
    /// The virtual IP of the Kubernetes API, unless the endpoint is a host name or a node's address.
    pub vip: Option<IpAddr>,
    pub api_port: u16,
    /// With a leading `v`.
    pub talos_version: String,
    /// A private folder for everything that the lab writes.
    pub folder: PathBuf,
    pub charts: ChartsFrom,
    pub api_servers: ApiServers,
    pub flux: FluxControllers,
}

impl LabSpec {
    /// Each declared address with its first octet replaced by 127.
    pub fn address_map(&self) -> AddressMap {
        AddressMap::loopback(self.nodes.iter().map(|node| node.address).chain(self.vip))
    }

    /// Where charts are served: at the virtual IP, or at the first machine's address. `None` without machines.
    pub(super) fn registry_address(&self) -> Option<SocketAddr> {
        let declared = self.vip.or_else(|| self.nodes.first().map(|node| node.address))?;
        Some(SocketAddr::new(self.address_map().dialled(declared), REGISTRY_PORT))
    }
}

/// How a running lab is reached: `lab.json` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFile {
    pub cluster: String,
    pub pid: u32,
    pub addresses: AddressMap,
    /// Registry hosts and the addresses that serve in their place. `*` stands for every host.
    pub mirrors: BTreeMap<String, String>,
    /// Charts that are not the originals: name, version and kind of stand-in.
    pub stand_ins: Vec<String>,
    /// The seed of the lab's random choices.
    pub seed: u64,
    pub kustomize: KustomizeSummary,
}

/// The folder of a cluster's lab in the state directory.
pub fn lab_folder(state: &Path, cluster: &str) -> PathBuf {
    state.join("labs").join(cluster)
}

/// Where a lab keeps the stand-ins for CRD files, each under the host and path of its URL.
pub fn web_folder(lab: &Path) -> PathBuf {
    lab.join("web")
}

impl LabFile {
    const NAME: &'static str = "lab.json";

    /// # Errors
    ///
    /// The file cannot be read or parsed.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(folder.join(Self::NAME))?;
        serde_json::from_str(&text).map_err(std::io::Error::from)
    }

    pub(super) fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::write(folder.join(Self::NAME), serde_json::to_string_pretty(self)?)
    }
}
