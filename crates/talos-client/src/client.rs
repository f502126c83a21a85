//! Client for a configured node, authenticated as administrator.

use std::net::IpAddr;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};

use super::config;
use super::config::{ApplyMode, ApplyResult, ChangeEffect, Effect};
use super::connect::{self, ClientIdentity};
use super::error::{ClientError, ClientErrorKind};
use super::etcd;
use super::etcd::{EtcdAlarm, EtcdBootstrap, EtcdMember, EtcdStatus};
use super::events;
use super::events::{EventsSince, MachineEvents};
use super::files;
use super::files::{KernelLog, Lines, LogMode, Tail};
use super::hardware;
use super::hardware::{Clock, Disk};
use super::image;
use super::image::{Image, ImageSpace};
use super::lifecycle;
use super::lifecycle::{ActorId, RebootMode, ResetOptions, UpgradeOutcome};
use super::link::{Link, Target, Wait};
use super::resource::{MachineStatus, ResourceChange, Resources};
use super::service::{Service, services_of};
use super::version::TalosVersion;
use net::Dialer;

/// Client for a configured node, authenticated as administrator. Every call has a timeout; [`ClientErrorKind`] classifies errors.
#[derive(Debug, Clone)]
pub struct Client {
    link: Link,
}

impl Client {
    /// Connects with mutual TLS. The client never reconnects: when the connection is lost, calls fail.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node belongs to another cluster or is not configured yet.
    pub async fn connect(dialer: &Dialer, node: IpAddr, identity: &ClientIdentity) -> Result<Self, ClientError> {
        let (link, _) = connect::configured(dialer, node, identity).await?;
        Ok(Self { link })
    }

    /// Whether the connection has ended, as far as a call has shown it. Every further call fails.
    pub fn is_lost(&self) -> bool {
        self.link.is_lost()
    }

    /// A client that uses this connection and lets its node forward calls to `node`. Workers do not forward.
    #[must_use]
    pub fn forwarded_to(&self, node: IpAddr) -> Self {
        Self { link: self.link.to(Target::Forwarded(node)) }
    }

    /// A client that uses this connection and lets its node call `nodes` and aggregate their responses.
    pub fn every(&self, nodes: &[IpAddr]) -> MultiNodeClient {
        MultiNodeClient { link: self.link.to(Target::Every(nodes.to_vec())) }
    }

    /// The COSI resources of the node.
    pub fn resources(&self) -> Resources {
        Resources::new(self.link.clone())
    }

