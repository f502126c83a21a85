//! A configured node, spoken to as its administrator.

use std::net::IpAddr;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};

use super::config;
use super::config::{Applied, Mode};
use super::connect;
use super::error::{ClientError, Kind};
use super::etcd;
use super::etcd::{Beginning, EtcdAlarm, EtcdMember, EtcdStatus};
use super::events;
use super::events::{Events, Since};
use super::files;
use super::files::{KernelLog, Lines, Tail};
use super::hardware;
use super::hardware::{Clock, Disk};
use super::image;
use super::image::{Image, ImageSpace};
use super::link::{Link, Target, Wait};
use super::orders;
use super::orders::{Actor, Reboot, Reset, Upgraded};
use super::resource::{Change, MachineStatus, Resources};
use super::service::{Service, services_of};
use super::version::TalosVersion;
use net::Dialer;
use talos_config::AdminIdentity;

/// A configured node, as its administrator.
///
/// Every call fails with what follows from it, see [`Kind`]; none waits for ever.
#[derive(Debug, Clone)]
pub struct Client {
    link: Link,
}

impl Client {
    /// Connects with mutual TLS. The connection is this one for good: when it is lost, calls fail, and who connects
    /// anew looks anew.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node belongs to another cluster or is not configured yet.
    pub async fn connect(dialer: &Dialer, node: IpAddr, identity: &AdminIdentity) -> Result<Self, ClientError> {
        let (link, _) = connect::configured(dialer, node, identity).await?;
        Ok(Self { link })
    }

    /// The same connection, whose node forwards calls to another one. A worker forwards to nobody.
    #[must_use]
    pub fn towards(&self, node: IpAddr) -> Self {
        Self { link: self.link.to(Target::Forwarded(node)) }
    }

    /// The same connection, whose node asks several others and puts their answers together.
    pub fn every(&self, nodes: &[IpAddr]) -> EveryNode {
        EveryNode { link: self.link.to(Target::Every(nodes.to_vec())) }
    }

    /// What the node tells about itself.
    pub fn resources(&self) -> Resources {
        Resources::new(self.link.clone())
    }

