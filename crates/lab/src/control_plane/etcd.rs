//! etcd: one real member per control plane. The first starts by Bootstrap; the others join as learners and are promoted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use process::{Command, Daemon};
use serde_json::Value;
use talos_proto::machine::{EtcdMember, EtcdMemberStatus};
use tokio::sync::MutexGuard;

use super::bootstrap::BootstrapSignal;
use super::peers::PeerRoute;
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

/// How long Talos tries to promote a learner (1.11 to 1.14).
const PROMOTION_TIMEOUT: Duration = Duration::from_mins(10);

/// A running member.
#[derive(Debug)]
pub(super) struct RunningMember {
    pub(super) daemon: Daemon,
    access: MemberAccess,
    /// Others can join through a member that votes.
    pub(super) votes_since: Option<Instant>,
}

impl RunningMember {
    pub(super) fn access(&self) -> MemberAccess {
        self.access.clone()
    }
}

/// The member that voted last.
#[derive(Debug)]
pub(super) struct NewestVoter {
    fact: String,
    since: Instant,
}

/// A member that was started and may not vote yet.
pub(crate) struct StartedMember<'c> {
    began: Instant,
    learner: Option<Learner<'c>>,
}

impl StartedMember<'_> {
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.is_some()
    }
}

/// A member that joined. No other joins before it votes.
struct Learner<'c> {
    id: u64,
    turn: MutexGuard<'c, Option<NewestVoter>>,
    route: PeerRoute,
}

