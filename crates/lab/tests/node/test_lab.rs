//! A lab in this process, on a network of its own.

use std::path::PathBuf;

use lab::{ApiServers, ChartsFrom, DiskSpec, FluxControllers, Lab, LabSpec, NodeSpec, Scenario};
use test_support::LoopbackNetwork;
use tools::{Options, Tool, Toolbox};

use crate::cluster::Cluster;

/// One control plane more than one: the names and places of the machines.
pub const NAMES: [&str; 3] = ["cp-1", "cp-2", "worker-1"];

pub struct TestLab {
    pub lab: Lab,
    pub cluster: Cluster,
    pub network: LoopbackNetwork,
    _folder: tempfile::TempDir,
}

impl TestLab {
    /// Machines of a version. The endpoint of the cluster is the first one's address.
    pub async fn start(talos: &str, more: &str) -> Self {
        Self::start_with_endpoint(talos, more, host(NAMES[0])).await
    }

    /// Machines of a cluster whose endpoint has this last octet.
    pub async fn start_with_endpoint(talos: &str, more: &str, endpoint: u8) -> Self {
        // What a machine of the lab dies of is to be seen.
        let _ = tracing_subscriber::fmt().with_env_filter("k8s_bootstrap=error").with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let scenario = folder.path().join("scenario.yaml");
        std::fs::write(&scenario, format!("base: fast\ntalos: {talos}\n{more}")).unwrap();
        let scenario = Scenario::load(scenario.to_str().unwrap()).unwrap();
        let network = LoopbackNetwork::allocate();
        let nodes = NAMES.iter().map(|name| NodeSpec {
            name: (*name).to_owned(),
            address: network.host(host(name)).into(),
            disk: DiskSpec::default(),
        });
        let spec = LabSpec {
            cluster: "lab".to_owned(),
            nodes: nodes.collect(),
            releases: vec![],
            crd_urls: vec![],
            vip: (usize::from(endpoint) > 10 + NAMES.len()).then(|| network.host(endpoint).into()),
            api_port: 6443,
            talos_version: talos.to_owned(),
            folder: private(&folder),
            charts: ChartsFrom::StandIns,
            api_servers: ApiServers::One,
            flux: FluxControllers::Played,
        };
        let toolbox = Toolbox::new(Options::from_environment(None));
        let lab = Lab::start(spec, scenario, &toolbox, &|_| {}).await.unwrap();
        Self { lab, cluster: Cluster::new(network.host(endpoint)), network, _folder: folder }
    }

    pub async fn kubectl(&self) -> PathBuf {
        Toolbox::new(Options::from_environment(None)).provide(Tool::Kubectl, &|_| {}).await.unwrap().path
    }

    /// The declared address of a machine.
    pub fn address(&self, name: &str) -> String {
        self.network.host(host(name)).to_string()
    }

    /// Where a machine really listens.
    pub fn dialled(&self, name: &str) -> String {
        self.network.dialled(host(name)).to_string()
    }

    pub fn config(&self, name: &str) -> String {
        if name.starts_with("worker") { self.cluster.worker(name) } else { self.cluster.control_plane(name) }
    }
}

/// The last octet of a machine's address.
fn host(name: &str) -> u8 {
    11 + u8::try_from(NAMES.iter().position(|known| *known == name).unwrap()).unwrap()
}

fn private(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("lab");
    std::fs::create_dir(&path).unwrap();
    path
}
