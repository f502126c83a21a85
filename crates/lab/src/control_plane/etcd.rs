//! etcd: one real member a control plane; the first by Bootstrap, the others as learners that are promoted.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::certificates::{Files, client, server};
use super::{ControlPlane, hostname_or, problem};
use crate::machine::MachineConfig;
use crate::node::Node;
use crate::pki::Authority;
use process::{Command, Daemon};
use talos_proto::machine::{EtcdMember, EtcdMemberStatus};

const CLIENT: u16 = 2379;
const PEER: u16 = 2380;
/// Between two looks at something that etcd offers no watch for.
const PAUSE: Duration = Duration::from_millis(100);
/// etcd counts a new peer as connected after 5 s (`HealthInterval`), so a third member waits that long.
const PATIENCE: Duration = Duration::from_mins(2);
/// What etcd says (`rpctypes`) of a member that is not, or no longer, in the cluster: no repetition changes that.
pub(super) const UNKNOWN_MEMBER: &str = "member not found";

/// A running member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) daemon: Daemon,
    gate: Gate,
    /// Others may join through it.
    pub(super) is_healthy: bool,
}

impl Member {
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }
}

/// How to reach a member as its client.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    endpoint: String,
    files: Files,
}

impl ControlPlane {
    fn etcd_files(&self, node: &Node) -> Result<Files, String> {
        Files::new(self.folder.join("etcd").join(node.address().to_string()))
    }

    pub(super) fn data_folder(&self, node: &Node) -> PathBuf {
        self.folder.join("etcd").join(node.address().to_string()).join("data")
    }

    /// Whether a member has ever started on this machine.
    pub(crate) fn has_data(&self, node: &Node) -> bool {
        self.data_folder(node).join("member").exists()
    }

    /// Starts the machine's member: again when it has data, as the first when it is bootstrapped, else by joining.
    pub(crate) async fn join_etcd(&self, node: &Node, config: &Arc<MachineConfig>) -> Result<(), String> {
        let gate = self.write_etcd_files(node, config)?;
        let mut began = Instant::now();
        if self.has_data(node) {
            self.start_member(node, config, &gate, None).await?;
        } else {
            let mut cluster = self.cluster.subscribe();
            let existing = async {
                loop {
                    if let Some(gate) = cluster.borrow_and_update().clone() {
                        return gate;
                    }
                    // The sender lives in this value, so this only ever waits.
                    let _ = cluster.changed().await;
                }
            };
            tokio::select! {
                biased;
                () = node.bootstrap.notified() => {
                    began = Instant::now();
                    let peer = format!("https://{}", self.mapped(node.address(), PEER));
                    if let Some(recovery) = node.take_recovery() {
                        self.restore(node, config, &peer, recovery).await?;
                    }
                    let first = format!("{}={peer}", hostname_or(config, node));
                    self.start_member(node, config, &gate, Some(("new", first))).await?;
                }
                through = existing => return self.join(node, config, &gate, &through).await,
            }
        }
        self.healthy(node, &gate).await?;
        let fact = format!("etcd/{}/healthy", node.name());
        self.recorder.fact(&fact, began, [format!("node/{}/booted", node.name())]);
        self.joining.lock().await.get_or_insert(fact);
        self.cluster.send_if_modified(|cluster| {
            let first = cluster.is_none();
            cluster.get_or_insert(gate);
            first
        });
        Ok(())
    }

    fn write_etcd_files(&self, node: &Node, config: &MachineConfig) -> Result<Gate, String> {
        let files = self.etcd_files(node)?;
        let authority = Authority::new(&config.etcd_ca.certificate, &config.etcd_ca.key)
            .map_err(|reason| problem(node, "the etcd CA", reason))?;
        files.write("ca.crt", &authority.certificate)?;
        let mapped = self.addresses.dialled(node.address());
        let own: Vec<IpAddr> = vec![node.address(), mapped, Ipv4Addr::LOCALHOST.into()];
        let name = hostname_or(config, node);
        let names = vec![name.to_owned(), "localhost".to_owned()];
        files.issue(&authority, "server", &server(name, own.clone(), names.clone()))?;
        // On loopback a peer's connection comes from 127.0.0.1, whatever address it listens on.
        files.issue(&authority, "peer", &server(name, own, names))?;
        files.issue(&authority, "client", &client("root", None))?;
        Ok(Gate { endpoint: format!("https://{}", self.mapped(node.address(), CLIENT)), files })
    }