    pub async fn version(&self) -> Result<TalosVersion, ClientError> {
        let (call, mut machine) = ("version", self.link.machine());
        let answer = self.link.one(call, Wait::Short, machine.version(self.link.request(()))).await?;
        let tag = answer.version.map(|version| version.tag).unwrap_or_default();
        TalosVersion::parse(&tag).ok_or_else(|| self.link.error(call, Kind::Other, format!("`{tag}` is no version")))
    }

    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        self.resources().get("machine").await
    }

    /// Watches the machine's status until `enough` says so, and returns the status that it said so of.
    ///
    /// # Errors
    ///
    /// When the connection ends first; the caller reconnects.
    pub async fn watch_status(
        &self,
        mut enough: impl FnMut(&MachineStatus) -> bool,
    ) -> Result<MachineStatus, ClientError> {
        let mut watch = self.resources().watch::<MachineStatus>(Some("machine")).await?;
        loop {
            if let Change::Is { now, .. } = watch.next().await?
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

    /// Applies a config; the node reboots for it if it must.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's own words when the config is not valid.
    pub async fn apply_configuration(&self, config: &str, mode: Mode) -> Result<Applied, ClientError> {
        config::apply(&self.link, config, mode, false).await
    }

    /// What applying a config would do; the node's own checks included.
    ///
    /// # Errors
    ///
    /// As [`Client::apply_configuration`].
    pub async fn try_configuration(&self, config: &str) -> Result<Applied, ClientError> {
        config::apply(&self.link, config, Mode::Auto, true).await
    }

    /// Starts etcd on this node as the first member. Never call it twice without a look at every control plane.
    ///
    /// # Errors
    ///
    /// `NotYet` when the node is not ready for it; `AlreadyDone` when it has been bootstrapped.
    pub async fn bootstrap(&self, beginning: Beginning) -> Result<(), ClientError> {
        etcd::bootstrap(&self.link, beginning).await
    }

    /// The members as this node's own one lists them.
    ///
    /// # Errors
    ///
    /// Before etcd runs on this node there is no list.
    pub async fn etcd_members(&self) -> Result<Vec<EtcdMember>, ClientError> {
        etcd::members(&self.link).await
    }

    pub async fn etcd_status(&self) -> Result<EtcdStatus, ClientError> {
        etcd::status(&self.link).await
    }

    /// The alarms of all members, by member id.
    pub async fn etcd_alarms(&self) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
        etcd::alarms(&self.link).await
    }

    /// Takes all alarms back; those that were there.
    pub async fn etcd_disarm(&self) -> Result<Vec<(u64, EtcdAlarm)>, ClientError> {
        etcd::disarm(&self.link).await
    }

    /// Writes a snapshot of etcd and says how many bytes it has, once its digest has been found right.
    pub async fn etcd_snapshot(&self, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, ClientError> {
        etcd::snapshot(&self.link, out).await
    }

    /// Uploads a snapshot for [`Beginning::Recovered`].
    ///
    /// # Errors
    ///
    /// `NotYet` while the node has nowhere to put it.
    pub async fn etcd_recover(&self, snapshot: impl AsyncRead + Send + Unpin) -> Result<(), ClientError> {
        etcd::recover(&self.link, snapshot).await
    }

    /// Every service that the node runs or waits to run.
    pub async fn services(&self) -> Result<Vec<Service>, ClientError> {
        let mut machine = self.link.machine();
        let answer = self.link.one("service list", Wait::Short, machine.service_list(self.link.request(()))).await?;
        Ok(services_of(answer))
    }

    /// The log of a Talos service since the node booted; from now on when it is followed.
    pub async fn log(&self, service: &str, tail: Tail, follow: bool) -> Result<Lines, ClientError> {
        files::log(&self.link, service, tail, follow).await
    }

    /// The kernel's messages since the node booted; only new ones with `tail`.
    pub async fn kernel_log(&self, tail: bool, follow: bool) -> Result<KernelLog, ClientError> {
        files::kernel_log(&self.link, tail, follow).await
    }

    /// What happens on the machine, of one actor's doing if one is named.
    pub async fn events(&self, since: &Since, actor: Option<&str>) -> Result<Events, ClientError> {
        events::events(&self.link, since, actor).await
    }

    /// The content of a regular file.
    ///
    /// # Errors
    ///
    /// `Absent` when there is none.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        files::read(&self.link, path).await
    }

    /// The names of what lies in a folder; none when there is no such folder.
    pub async fn folder(&self, path: &str) -> Result<Vec<String>, ClientError> {
        files::folder(&self.link, path).await
    }

    /// Differs from one boot to the next.
    pub async fn boot_id(&self) -> Result<String, ClientError> {
        let text = self.read("/proc/sys/kernel/random/boot_id").await?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The administrator's kubeconfig as the node makes it. It is secret.
    pub async fn kubeconfig(&self) -> Result<SecretString, ClientError> {
        files::kubeconfig(&self.link).await
    }

    pub async fn disks(&self) -> Result<Vec<Disk>, ClientError> {
        hardware::disks(&self.link).await
    }

    /// The node's clock against a time server's, its own one unless another is named.
    pub async fn clock(&self, server: Option<&str>) -> Result<Clock, ClientError> {
        hardware::clock(&self.link, server).await
    }

    pub async fn images(&self, space: ImageSpace) -> Result<Vec<Image>, ClientError> {
        image::list(&self.link, &self.version().await?, space).await
    }

    /// Pulls an image, telling layers as they arrive where the node tells them, and says under which name the node has it.
    ///
    /// # Errors
    ///
    /// `Absent` when the registry has no such image.
    pub async fn pull_image(
        &self,
        space: ImageSpace,
        reference: &str,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<String, ClientError> {
        image::pull(&self.link, &self.version().await?, space, reference, tell).await
    }

    pub async fn reboot(&self, how: Reboot) -> Result<Actor, ClientError> {
        orders::reboot(&self.link, how).await
    }

    pub async fn shutdown(&self, force: bool) -> Result<Actor, ClientError> {
        orders::shutdown(&self.link, force).await
    }

    pub async fn reset(&self, what: Reset) -> Result<Actor, ClientError> {
        orders::reset(&self.link, what).await
    }

    /// Boots into what ran before the last upgrade.
    pub async fn rollback(&self) -> Result<(), ClientError> {
        orders::rollback(&self.link).await
    }

    /// Installs another version, telling what the installer says. etcd is for the caller to look after.
    ///
    /// # Errors
    ///
    /// `Refused` when the installer failed.
    pub async fn upgrade(&self, image: &str, tell: &(dyn Fn(&str) + Send + Sync)) -> Result<Upgraded, ClientError> {
        orders::upgrade(&self.link, &self.version().await?, image, tell).await
    }
}

/// Answers by the nodes' names, each node's failure apart.
pub type ByNode<T> = Vec<(String, Result<T, ClientError>)>;

/// Several nodes, asked through one. Only what Talos 1.11 to 1.14 all fan out.
#[derive(Debug, Clone)]
pub struct EveryNode {
    link: Link,
}

impl EveryNode {
    pub async fn version(&self) -> Result<ByNode<String>, ClientError> {
        let mut machine = self.link.machine();
        let answers = self.link.each("version", machine.version(self.link.request(()))).await?;
        let tag = |version: talos_proto::machine::Version| version.version.map(|info| info.tag).unwrap_or_default();
        Ok(answers.into_iter().map(|(node, answer)| (node, answer.map(tag))).collect())
    }

    pub async fn services(&self) -> Result<ByNode<Vec<Service>>, ClientError> {
        let mut machine = self.link.machine();
        let answers = self.link.each("service list", machine.service_list(self.link.request(()))).await?;
        Ok(answers.into_iter().map(|(node, answer)| (node, answer.map(services_of))).collect())
    }
}
