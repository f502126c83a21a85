//! The calls.

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::connect::{self, Fingerprint};
use super::error::{ClientError, Kind};
use super::status::MachineStatus;
use crate::dial::Dialer;
use crate::proto::common::{self, Data};
use crate::proto::cosi::resource::state_client::StateClient;
use crate::proto::cosi::resource::{GetRequest, WatchRequest};
use crate::proto::machine::apply_configuration_request::Mode;
use crate::proto::machine::machine_service_client::MachineServiceClient;
use crate::proto::machine::{
    ApplyConfigurationRequest, BootstrapRequest, EtcdMemberListRequest, ListRequest, LogsRequest, ReadRequest,
    RebootRequest,
};
use crate::talos::config::AdminIdentity;

/// Talos 1.12 `pkg/machinery/constants`: larger configs are refused on the way.
const MAX_MESSAGE: usize = 32 << 20;
/// How long a call that answers at once may take.
const CALL: Duration = Duration::from_secs(15);

/// A node in maintenance mode.
#[derive(Debug, Clone)]
pub struct Maintenance {
    node: IpAddr,
    channel: Channel,
    pub fingerprint: Option<Fingerprint>,
}

/// A configured node, as its administrator.
#[derive(Debug, Clone)]
pub struct Client {
    node: IpAddr,
    channel: Channel,
}

/// How a node took a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub warnings: Vec<String>,
    /// The node's own words.
    pub details: String,
}

/// A member of etcd as a control plane sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    pub id: u64,
    pub hostname: String,
    pub peer_urls: Vec<String>,
    pub is_learner: bool,
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: String,
    pub state: String,
    pub healthy: bool,
    pub last_message: String,
    /// What happened to it, oldest first.
    pub events: Vec<String>,
}

async fn within<T>(
    node: IpAddr,
    call: &'static str,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(CALL, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(status)) => Err(ClientError::from_status(node, call, &status)),
        Err(_) => Err(ClientError::new(node, call, Kind::Unreachable, format!("no answer within {CALL:?}"))),
    }
}

/// One element a node: the first is ours, and its metadata may hold an error although the call succeeded.
fn element<T>(
    node: IpAddr,
    call: &'static str,
    messages: Vec<T>,
    metadata: impl Fn(&T) -> Option<&common::Metadata>,
) -> Result<T, ClientError> {
    let Some(message) = messages.into_iter().next() else {
        return Err(ClientError::new(node, call, Kind::Other, "the answer is empty"));
    };
    match metadata(&message).map(|metadata| metadata.error.clone()).filter(|error| !error.is_empty()) {
        Some(error) => Err(ClientError::new(node, call, Kind::Other, error)),
        None => Ok(message),
    }
}

async fn machine_status(node: IpAddr, channel: Channel) -> Result<MachineStatus, ClientError> {
    let call = "get machine status";
    let request = GetRequest {
        namespace: "runtime".into(),
        r#type: "MachineStatuses.runtime.talos.dev".into(),
        id: "machine".into(),
        options: None,
    };
    let mut client = StateClient::new(channel);
    let answer = within(node, call, client.get(request)).await?.into_inner();
    answer
        .resource
        .as_ref()
        .and_then(MachineStatus::from_resource)
        .ok_or_else(|| ClientError::new(node, call, Kind::Other, "the machine status cannot be read"))
}

async fn apply(node: IpAddr, channel: Channel, config: &str, dry_run: bool) -> Result<Applied, ClientError> {
    let call = "apply configuration";
    let request = ApplyConfigurationRequest {
        data: config.as_bytes().to_vec(),
        mode: Mode::Auto.into(),
        dry_run,
        try_mode_timeout: None,
    };
    let mut client = MachineServiceClient::new(channel).max_encoding_message_size(MAX_MESSAGE);
    let answer = within(node, call, client.apply_configuration(request)).await?.into_inner();
    let message = element(node, call, answer.messages, |message| message.metadata.as_ref())?;
    Ok(Applied { warnings: message.warnings, details: message.mode_details })
}