/// A machine's turn to join.
struct Turn<'c> {
    through: MemberAccess,
    newest: MutexGuard<'c, Option<NewestVoter>>,
    route: PeerRoute,
    /// Since when the machine has known of the control planes.
    ready: Instant,
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
    pub(crate) async fn start_etcd(
        &self,
        host: ControlPlaneHost<'_>,
        config: &Arc<AppliedConfig>,
        bootstrap: &BootstrapSignal,
    ) -> Result<StartedMember<'_>, ControlPlaneError> {
        let access = self.write_etcd_files(host, config)?;
        if self.has_etcd_data(host) {
            let began = Instant::now();
            self.start_member(host, config, &access, None).await?;
            return Ok(StartedMember { began, learner: None });
        }
        self.waiting().insert(host.address);
        tokio::select! {
            biased;
            recovery = bootstrap.accepted() => {
                let began = Instant::now();
                let peer_url = self.peer_url(host);
                if let Some(recovery) = recovery {
                    self.restore_snapshot(host, config, &peer_url, recovery).await?;
                }
                let first = InitialCluster::New(format!("{}={peer_url}", hostname(config, host)));
                self.start_member(host, config, &access, Some(first)).await?;
                Ok(StartedMember { began, learner: None })
            }
            turn = self.turn_to_join(config) => {
                let began = turn.newest.as_ref().map_or(turn.ready, |newest| newest.since.max(turn.ready));
                let learner = self.join(host, config, &access, turn).await?;
                Ok(StartedMember { began, learner: Some(learner) })
            }
        }
    }

    /// Returns once the member votes: a learner after its promotion, any other once it responds.
    pub(crate) async fn wait_for_vote(
        &self,
        host: ControlPlaneHost<'_>,
        started: StartedMember<'_>,
    ) -> Result<(), EtcdError> {
        let access = self.member_access(host).await?;
        let mut causes = vec![facts::node_booted(host.name)];
        let (since, mut newest) = match started.learner {
            Some(Learner { id, turn, route }) => {
                self.promote(host, id).await?;
                causes.extend(route.cause());
                causes.extend(turn.as_ref().map(|newest| newest.fact.clone()));
                (Instant::now(), Some(turn))
            }
            None => {
                self.retry_etcdctl(&access, &["endpoint", "health"]).await?;
                (Instant::now(), self.joining.try_lock().ok().filter(|newest| newest.is_none()))
            }
        };
        let fact = facts::etcd_votes(host.name);
        self.recorder.record_fact(&fact, started.began, causes);
        if let Some(newest) = &mut newest {
            **newest = Some(NewestVoter { fact, since });
        }
        self.mark_voting(host, since).await;
        Ok(())
    }

    async fn mark_voting(&self, host: ControlPlaneHost<'_>, since: Instant) {
        let mut members = self.etcd.lock().await;
        let Some(member) = members.get_mut(&host.address) else { return };
        member.votes_since.get_or_insert(since);
        let access = member.access();
        self.join_target.send_if_modified(|target| {
            let first = target.is_none();
            target.get_or_insert(access);
            first
        });
    }

    /// Talos's health check: a read that needs the quorum, from the machine's own member (1.11 to 1.14, `ValidateQuorum`).
    pub(crate) async fn check_etcd_health(&self, host: ControlPlaneHost<'_>) -> Result<(), EtcdError> {
        self.etcdctl(&self.member_access(host).await?, &["get", "health"]).await?;
        let now = Instant::now();
        self.mark_voting(host, now).await;
        let since = self.etcd.lock().await.get(&host.address).and_then(|member| member.votes_since);
        let fact = facts::etcd_healthy(host.name);
        self.recorder.record_fact(fact, since.unwrap_or(now), [facts::etcd_votes(host.name)]);
        Ok(())
    }

    /// Control planes whose etcd waits to be bootstrapped or to join.
    pub(super) fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<IpAddr>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a member is found to join through and no other machine joins.
    async fn turn_to_join(&self, config: &AppliedConfig) -> Turn<'_> {
        let route = self.find_control_planes(config).await;
        let ready = Instant::now();
        loop {
            let through = self.existing_member().await;
            if let Ok(newest) = self.joining.try_lock() {
                return Turn { through, newest, route, ready };
            }
            tokio::time::sleep(self.timings.join.duration()).await;
        }
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
        let member = RunningMember { daemon, access: access.clone(), votes_since: None };
        self.waiting().remove(&host.address);
        self.etcd.lock().await.insert(host.address, member);
        Ok(())
    }

    /// Joins as a learner through another member. A machine that lost its data is still a member under its name, and leaves
    /// first (Talos 1.11 to 1.14, `addMember`).
    async fn join<'c>(
        &'c self,
        host: ControlPlaneHost<'_>,
        config: &AppliedConfig,
        own: &MemberAccess,
        turn: Turn<'c>,
    ) -> Result<Learner<'c>, ControlPlaneError> {
        let name = hostname(config, host);
        let peer_url = self.peer_url(host);
        let peers = format!("--peer-urls={peer_url}");
        for member in parse_members(&self.etcdctl(&turn.through, &["member", "list"]).await?) {
            if member.hostname == name {
                self.retry_etcdctl(&turn.through, &["member", "remove", &format!("{:x}", member.id)]).await?;
            }
        }
        let added = self.retry_etcdctl(&turn.through, &["member", "add", name, "--learner", &peers]).await?;
        let members = parse_members(&self.etcdctl(&turn.through, &["member", "list"]).await?);
        let initial: Vec<String> = members
            .iter()
            .flat_map(|member| {
                let name = if member.peer_urls.contains(&peer_url) { name } else { member.hostname.as_str() };
                member.peer_urls.iter().map(move |url| format!("{name}={url}"))
            })
            .collect();
        self.start_member(host, config, own, Some(InitialCluster::Existing(initial.join(",")))).await?;
        let id = added.pointer("/member/ID").and_then(Value::as_u64).unwrap_or_default();
        Ok(Learner { id, turn: turn.newest, route: turn.route })
    }

    /// Tries to promote a learner until etcd accepts it.
    async fn promote(&self, host: ControlPlaneHost<'_>, id: u64) -> Result<(), EtcdError> {
        let deadline = Instant::now() + PROMOTION_TIMEOUT;
        let id = format!("{id:x}");
        loop {
            let attempted = Instant::now();
            let through = self.healthy_access(host).await?;
            match self.etcdctl(&through, &["member", "promote", &id]).await {
                Ok(_) => return Ok(()),
                Err(error @ EtcdError::MemberNotFound(_)) => return Err(error),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
            let waiting = self.waiting().len();
            tokio::time::sleep(self.timings.until_next_promotion(attempted.elapsed(), waiting)).await;
        }
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

    /// Access to another member that votes, or to the machine's own if there is none.
    pub(super) async fn healthy_access(&self, host: ControlPlaneHost<'_>) -> Result<MemberAccess, EtcdError> {
        let members = self.etcd.lock().await;
        let other = members.iter().find(|(address, member)| **address != host.address && member.votes_since.is_some());
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