    pub async fn version(&self) -> Result<TalosVersion, ClientError> {
        let (call, mut machine) = ("version", self.link.machine());
        let answer = self.link.one(call, Wait::Short, machine.version(self.link.request(()))).await?;
        let tag = answer.version.map(|version| version.tag).unwrap_or_default();
        TalosVersion::parse(&tag)
            .ok_or_else(|| self.link.error(call, ClientErrorKind::Other, format!("invalid version `{tag}`")))
    }

    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        self.resources().get("machine").await
    }

    /// Watches the machine status until it satisfies `enough`, and returns it.
    ///
    /// # Errors
    ///
    /// The connection ended; the caller reconnects.
    pub async fn watch_status(
        &self,
        mut enough: impl FnMut(&MachineStatus) -> bool,
    ) -> Result<MachineStatus, ClientError> {
        let mut watch = self.resources().watch::<MachineStatus>(Some("machine")).await?;
        loop {
            if let ResourceChange::Present { resource: now, .. } = watch.next().await?
                && enough(&now)
            {
                return Ok(now);
            }
        }
    }

    /// The active machine config as text. It is secret.
    pub async fn machine_config(&self) -> Result<SecretString, ClientError> {
        config::running(&self.resources()).await
    }

    /// Applies a machine config.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's message when the config is invalid.
    pub async fn apply_configuration(&self, config: &str, mode: ApplyMode) -> Result<ApplyResult, ClientError> {
        kill_points::around("config of a node", config::apply(&self.link, config, mode, Effect::Apply)).await
    }

    /// Dry run of [`Client::apply_configuration`], including the node's own validation.
    ///
    /// # Errors
    ///
    /// As [`Client::apply_configuration`].
    pub async fn try_configuration(&self, config: &str) -> Result<ApplyResult, ClientError> {
        config::apply(&self.link, config, ApplyMode::Auto, Effect::DryRun).await
    }

    /// What applying this config would change, by a dry run.
    ///
    /// # Errors
    ///
    /// As [`Client::apply_configuration`].
    pub async fn change_effect(&self, config: &str) -> Result<ChangeEffect, ClientError> {
        let (version, tried) = tokio::try_join!(self.version(), self.try_configuration(config))?;
        Ok(ChangeEffect::from_dry_run(&version, &tried.details))
    }

    /// Bootstraps etcd on this node as the first member. Before a second call, the state of every control plane has to be
    /// checked: a bootstrap on another node creates a second cluster.
    ///
    /// # Errors
    ///
    /// `NotYet` when the node is not ready; `AlreadyDone` when it is bootstrapped.
    pub async fn bootstrap(&self, beginning: EtcdBootstrap) -> Result<(), ClientError> {
        etcd::bootstrap(&self.link, beginning).await
    }

    /// The member list of this node's etcd member.
    ///
    /// # Errors
    ///
    /// `NotReady` while etcd does not run on this node; no answer within three seconds.
    pub async fn etcd_members(&self) -> Result<Vec<EtcdMember>, ClientError> {
        self.require_etcd("etcd member list").await?;
        etcd::members(&self.link).await
    }

    /// The status of this node's etcd member.
    ///
    /// # Errors
    ///
    /// As [`etcd_members`](Self::etcd_members).
    pub async fn etcd_status(&self) -> Result<EtcdStatus, ClientError> {
        self.require_etcd("etcd status").await?;
        etcd::status(&self.link).await
    }

    /// The alarms of all members, by member id.
    ///
    /// # Errors
    ///
    /// As [`etcd_members`](Self::etcd_members).
    pub async fn etcd_alarms(&self) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
        self.require_etcd("etcd alarm list").await?;
        etcd::alarms(&self.link).await
    }

    /// Disarms all alarms and returns them.
    ///
    /// # Errors
    ///
    /// As [`etcd_members`](Self::etcd_members).
    pub async fn etcd_disarm(&self) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
        self.require_etcd("etcd alarm disarm").await?;
        etcd::disarm(&self.link).await
    }

    /// Whether etcd runs on this node: a call that etcd answers blocks until the caller's deadline where it does not
    /// (Talos 1.12.4).
    async fn require_etcd(&self, call: &'static str) -> Result<(), ClientError> {
        let services = self.services().await?;
        let reason = match services.iter().find(|service| service.id == "etcd") {
            Some(service) if service.state == "Running" => return Ok(()),
            Some(service) => {
                let last = service.events.last().map(|event| format!(": {event}")).unwrap_or_default();
                format!("etcd is {}{last}", service.state)
            }
            None => "the node does not list etcd".to_owned(),
        };
        Err(self.link.error(call, ClientErrorKind::NotReady, reason))
    }

    /// Writes a snapshot of etcd, verifies its digest and returns its size in bytes.
    pub async fn etcd_snapshot(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, ClientError> {
        etcd::snapshot(&self.link, out).await
    }

    /// Uploads a snapshot for [`EtcdBootstrap::FromSnapshot`].
    ///
    /// # Errors
    ///
    /// `NotYet` while EPHEMERAL is not mounted.
    pub async fn etcd_recover(&self, snapshot: impl AsyncRead + Send + Unpin) -> Result<(), ClientError> {
        etcd::recover(&self.link, snapshot).await
    }

    /// All services of the node, running or waiting.
    pub async fn services(&self) -> Result<Vec<Service>, ClientError> {
        let mut machine = self.link.machine();
        let answer = self.link.one("service list", Wait::Short, machine.service_list(self.link.request(()))).await?;
        Ok(services_of(answer))
    }

    /// The log of a Talos service since the node booted.
    pub async fn log(&self, service: &str, tail: Tail, mode: LogMode) -> Result<Lines, ClientError> {
        files::log(&self.link, service, tail, mode).await
    }

    /// The kernel log since the node booted.
    pub async fn kernel_log(&self, mode: LogMode) -> Result<KernelLog, ClientError> {
        files::kernel_log(&self.link, mode).await
    }

    /// Events of the machine, only those caused by `actor` if given.
    pub async fn events(&self, since: &EventsSince, actor: Option<&str>) -> Result<MachineEvents, ClientError> {
        events::events(&self.link, since, actor).await
    }

    /// The content of a regular file.
    ///
    /// # Errors
    ///
    /// `Absent` when the file does not exist.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        files::read(&self.link, path).await
    }

    /// The names in a directory; empty when it does not exist.
    pub async fn folder(&self, path: &str) -> Result<Vec<String>, ClientError> {
        files::folder(&self.link, path).await
    }

    /// Changes with every boot.
    pub async fn boot_id(&self) -> Result<String, ClientError> {
        let text = self.read("/proc/sys/kernel/random/boot_id").await?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The administrator's kubeconfig as the node generates it. It is secret.
    pub async fn kubeconfig(&self) -> Result<SecretString, ClientError> {
        files::kubeconfig(&self.link).await
    }

    pub async fn disks(&self) -> Result<Vec<Disk>, ClientError> {
        hardware::disks(&self.link).await
    }

    /// Compares the node's clock with `server`, or with the node's configured time server.
    pub async fn clock(&self, server: Option<&str>) -> Result<Clock, ClientError> {
        hardware::clock(&self.link, server).await
    }

    pub async fn images(&self, space: ImageSpace) -> Result<Vec<Image>, ClientError> {
        image::list(&self.link, &self.version().await?, space).await
    }

    /// Pulls an image and returns its name on the node. `progress` gets a line for each layer where the node reports them.
    ///
    /// # Errors
    ///
    /// `Absent` when the registry does not have the image.
    pub async fn pull_image(
        &self,
        space: ImageSpace,
        reference: &str,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<String, ClientError> {
        image::pull(&self.link, &self.version().await?, space, reference, progress).await
    }

    pub async fn reboot(&self, how: RebootMode) -> Result<ActorId, ClientError> {
        lifecycle::reboot(&self.link, how).await
    }

    /// Cordons and drains the node, then shuts it down.
    pub async fn shutdown(&self) -> Result<ActorId, ClientError> {
        lifecycle::shutdown(&self.link).await
    }

    pub async fn reset(&self, what: ResetOptions) -> Result<ActorId, ClientError> {
        lifecycle::reset(&self.link, what).await
    }

    /// Boots the system that ran before the last upgrade.
    pub async fn rollback(&self) -> Result<(), ClientError> {
        lifecycle::rollback(&self.link).await
    }

    /// Installs another version; `progress` gets the output of the installer. The caller keeps etcd healthy.
    ///
    /// # Errors
    ///
    /// `Refused` when the installer failed.
    pub async fn upgrade(
        &self,
        image: &str,
        progress: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<UpgradeOutcome, ClientError> {
        lifecycle::upgrade(&self.link, &self.version().await?, image, progress).await
    }
}

/// One result for each node, by name.
pub type ResultsByNode<T> = Vec<(String, Result<T, ClientError>)>;

/// Several nodes, called through one of them. Only calls that Talos 1.11 to 1.14 all aggregate.
#[derive(Debug, Clone)]
pub struct MultiNodeClient {
    link: Link,
}

impl MultiNodeClient {
    pub async fn version(&self) -> Result<ResultsByNode<String>, ClientError> {
        let mut machine = self.link.machine();
        let answers = self.link.each("version", machine.version(self.link.request(()))).await?;
        let tag = |version: talos_proto::machine::Version| version.version.map(|info| info.tag).unwrap_or_default();
        Ok(answers.into_iter().map(|(node, answer)| (node, answer.map(tag))).collect())
    }

    pub async fn services(&self) -> Result<ResultsByNode<Vec<Service>>, ClientError> {
        let mut machine = self.link.machine();
        let answers = self.link.each("service list", machine.service_list(self.link.request(()))).await?;
        Ok(answers.into_iter().map(|(node, answer)| (node, answer.map(services_of))).collect())
    }
}