impl Maintenance {
    /// Connects, checking the fingerprint when one is pinned.
    ///
    /// # Errors
    ///
    /// A node that does not answer or shows another key.
    pub async fn connect(dialer: &Dialer, node: IpAddr, pin: Option<&Fingerprint>) -> Result<Self, ClientError> {
        let (channel, seen) = connect::maintenance(dialer, node, pin).await?;
        Ok(Self { node, channel, fingerprint: seen.fingerprint() })
    }

    /// The machine's status; the one call that every Talos line answers in maintenance mode.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node asks for a certificate, so is configured already.
    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        machine_status(self.node, self.channel.clone()).await
    }

    /// Hands the node its config. It installs and reboots by itself afterwards.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's own words when the config is not valid.
    pub async fn apply_configuration(&self, config: &str) -> Result<Applied, ClientError> {
        apply(self.node, self.channel.clone(), config, false).await
    }
}

impl Client {
    /// Connects with mutual TLS.
    ///
    /// # Errors
    ///
    /// `Untrusted` when the node belongs to another cluster or is not configured yet.
    pub async fn connect(dialer: &Dialer, node: IpAddr, identity: &AdminIdentity) -> Result<Self, ClientError> {
        let (channel, _) = connect::configured(dialer, node, identity).await?;
        Ok(Self { node, channel })
    }

    pub fn node(&self) -> IpAddr {
        self.node
    }

    fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel.clone())
            .max_encoding_message_size(MAX_MESSAGE)
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// The Talos version, such as `v1.12.0`.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn version(&self) -> Result<String, ClientError> {
        let call = "version";
        let answer = within(self.node, call, self.machine().version(())).await?.into_inner();
        let message = element(self.node, call, answer.messages, |message| message.metadata.as_ref())?;
        Ok(message.version.map(|version| version.tag).unwrap_or_default())
    }

    /// # Errors
    ///
    /// As every call.
    pub async fn machine_status(&self) -> Result<MachineStatus, ClientError> {
        machine_status(self.node, self.channel.clone()).await
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
        let call = "watch machine status";
        let request = WatchRequest {
            namespace: "runtime".into(),
            r#type: "MachineStatuses.runtime.talos.dev".into(),
            id: Some("machine".into()),
            options: None,
            api_version: 1,
        };
        let mut client = StateClient::new(self.channel.clone());
        let mut stream = within(self.node, call, client.watch(request)).await?.into_inner();
        while let Some(answer) = stream.next().await {
            let answer = answer.map_err(|status| ClientError::from_status(self.node, call, &status))?;
            for event in answer.event {
                let status = event.resource.as_ref().and_then(MachineStatus::from_resource);
                if let Some(status) = status.filter(|status| enough(status)) {
                    return Ok(status);
                }
            }
        }
        Err(ClientError::new(self.node, call, Kind::Unreachable, "the watch ended"))
    }

    /// The active machine config as text. It is secret.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn machine_config(&self) -> Result<secrecy::SecretString, ClientError> {
        let call = "get machine config";
        let request = GetRequest {
            namespace: "config".into(),
            r#type: "MachineConfigs.config.talos.dev".into(),
            id: "v1alpha1".into(),
            options: None,
        };
        let mut client = StateClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let answer = within(self.node, call, client.get(request)).await?.into_inner();
        let spec = answer.resource.and_then(|resource| resource.spec);
        spec.and_then(|spec| serde_saphyr::from_str::<String>(&spec.yaml_spec).ok())
            .map(Into::into)
            .ok_or_else(|| ClientError::new(self.node, call, Kind::Other, "the machine config cannot be read"))
    }

    /// Applies a config to a configured node, or only asks what would happen.
    ///
    /// # Errors
    ///
    /// `Refused` with the node's own words when the config is not valid.
    pub async fn apply_configuration(&self, config: &str, dry_run: bool) -> Result<Applied, ClientError> {
        apply(self.node, self.channel.clone(), config, dry_run).await
    }

    /// Starts etcd on this node as the first member. Never call it twice without a look at every control plane.
    ///
    /// # Errors
    ///
    /// `NotYet` when the node is not ready for it; `AlreadyDone` when it has been bootstrapped.
    pub async fn bootstrap(&self) -> Result<(), ClientError> {
        let call = "bootstrap";
        let request = BootstrapRequest { recover_etcd: false, recover_skip_hash_check: false };
        let answer = within(self.node, call, self.machine().bootstrap(request)).await?.into_inner();
        element(self.node, call, answer.messages, |message| message.metadata.as_ref()).map(|_| ())
    }

    /// # Errors
    ///
    /// As every call; before etcd runs on this node there is no list.
    pub async fn etcd_members(&self) -> Result<Vec<EtcdMember>, ClientError> {
        let call = "etcd member list";
        let request = EtcdMemberListRequest { query_local: true };
        let answer = within(self.node, call, self.machine().etcd_member_list(request)).await?.into_inner();
        let message = element(self.node, call, answer.messages, |message| message.metadata.as_ref())?;
        Ok(message
            .members
            .into_iter()
            .map(|member| EtcdMember {
                id: member.id,
                hostname: member.hostname,
                peer_urls: member.peer_urls,
                is_learner: member.is_learner,
            })
            .collect())
    }

    /// Every service that the node runs or waits to run.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn services(&self) -> Result<Vec<Service>, ClientError> {
        let call = "service list";
        let answer = within(self.node, call, self.machine().service_list(())).await?.into_inner();
        let message = element(self.node, call, answer.messages, |message| message.metadata.as_ref())?;
        let services = message.services.into_iter().map(|service| {
            let health = service.health.unwrap_or_default();
            Service {
                id: service.id,
                state: service.state,
                healthy: health.healthy,
                last_message: health.last_message,
                events: service.events.unwrap_or_default().events.into_iter().map(|event| event.msg).collect(),
            }
        });
        Ok(services.collect())
    }

    /// What a service of the node has written since it booted, as far as the node still has it.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn log(&self, service: &str) -> Result<String, ClientError> {
        let request = LogsRequest {
            namespace: "system".into(),
            id: service.to_owned(),
            driver: 0,
            follow: false,
            // Everything; zero would be nothing.
            tail_lines: -1,
        };
        let stream = within(self.node, "logs", self.machine().logs(request)).await?.into_inner();
        self.collect("logs", stream).await
    }

    /// The names of what lies in a folder of the node; none when there is no such folder.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn folder(&self, path: &str) -> Result<Vec<String>, ClientError> {
        let call = "list files";
        // Without recursion the folder itself comes first, then what lies in it.
        let request = ListRequest { root: path.to_owned(), ..ListRequest::default() };
        let entries = async { self.machine().list(request).await?.into_inner().try_collect::<Vec<_>>().await };
        let entries = match within(self.node, call, entries).await {
            Err(error) if error.reason.contains("no such file or directory") => return Ok(vec![]),
            entries => entries?,
        };
        if let Some(entry) = entries.iter().find(|entry| !entry.error.is_empty()) {
            return Err(ClientError::new(self.node, call, Kind::Other, &entry.error));
        }
        Ok(entries.into_iter().skip(1).map(|entry| entry.relative_name).collect())
    }

    async fn collect(&self, call: &'static str, mut stream: Streaming<Data>) -> Result<String, ClientError> {
        let mut text = Vec::new();
        while let Some(data) = stream.next().await {
            text.extend(data.map_err(|status| ClientError::from_status(self.node, call, &status))?.bytes);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Differs from one boot to the next.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn boot_id(&self) -> Result<String, ClientError> {
        let call = "read boot id";
        let request = Request::new(ReadRequest { path: "/proc/sys/kernel/random/boot_id".into() });
        let stream = within(self.node, call, self.machine().read(request)).await?.into_inner();
        Ok(self.collect(call, stream).await?.trim().to_owned())
    }

    /// # Errors
    ///
    /// As every call.
    pub async fn reboot(&self) -> Result<(), ClientError> {
        let call = "reboot";
        let answer = within(self.node, call, self.machine().reboot(RebootRequest { mode: 0 })).await?.into_inner();
        element(self.node, call, answer.messages, |message| message.metadata.as_ref()).map(|_| ())
    }
}