    async fn start_member(
        &self,
        node: &Node,
        config: &MachineConfig,
        gate: &Gate,
        initial: Option<(&str, String)>,
    ) -> Result<(), String> {
        let files = &gate.files;
        let peer = format!("https://{}", self.mapped(node.address(), PEER));
        let mut command = Command::new(&self.programs.etcd)
            .args(["--name", hostname_or(config, node), "--unsafe-no-fsync", "--log-level", "warn"])
            .args(["--data-dir", &self.data_folder(node).display().to_string()])
            .args(["--listen-client-urls", &gate.endpoint, "--advertise-client-urls", &gate.endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .args(["--trusted-ca-file", &files.path("ca.crt"), "--peer-trusted-ca-file", &files.path("ca.crt")])
            .args(["--cert-file", &files.path("server.crt"), "--key-file", &files.path("server.key")])
            .args(["--peer-cert-file", &files.path("peer.crt"), "--peer-key-file", &files.path("peer.key")]);
        if let Some((state, members)) = initial {
            command = command.args(["--initial-cluster-state", state, "--initial-cluster", &members]);
        }
        let daemon = command
            .spawn_daemon(&files.folder().join("etcd.log"))
            .await
            .map_err(|error| problem(node, "etcd", error))?;
        self.etcd.lock().await.insert(node.address(), Member { daemon, gate: gate.clone(), is_healthy: false });
        Ok(())
    }

    /// Joins as a learner through another member and is promoted once in sync. One at a time: etcd allows one learner.
    async fn join(&self, node: &Node, config: &MachineConfig, own: &Gate, through: &Gate) -> Result<(), String> {
        let mut before = self.joining.lock().await;
        let turn = Instant::now();
        let name = hostname_or(config, node);
        let peer = format!("https://{}", self.mapped(node.address(), PEER));
        let peers = format!("--peer-urls={peer}");
        let added = self.persist(node, through, &["member", "add", name, "--learner", &peers]).await?;
        let members = members_of(&self.etcdctl(through, &["member", "list"]).await?);
        let initial: Vec<String> = members
            .iter()
            .flat_map(|member| {
                let name = if member.peer_urls.contains(&peer) { name } else { member.hostname.as_str() };
                member.peer_urls.iter().map(move |url| format!("{name}={url}"))
            })
            .collect();
        self.start_member(node, config, own, Some(("existing", initial.join(",")))).await?;
        let id = added.pointer("/member/ID").and_then(Value::as_u64).unwrap_or_default();
        self.persist(node, through, &["member", "promote", &format!("{id:x}")]).await?;
        self.healthy(node, own).await?;
        let fact = format!("etcd/{}/healthy", node.name());
        let causes = std::iter::once(format!("node/{}/booted", node.name())).chain(before.take());
        self.recorder.fact(&fact, turn, causes);
        *before = Some(fact);
        Ok(())
    }

    /// Repeats a command until etcd is ready for it.
    pub(super) async fn persist(&self, node: &Node, through: &Gate, arguments: &[&str]) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.etcdctl(through, arguments).await {
                Ok(answer) => return Ok(answer),
                Err(reason) if reason.contains(UNKNOWN_MEMBER) || Instant::now() > deadline => {
                    return Err(problem(node, arguments[1], reason));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn healthy(&self, node: &Node, gate: &Gate) -> Result<(), String> {
        self.persist(node, gate, &["endpoint", "health"]).await?;
        if let Some(member) = self.etcd.lock().await.get_mut(&node.address()) {
            member.is_healthy = true;
        }
        Ok(())
    }

    pub(super) async fn etcdctl(&self, gate: &Gate, arguments: &[&str]) -> Result<Value, String> {
        let files = &gate.files;
        let output = Command::new(&self.programs.etcdctl)
            .args(["--endpoints", &gate.endpoint, "--command-timeout", "3s", "--write-out", "json"])
            .args(["--cacert", &files.path("ca.crt")])
            .args(["--cert", &files.path("client.crt"), "--key", &files.path("client.key")])
            .args(arguments.iter().copied())
            .run()
            .await
            .map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    pub(super) async fn gate(&self, node: &Node) -> Result<Gate, String> {
        let members = self.etcd.lock().await;
        let member = members.get(&node.address()).ok_or("etcd is not running on this machine")?;
        Ok(member.gate.clone())
    }

    /// The way to another healthy member, or to the machine's own when there is none.
    pub(super) async fn gate_beside(&self, node: &Node) -> Result<Gate, String> {
        let members = self.etcd.lock().await;
        let other = members.iter().find(|(address, member)| **address != node.address() && member.is_healthy);
        let member = other.map(|(_, member)| member).or_else(|| members.get(&node.address()));
        member.map(Member::gate).ok_or_else(|| "etcd is not running on this machine".to_owned())
    }

    /// The members as this machine's own one lists them.
    pub(crate) async fn members(&self, node: &Node) -> Result<Vec<EtcdMember>, String> {
        let gate = self.gate(node).await?;
        let list = self.etcdctl(&gate, &["member", "list"]).await?;
        Ok(members_of(&list).into_iter().map(|member| self.declared(member)).collect())
    }

    /// The members as any running one lists them; none while etcd does not answer.
    pub(crate) async fn all_members(&self) -> Vec<EtcdMember> {
        let gates: Vec<Gate> = self.etcd.lock().await.values().map(|member| member.gate.clone()).collect();
        for gate in gates {
            if let Ok(list) = self.etcdctl(&gate, &["member", "list"]).await {
                return members_of(&list).into_iter().map(|member| self.declared(member)).collect();
            }
        }
        vec![]
    }

    /// The member with the addresses that its operator declared.
    fn declared(&self, mut member: EtcdMember) -> EtcdMember {
        for url in member.peer_urls.iter_mut().chain(&mut member.client_urls) {
            for (declared, mapped) in self.addresses.iter() {
                *url = url.replace(&format!("//{mapped}:"), &format!("//{declared}:"));
            }
        }
        member
    }

    pub(crate) async fn member_status(&self, node: &Node) -> Result<EtcdMemberStatus, String> {
        let gate = self.gate(node).await?;
        let answer = self.etcdctl(&gate, &["endpoint", "status"]).await?;
        let status = answer.pointer("/0/Status").cloned().unwrap_or_default();
        let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        Ok(EtcdMemberStatus {
            protocol_version: status.get("version").and_then(Value::as_str).unwrap_or_default().to_owned(),
            db_size: i64::try_from(number("/dbSize")).unwrap_or_default(),
            db_size_in_use: i64::try_from(number("/dbSizeInUse")).unwrap_or_default(),
            leader: number("/leader"),
            raft_index: number("/raftIndex"),
            raft_term: number("/raftTerm"),
            raft_applied_index: number("/raftAppliedIndex"),
            errors: vec![],
            is_learner: status.get("isLearner") == Some(&Value::Bool(true)),
            member_id: number("/header/member_id"),
            storage_version: status.get("storageVersion").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }

    /// A snapshot of the database, with its hash at the end.
    pub(crate) async fn snapshot(&self, node: &Node) -> Result<Vec<u8>, String> {
        let gate = self.gate(node).await?;
        let path = gate.files.path("snapshot.db");
        self.etcdctl(&gate, &["snapshot", "save", &path]).await?;
        tokio::fs::read(&path).await.map_err(|error| error.to_string())
    }

    /// The files with which the API server reaches the member on its machine.
    pub(super) async fn etcd_access(&self, node: &Node) -> Result<(String, Files), String> {
        let gate = self.gate(node).await?;
        Ok((gate.endpoint, gate.files))
    }
}

fn members_of(list: &Value) -> Vec<EtcdMember> {
    let members = list.get("members").and_then(Value::as_array);
    let texts = |value: &Value, key: &str| {
        let items = value.get(key).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    members
        .into_iter()
        .flatten()
        .map(|member| EtcdMember {
            id: member.get("ID").and_then(Value::as_u64).unwrap_or_default(),
            hostname: member.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            peer_urls: texts(member, "peerURLs"),
            client_urls: texts(member, "clientURLs"),
            is_learner: member.get("isLearner") == Some(&Value::Bool(true)),
        })
        .collect()
}
