//! COSI resources of a machine: get, list and watch.
//!
//! Facts from COSI runtime 1.10 to 1.16: every resource also has its spec as YAML; a watch starts with an empty message;
//! a watch on a single id sends a tombstone when the resource does not exist; an unknown resource type is rejected.

mod definition;
mod kinds;

use super::error::{ClientError, ClientErrorKind};
use super::link::{Flow, Link, Stream, Wait};
use talos_proto::cosi::resource as wire;
use talos_proto::cosi::resource::{GetRequest, ListRequest, WatchOptions, WatchRequest};

pub use definition::ResourceKindError;
pub use kinds::{
    AddressStatus, BlockDevice, BootId, ClusterInfo, ContainerEnd, ContainerWait, Diagnostic, EtcdMemberId, EtcdSpec,
    HostnameStatus, Identity, LinkStatus, MachineConfig, MachineStatus, MachineType, Member, NetworkStatus,
    NodeAddress, NodeStatus, Nodename, RebootRequest, ResourceDefinition, RunningVersion, SecurityState, ServiceStatus,
    Stage, StaticPodContainer, StaticPodStatus, SystemDisk, TimeStatus, UnattendedInstallStatus, VolumeStatus,
};

/// A resource type.
pub trait Resource: Sized {
    const NAMESPACE: &'static str;
    const TYPE: &'static str;

    /// Parses the spec; `None` when its format is unknown.
    fn read(yaml: &str) -> Option<Self>;
}

/// Namespace and name of a resource type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ResourceType<'n> {
    namespace: &'n str,
    kind: &'n str,
}

const fn type_of<R: Resource>() -> ResourceType<'static> {
    ResourceType { namespace: R::NAMESPACE, kind: R::TYPE }
}

/// A change of a watched resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceChange<R> {
    /// The resource exists, or has changed.
    Present { id: String, resource: R },
    /// The resource does not exist, or no longer.
    Absent { id: String },
    /// All resources that existed at the start of the watch have been sent.
    Complete,
}

/// The resources of a node.
#[derive(Debug, Clone)]
pub struct Resources(Link);

impl Resources {
    pub(super) fn new(link: Link) -> Self {
        Self(link)
    }

    /// Gets a resource by id.
    ///
    /// # Errors
    ///
    /// `Absent` when it does not exist; `Refused` when this Talos version does not have the type.
    pub async fn get<R: Resource>(&self, id: &str) -> Result<R, ClientError> {
        let yaml = self.yaml(type_of::<R>(), id).await?;
        R::read(&yaml).ok_or_else(|| self.unreadable("get resource", R::TYPE, id))
    }

    /// Gets a resource by id; `None` when it does not exist or this Talos version does not have the type.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn find<R: Resource>(&self, id: &str) -> Result<Option<R>, ClientError> {
        match self.get(id).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ClientErrorKind::NotFound || error.reason.contains("is not supported") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// All resources of a type, with their ids.
    ///
    /// # Errors
    ///
    /// `Refused` when this Talos version does not have the type.
    pub async fn list<R: Resource>(&self) -> Result<Vec<(String, R)>, ClientError> {
        let all = self.yamls(type_of::<R>()).await?;
        all.into_iter()
            .map(|(id, yaml)| match R::read(&yaml) {
                Some(resource) => Ok((id, resource)),
                None => Err(self.unreadable("list resources", R::TYPE, &id)),
            })
            .collect()
    }

    /// Resources of any type as YAML, by full type name and namespace: one by id, or all.
    ///
    /// # Errors
    ///
    /// As [`Resources::get`] and [`Resources::list`].
    pub async fn read_yaml(
        &self,
        namespace: &str,
        kind: &str,
        id: Option<&str>,
    ) -> Result<Vec<(String, String)>, ClientError> {
        let resource_type = ResourceType { namespace, kind };
        match id {
            Some(id) => Ok(vec![(id.to_owned(), self.yaml(resource_type, id).await?)]),
            None => self.yamls(resource_type).await,
        }
    }

