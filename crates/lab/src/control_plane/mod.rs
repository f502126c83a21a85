//! The real control plane: etcd on every control plane node, and Kubernetes, with the PKI from the applied configs.

mod bootstrap;
mod error;
mod etcd;
mod etcd_admin;
mod forward;
mod kubeconfig;
mod kubernetes;
mod peers;
mod program_files;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use net::AddressMap;
use process::{Command, Daemon};
use tokio::sync::{Mutex, watch};

use super::machine_config::{AppliedConfig, PemPair};
use super::record::Recorder;
use super::scenario::{Discovery, EtcdTimings, Scenario};
use super::spec::{ApiServers, LabSpec};

pub(crate) use bootstrap::{BootstrapSignal, SnapshotRecovery};
pub use error::{ControlPlaneError, EtcdError};
pub(crate) use etcd::StartedMember;
pub(super) use kubeconfig::kubeconfig_archive;
pub(super) use kubernetes::KUBECONFIG;
pub(crate) use peers::PeerRoute;

/// The programs that a control plane runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) etcdctl: PathBuf,
    pub(super) etcdutl: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
}

/// The machine that a program runs on.
#[derive(Debug, Clone, Copy)]
pub(super) struct ControlPlaneHost<'h> {
    /// The name in the lab's spec.
    pub(super) name: &'h str,
    /// The declared address.
    pub(super) address: IpAddr,
}

/// The programs of all control plane nodes of a lab.
pub(super) struct ControlPlane {
    programs: Programs,
    folder: PathBuf,
    addresses: AddressMap,
    /// The declared address and port of the Kubernetes API.
    vip: Option<SocketAddr>,
    api_port: u16,
    recorder: Recorder,
    /// The machine CAs, with keys, of control planes that are up. They sign the certificates of workers.
    signers: watch::Sender<Vec<PemPair>>,
    etcd: Mutex<BTreeMap<IpAddr, etcd::RunningMember>>,
    /// A member that others can join through, once there is one.
    join_target: watch::Sender<Option<etcd::MemberAccess>>,
    /// Held by the machine that joins, with the member that voted last.
    joining: Mutex<Option<etcd::NewestVoter>>,
    /// Control planes whose etcd waits to be bootstrapped or to join.
    waiting: std::sync::Mutex<BTreeSet<IpAddr>>,
    timings: EtcdTimings,
    discovery: Discovery,
    /// The declared addresses of all machines.
    machines: BTreeSet<IpAddr>,
    api_servers: ApiServers,
    kubernetes: Mutex<kubernetes::KubernetesPrograms>,
    /// By control plane without an API server of its own.
    forwards: Mutex<BTreeMap<IpAddr, forward::PortForward>>,
    /// The machine that has the virtual IP.
    vip_holder: watch::Sender<Option<IpAddr>>,
    /// The lab's own client, once the API is ready.
    pub(super) client: watch::Sender<Option<kube::Client>>,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ControlPlane {
    pub(super) fn new(programs: Programs, spec: &LabSpec, scenario: &Scenario, recorder: Recorder) -> Self {
        Self {
            programs,
            folder: spec.folder.clone(),
            addresses: spec.address_map(),
            vip: spec.vip.map(|address| SocketAddr::new(address, spec.api_port)),
            api_port: spec.api_port,
            recorder,
            signers: watch::Sender::default(),
            etcd: Mutex::default(),
            join_target: watch::Sender::default(),
            joining: Mutex::default(),
            waiting: std::sync::Mutex::default(),
            timings: scenario.etcd,
            discovery: scenario.discovery,
            machines: spec.nodes.iter().map(|node| node.address).collect(),
            api_servers: spec.api_servers,
            kubernetes: Mutex::default(),
            forwards: Mutex::default(),
            vip_holder: watch::Sender::default(),
            client: watch::Sender::default(),
        }
    }

    /// Adds the machine CA of a control plane that is up.
    pub(super) fn add_signer(&self, authority: &PemPair) {
        self.signers.send_modify(|signers| signers.push(authority.clone()));
    }

    /// Waits for a control plane that has the key of the machine CA with this certificate.
    pub(super) async fn signer(&self, certificate: &str) -> PemPair {
        let mut signers = self.signers.subscribe();
        let is_signer = |pair: &&PemPair| pair.certificate == certificate;
        loop {
            if let Some(pair) = signers.borrow_and_update().iter().find(is_signer).cloned() {
                return pair;
            }
            // `self` owns the sender, so this only ever waits.
            let _ = signers.changed().await;
        }
    }

    /// The virtual IP, while the machine has it, and later changes of that.
    pub(super) fn vip_holder(&self) -> watch::Receiver<Option<IpAddr>> {
        self.vip_holder.subscribe()
    }

    /// The virtual IP, if the machine has it.
    pub(super) fn vip_on(&self, host: IpAddr) -> Option<IpAddr> {
        let vip = self.vip?.ip();
        (*self.vip_holder.borrow() == Some(host)).then_some(vip)
    }

    /// Where `port` of a declared address is served on loopback.
    fn listen_address(&self, address: IpAddr, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses.dialled(address), port)
    }

    /// Ends the programs of a machine that goes down. Their data remain.
    pub(super) async fn stop(&self, host: ControlPlaneHost<'_>) {
        self.forwards.lock().await.remove(&host.address);
        self.stop_kubernetes(host).await;
        self.stop_etcd(host).await;
    }

    /// Ends the machine's member. Members that join later do so through another one.
    async fn stop_etcd(&self, host: ControlPlaneHost<'_>) {
        self.waiting().remove(&host.address);
        let (member, other) = {
            let mut members = self.etcd.lock().await;
            let member = members.remove(&host.address);
            (member, members.values().find(|member| member.votes_since.is_some()).map(etcd::RunningMember::access))
        };
        if let Some(member) = member {
            self.join_target.send_replace(other);
            member.daemon.stop().await;
        }
    }

    /// Ends all programs.
    pub(super) async fn shut_down(&self) {
        self.forwards.lock().await.clear();
        let kubernetes = std::mem::take(&mut *self.kubernetes.lock().await);
        stop_all(kubernetes.into_daemons()).await;
        let members = std::mem::take(&mut *self.etcd.lock().await);
        stop_all(members.into_values().map(|member| member.daemon).collect()).await;
    }
}

/// A program of etcd or Kubernetes. Its heap stays small, so it is collected less often than by default: a rehearsal then
/// takes 4 to 10 % less CPU time.
fn program(path: &Path) -> Command {
    Command::new(path).env("GOGC", "400")
}

async fn stop_all(daemons: Vec<Daemon>) {
    futures::future::join_all(daemons.into_iter().map(Daemon::stop)).await;
}

fn hostname<'c>(config: &'c AppliedConfig, host: ControlPlaneHost<'c>) -> &'c str {
    config.hostname.as_deref().unwrap_or(host.name)
}
