//! etcd: one real member per control plane. The first starts by Bootstrap; the others join as learners and are promoted.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use process::{Command, Daemon};
use serde_json::Value;
use talos_proto::machine::{EtcdMember, EtcdMemberStatus};

use super::bootstrap::BootstrapSignal;
use super::program_files::{ProgramFiles, client_subject, server_subject};
use super::{ControlPlane, ControlPlaneError, ControlPlaneHost, EtcdError, hostname, program};
use crate::machine_config::AppliedConfig;
use crate::pki::CertificateAuthority;
use crate::record::facts;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Between two attempts at something that etcd offers no watch for.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// etcd counts a new peer as connected after 5 s (`HealthInterval`), so a third member waits that long.
const RETRY_TIMEOUT: Duration = Duration::from_mins(2);

/// A running member.
#[derive(Debug)]
pub(super) struct RunningMember {
    pub(super) daemon: Daemon,
    access: MemberAccess,
    /// Others may join through it.
    pub(super) is_healthy: bool,
}

impl RunningMember {
    pub(super) fn access(&self) -> MemberAccess {
        self.access.clone()
    }
}

/// How to reach a member as its client.
#[derive(Debug, Clone)]
pub(super) struct MemberAccess {
    pub(super) endpoint: String,
    pub(super) files: ProgramFiles,
}

/// How a member without data starts.
enum InitialCluster {
    New(String),
    Existing(String),
}

impl ControlPlane {
    pub(super) fn etcd_data_folder(&self, host: ControlPlaneHost<'_>) -> PathBuf {
        self.folder.join("etcd").join(host.address.to_string()).join("data")
    }

    /// Whether a member has ever started on this machine.
    pub(crate) fn has_etcd_data(&self, host: ControlPlaneHost<'_>) -> bool {
        self.etcd_data_folder(host).join("member").exists()
    }

    /// Starts the machine's member: again if it has data, as the first when `bootstrap` is set, or by joining.
    pub(crate) async fn join_etcd(
        &self,
        host: ControlPlaneHost<'_>,
        config: &Arc<AppliedConfig>,
        bootstrap: &BootstrapSignal,
    ) -> Result<(), ControlPlaneError> {
        let access = self.write_etcd_files(host, config)?;
        let mut began = Instant::now();
        if self.has_etcd_data(host) {
            self.start_member(host, config, &access, None).await?;
        } else {
            tokio::select! {
                biased;
                recovery = bootstrap.accepted() => {
                    began = Instant::now();
                    let peer_url = self.peer_url(host);
                    if let Some(recovery) = recovery {
                        self.restore_snapshot(host, config, &peer_url, recovery).await?;
                    }
                    let first = InitialCluster::New(format!("{}={peer_url}", hostname(config, host)));
                    self.start_member(host, config, &access, Some(first)).await?;
                }
                through = self.existing_member() => return self.join(host, config, &access, &through).await,
            }
        }
        self.wait_until_healthy(host, &access).await?;
        let fact = facts::etcd_healthy(host.name);
        self.recorder.record_fact(&fact, began, [facts::node_booted(host.name)]);
        self.joining.lock().await.get_or_insert(fact);
        self.join_target.send_if_modified(|target| {
            let first = target.is_none();
            target.get_or_insert(access);
            first
        });
        Ok(())
    }

    /// Waits for a member to join through.
    async fn existing_member(&self) -> MemberAccess {
        let mut target = self.join_target.subscribe();
        loop {
            if let Some(access) = target.borrow_and_update().clone() {
                return access;
            }
            // `self` owns the sender, so this only ever waits.
            let _ = target.changed().await;
        }
    }

    fn peer_url(&self, host: ControlPlaneHost<'_>) -> String {
        format!("https://{}", self.listen_address(host.address, PEER_PORT))
    }