    /// Watches a resource by id, or all of a type. Existing resources are sent first.
    ///
    /// # Errors
    ///
    /// As [`Resources::list`].
    pub async fn watch<R: Resource>(&self, id: Option<&str>) -> Result<Watch<R>, ClientError> {
        let request = WatchRequest {
            namespace: R::NAMESPACE.into(),
            r#type: R::TYPE.into(),
            id: id.map(str::to_owned),
            options: id.is_none().then(|| WatchOptions { bootstrap_contents: true, ..WatchOptions::default() }),
            api_version: 1,
        };
        let mut state = self.0.state();
        let stream = self.0.stream("watch resources", Flow::Follows, state.watch(self.0.request(request))).await?;
        Ok(Watch { stream, pending: vec![], read: R::read })
    }

    async fn yaml(&self, resource_type: ResourceType<'_>, id: &str) -> Result<String, ClientError> {
        let call = "get resource";
        let ResourceType { namespace, kind } = resource_type;
        let request = GetRequest { namespace: namespace.into(), r#type: kind.into(), id: id.into(), options: None };
        let mut state = self.0.state();
        let answer = self.0.within(call, Wait::Short, state.get(self.0.request(request))).await?.into_inner();
        let spec = answer.resource.and_then(|resource| resource.spec);
        spec.map(|spec| spec.yaml_spec).ok_or_else(|| self.unreadable(call, kind, id))
    }

    async fn yamls(&self, resource_type: ResourceType<'_>) -> Result<Vec<(String, String)>, ClientError> {
        let ResourceType { namespace, kind } = resource_type;
        let request = ListRequest { namespace: namespace.into(), r#type: kind.into(), options: None };
        let mut state = self.0.state();
        let mut stream = self.0.stream("list resources", Flow::Ends, state.list(self.0.request(request))).await?;
        let mut found = Vec::new();
        while let Some(answer) = stream.raw().await? {
            if let Some((id, spec)) = answer.resource.and_then(parts) {
                found.push((id, spec));
            }
        }
        Ok(found)
    }

    fn unreadable(&self, call: &'static str, kind: &str, id: &str) -> ClientError {
        self.0.error(call, ClientErrorKind::Other, format!("{kind} `{id}` has an unknown format"))
    }
}

fn parts(resource: wire::Resource) -> Option<(String, String)> {
    Some((resource.metadata?.id, resource.spec?.yaml_spec))
}

/// A stream of changes.
#[derive(Debug)]
pub struct Watch<R> {
    stream: Stream<wire::WatchResponse>,
    /// Received events that have not been returned yet, the next one last.
    pending: Vec<wire::Event>,
    read: fn(&str) -> Option<R>,
}

impl<R> Watch<R> {
    /// The next change.
    ///
    /// # Errors
    ///
    /// `Unreachable` when the watch ends; the caller connects and watches again.
    pub async fn next(&mut self) -> Result<ResourceChange<R>, ClientError> {
        let call = "watch resources";
        loop {
            while let Some(event) = self.pending.pop() {
                if event.event_type() == wire::EventType::Errored {
                    let text = format!("the node aborted the watch: {}", event.error);
                    return Err(self.stream.link().error(call, ClientErrorKind::Unavailable, text));
                }
                if let Some(change) = self.change(event) {
                    return Ok(change);
                }
            }
            match self.stream.raw().await? {
                Some(answer) => self.pending = answer.event.into_iter().rev().collect(),
                None => return Err(self.stream.link().error(call, ClientErrorKind::Unavailable, "the watch ended")),
            }
        }
    }

    fn change(&self, event: wire::Event) -> Option<ResourceChange<R>> {
        use wire::EventType;
        match event.event_type() {
            EventType::Created | EventType::Updated => {
                let (id, yaml) = parts(event.resource?)?;
                Some(ResourceChange::Present { id, resource: (self.read)(&yaml)? })
            }
            EventType::Destroyed => Some(ResourceChange::Absent { id: event.resource?.metadata?.id }),
            EventType::Bootstrapped => Some(ResourceChange::Complete),
            EventType::Errored | EventType::Noop => None,
        }
    }
}
