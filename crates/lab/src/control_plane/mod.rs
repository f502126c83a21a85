//! The real control plane: etcd on every control plane, and Kubernetes, with the PKI out of the applied configs.

mod certificates;
mod etcd;
mod etcd_admin;
mod forward;
mod kubernetes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tokio::sync::{Mutex, watch};

use super::machine::{MachineConfig, Pair};
use super::node::Node;
use super::record::Recorder;
use super::spec::{ApiServers, Spec};
use net::AddressMap;
use process::Daemon;

pub(super) use kubernetes::{KUBECONFIG, kubeconfig_archive};

/// The programs that a control plane is made of.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) etcdctl: PathBuf,
    pub(super) etcdutl: PathBuf,
    pub(super) apiserver: PathBuf,
    pub(super) controller_manager: PathBuf,
    pub(super) scheduler: PathBuf,
}

/// Everything that the control planes of a lab run.
pub(super) struct ControlPlane {
    programs: Programs,
    folder: PathBuf,
    addresses: AddressMap,
    /// The declared address and port of the Kubernetes API.
    vip: Option<SocketAddr>,
    api_port: u16,
    recorder: Recorder,
    /// Authorities with keys, of control planes that are up: who can sign for workers.
    trusted: watch::Sender<Vec<Pair>>,
    etcd: Mutex<BTreeMap<IpAddr, etcd::Member>>,
    /// A member that others join through, once there is one.
    cluster: watch::Sender<Option<etcd::Gate>>,
    /// The turn to join, with the fact of the one who had it last.
    joining: Mutex<Option<String>>,
    wanted: ApiServers,
    kubernetes: Mutex<kubernetes::Kubernetes>,
    /// By the control planes that have no API server of their own.
    forwards: Mutex<BTreeMap<IpAddr, forward::Forward>>,
    /// The lab's own way into the API, once it is ready.
    pub(super) client: watch::Sender<Option<kube::Client>>,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ControlPlane {
    pub(super) fn new(programs: Programs, spec: &Spec, recorder: Recorder) -> Self {
        Self {
            programs,
            folder: spec.folder.clone(),
            addresses: spec.address_map(),
            vip: spec.vip.map(|address| SocketAddr::new(address, spec.api_port)),
            api_port: spec.api_port,
            recorder,
            trusted: watch::Sender::default(),
            etcd: Mutex::default(),
            cluster: watch::Sender::default(),
            joining: Mutex::default(),
            wanted: spec.api_servers,
            kubernetes: Mutex::default(),
            forwards: Mutex::default(),
            client: watch::Sender::default(),
        }
    }

    /// A control plane is up and can sign certificates for workers.
    pub(super) fn trust(&self, authority: &Pair) {
        self.trusted.send_modify(|trusted| trusted.push(authority.clone()));
    }

    /// Waits for a control plane that can sign for the authority whose certificate a worker has.
    pub(super) async fn signer(&self, certificate: &str) -> Pair {
        let mut trusted = self.trusted.subscribe();
        let signs = |pair: &&Pair| pair.certificate == certificate;
        loop {
            if let Some(pair) = trusted.borrow_and_update().iter().find(signs).cloned() {
                return pair;
            }
            // The sender lives in this value, so this only ever waits.
            let _ = trusted.changed().await;
        }
    }

    fn mapped(&self, address: IpAddr, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses.dialled(address), port)
    }

    /// Ends what ran on a machine that goes down; its data stay.
    pub(super) async fn stop(&self, node: &Node) {
        self.forwards.lock().await.remove(&node.address());
        self.stop_kubernetes(node).await;
        self.stop_etcd(node).await;
    }

    /// Ends the machine's member; those that join later find another.
    async fn stop_etcd(&self, node: &Node) {
        let (member, other) = {
            let mut members = self.etcd.lock().await;
            let member = members.remove(&node.address());
            (member, members.values().find(|member| member.is_healthy).map(etcd::Member::gate))
        };
        if let Some(member) = member {
            self.cluster.send_replace(other);
            member.daemon.stop().await;
        }
    }

    /// Ends everything.
    pub(super) async fn shut_down(&self) {
        self.forwards.lock().await.clear();
        let kubernetes = std::mem::take(&mut *self.kubernetes.lock().await);
        stop_all(kubernetes.into_daemons()).await;
        let members = std::mem::take(&mut *self.etcd.lock().await);
        stop_all(members.into_values().map(|member| member.daemon).collect()).await;
    }
}

async fn stop_all(daemons: Vec<Daemon>) {
    futures::future::join_all(daemons.into_iter().map(Daemon::stop)).await;
}

/// Why a config cannot run a control plane, in a sentence.
fn problem(node: &Node, what: &str, reason: impl std::fmt::Display) -> String {
    format!("{} on {}: {reason}", what, node.name())
}

fn hostname_or<'c>(config: &'c MachineConfig, node: &'c Node) -> &'c str {
    config.hostname.as_deref().unwrap_or(node.name())
}