    fn write_etcd_files(
        &self,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
    ) -> Result<MemberAccess, ControlPlaneError> {
        let files = ProgramFiles::create(self.folder.join("etcd").join(host.address.to_string()))?;
        let authority = CertificateAuthority::from_pem(&config.etcd_ca.certificate, &config.etcd_ca.key)
            .map_err(|source| ControlPlaneError::Authority { authority: "etcd", node: host.name.to_owned(), source })?;
        files.write("ca.crt", &authority.certificate)?;
        let dialled = self.addresses.dialled(host.address);
        let addresses: Vec<IpAddr> = vec![host.address, dialled, Ipv4Addr::LOCALHOST.into()];
        let name = hostname(config, host);
        let dns_names = vec![name.to_owned(), "localhost".to_owned()];
        files.issue(&authority, "server", &server_subject(name, addresses.clone(), dns_names.clone()))?;
        // On loopback a peer's connection comes from 127.0.0.1, whatever address it listens on.
        files.issue(&authority, "peer", &server_subject(name, addresses, dns_names))?;
        files.issue(&authority, "client", &client_subject("root", None))?;
        let endpoint = format!("https://{}", self.listen_address(host.address, CLIENT_PORT));
        Ok(MemberAccess { endpoint, files })
    }

    async fn start_member(
        &self,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
        access: &MemberAccess,
        initial: Option<InitialCluster>,
    ) -> Result<(), ControlPlaneError> {
        let files = &access.files;
        let peer_url = self.peer_url(host);
        let mut command = program(&self.programs.etcd)
            .args(["--name", hostname(config, host), "--unsafe-no-fsync", "--log-level", "warn"])
            .args(["--data-dir", &self.etcd_data_folder(host).display().to_string()])
            .args(["--listen-client-urls", &access.endpoint, "--advertise-client-urls", &access.endpoint])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .args(["--trusted-ca-file", &files.path("ca.crt"), "--peer-trusted-ca-file", &files.path("ca.crt")])
            .args(["--cert-file", &files.path("server.crt"), "--key-file", &files.path("server.key")])
            .args(["--peer-cert-file", &files.path("peer.crt"), "--peer-key-file", &files.path("peer.key")]);
        let state = match initial {
            None => None,
            Some(InitialCluster::New(members)) => Some(("new", members)),
            Some(InitialCluster::Existing(members)) => Some(("existing", members)),
        };
        if let Some((state, members)) = state {
            command = command.args(["--initial-cluster-state", state, "--initial-cluster", &members]);
        }
        let daemon = command
            .spawn_daemon(&files.folder().join("etcd.log"))
            .await
            .map_err(|source| ControlPlaneError::Start { program: "etcd", node: host.name.to_owned(), source })?;
        let member = RunningMember { daemon, access: access.clone(), is_healthy: false };
        self.etcd.lock().await.insert(host.address, member);
        Ok(())
    }

    /// Joins as a learner through another member and is promoted once in sync. One at a time: etcd allows one learner.
    async fn join(
        &self,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
        own: &MemberAccess,
        through: &MemberAccess,
    ) -> Result<(), ControlPlaneError> {
        let mut joined_before = self.joining.lock().await;
        let began = Instant::now();
        let name = hostname(config, host);
        let peer_url = self.peer_url(host);
        let peers = format!("--peer-urls={peer_url}");
        let added = self.retry_etcdctl(through, &["member", "add", name, "--learner", &peers]).await?;
        let members = parse_members(&self.etcdctl(through, &["member", "list"]).await?);
        let initial: Vec<String> = members
            .iter()
            .flat_map(|member| {
                let name = if member.peer_urls.contains(&peer_url) { name } else { member.hostname.as_str() };
                member.peer_urls.iter().map(move |url| format!("{name}={url}"))
            })
            .collect();
        self.start_member(host, config, own, Some(InitialCluster::Existing(initial.join(",")))).await?;
        let id = added.pointer("/member/ID").and_then(Value::as_u64).unwrap_or_default();
        self.retry_etcdctl(through, &["member", "promote", &format!("{id:x}")]).await?;
        self.wait_until_healthy(host, own).await?;
        let fact = facts::etcd_healthy(host.name);
        let causes = std::iter::once(facts::node_booted(host.name)).chain(joined_before.take());
        self.recorder.record_fact(&fact, began, causes);
        *joined_before = Some(fact);
        Ok(())
    }

    /// Repeats a command until etcd accepts it.
    pub(super) async fn retry_etcdctl(&self, through: &MemberAccess, arguments: &[&str]) -> Result<Value, EtcdError> {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        loop {
            match self.etcdctl(through, arguments).await {
                Ok(response) => return Ok(response),
                Err(error @ EtcdError::MemberNotFound(_)) => return Err(error),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
    }

    async fn wait_until_healthy(&self, host: ControlPlaneHost<'_>, access: &MemberAccess) -> Result<(), EtcdError> {
        self.retry_etcdctl(access, &["endpoint", "health"]).await?;
        if let Some(member) = self.etcd.lock().await.get_mut(&host.address) {
            member.is_healthy = true;
        }
        Ok(())
    }

    pub(super) async fn etcdctl(&self, access: &MemberAccess, arguments: &[&str]) -> Result<Value, EtcdError> {
        let files = &access.files;
        let output = Command::new(&self.programs.etcdctl)
            .args(["--endpoints", &access.endpoint, "--command-timeout", "3s", "--write-out", "json"])
            .args(["--cacert", &files.path("ca.crt")])
            .args(["--cert", &files.path("client.crt"), "--key", &files.path("client.key")])
            .args(arguments.iter().copied())
            .run()
            .await
            .map_err(EtcdError::from_etcdctl)?;
        // Some commands print no JSON, such as `snapshot save`.
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Access to the machine's own member.
    pub(super) async fn member_access(&self, host: ControlPlaneHost<'_>) -> Result<MemberAccess, EtcdError> {
        let members = self.etcd.lock().await;
        members.get(&host.address).map(RunningMember::access).ok_or(EtcdError::NotRunning)
    }

    /// Access to another healthy member, or to the machine's own if there is none.
    pub(super) async fn healthy_access(&self, host: ControlPlaneHost<'_>) -> Result<MemberAccess, EtcdError> {
        let members = self.etcd.lock().await;
        let other = members.iter().find(|(address, member)| **address != host.address && member.is_healthy);
        let member = other.map(|(_, member)| member).or_else(|| members.get(&host.address));
        member.map(RunningMember::access).ok_or(EtcdError::NotRunning)
    }

    /// The members as this machine's own member lists them.
    pub(crate) async fn members(&self, host: ControlPlaneHost<'_>) -> Result<Vec<EtcdMember>, EtcdError> {
        let access = self.member_access(host).await?;
        let list = self.etcdctl(&access, &["member", "list"]).await?;
        Ok(parse_members(&list).into_iter().map(|member| self.with_declared_addresses(member)).collect())
    }

    /// The members as any running member lists them. Empty while none responds.
    pub(crate) async fn all_members(&self) -> Vec<EtcdMember> {
        let running: Vec<MemberAccess> = self.etcd.lock().await.values().map(RunningMember::access).collect();
        for access in running {
            if let Ok(list) = self.etcdctl(&access, &["member", "list"]).await {
                return parse_members(&list).into_iter().map(|member| self.with_declared_addresses(member)).collect();
            }
        }
        vec![]
    }

    /// Replaces loopback addresses in the member's URLs by the declared ones.
    fn with_declared_addresses(&self, mut member: EtcdMember) -> EtcdMember {
        for url in member.peer_urls.iter_mut().chain(&mut member.client_urls) {
            for (declared, dialled) in self.addresses.iter() {
                *url = url.replace(&format!("//{dialled}:"), &format!("//{declared}:"));
            }
        }
        member
    }

    pub(crate) async fn member_status(&self, host: ControlPlaneHost<'_>) -> Result<EtcdMemberStatus, EtcdError> {
        let access = self.member_access(host).await?;
        let response = self.etcdctl(&access, &["endpoint", "status"]).await?;
        let status = response.pointer("/0/Status").cloned().unwrap_or_default();
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
    pub(crate) async fn snapshot(&self, host: ControlPlaneHost<'_>) -> Result<Vec<u8>, EtcdError> {
        let access = self.member_access(host).await?;
        let path = access.files.path("snapshot.db");
        self.etcdctl(&access, &["snapshot", "save", &path]).await?;
        tokio::fs::read(&path).await.map_err(EtcdError::data(path.as_ref()))
    }
}

fn parse_members(list: &Value) -> Vec<EtcdMember> {
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
