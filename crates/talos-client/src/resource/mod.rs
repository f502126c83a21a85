//! COSI resources: what a machine tells about itself, to be got, listed and watched.
//!
//! Facts from COSI runtime 1.10 to 1.16: every resource has its content as YAML too; a watch begins with an empty
//! message; one on a single id tells a tombstone when there is none; a kind that this Talos does not have is refused.

mod kinds;

use super::error::{ClientError, Kind};
use super::link::{Flow, Link, Stream, Wait};
use talos_proto::cosi::resource as wire;
use talos_proto::cosi::resource::{GetRequest, ListRequest, WatchOptions, WatchRequest};

pub use kinds::{
    AddressStatus, BlockDevice, BootId, ClusterInfo, Diagnostic, EtcdMemberId, EtcdSpec, HostnameStatus, Identity,
    LinkStatus, MachineConfig, MachineStatus, MachineType, Member, NetworkStatus, NodeAddress, NodeStatus, Nodename,
    RunningVersion, SecurityState, ServiceStatus, Stage, StaticPodStatus, SystemDisk, TimeStatus,
    UnattendedInstallStatus, VolumeStatus,
};

/// A kind of resource that is read into a type.
pub trait Resource: Sized {
    const NAMESPACE: &'static str;
    const TYPE: &'static str;

    /// Reads the content; nothing when it has another form than is known.
    fn read(yaml: &str) -> Option<Self>;
}

/// A kind of resource by its names only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named<'n> {
    namespace: &'n str,
    kind: &'n str,
}

const fn named<R: Resource>() -> Named<'static> {
    Named { namespace: R::NAMESPACE, kind: R::TYPE }
}

/// What happened to a watched resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<R> {
    /// It is there, or is another now.
    Is { id: String, now: R },
    /// It is not there, or no longer.
    IsNot { id: String },
    /// All that were there at the beginning have been told.
    Complete,
}

/// The resources of a node.
#[derive(Debug, Clone)]
pub struct Resources(Link);

impl Resources {
    pub(super) fn new(link: Link) -> Self {
        Self(link)
    }

    /// One by its id.
    ///
    /// # Errors
    ///
    /// `Absent` when there is none; `Refused` when this Talos has no such kind.
    pub async fn get<R: Resource>(&self, id: &str) -> Result<R, ClientError> {
        let yaml = self.yaml(named::<R>(), id).await?;
        R::read(&yaml).ok_or_else(|| self.unreadable("get resource", R::TYPE, id))
    }

    /// One by its id; nothing when there is none, or no such kind on this Talos.
    ///
    /// # Errors
    ///
    /// As every call.
    pub async fn find<R: Resource>(&self, id: &str) -> Result<Option<R>, ClientError> {
        match self.get(id).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == Kind::Absent || error.reason.contains("is not supported") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All of a kind, with their ids.
    ///
    /// # Errors
    ///
    /// `Refused` when this Talos has no such kind.
    pub async fn list<R: Resource>(&self) -> Result<Vec<(String, R)>, ClientError> {
        let all = self.yamls(named::<R>()).await?;
        all.into_iter()
            .map(|(id, yaml)| match R::read(&yaml) {
                Some(resource) => Ok((id, resource)),
                None => Err(self.unreadable("list resources", R::TYPE, &id)),
            })
            .collect()
    }

    /// Any kind as YAML, by its full name and namespace: one by its id, or all.
    ///
    /// # Errors
    ///
    /// As [`Resources::get`] and [`Resources::list`].
    pub async fn text(
        &self,
        namespace: &str,
        kind: &str,
        id: Option<&str>,
    ) -> Result<Vec<(String, String)>, ClientError> {
        let named = Named { namespace, kind };
        match id {
            Some(id) => Ok(vec![(id.to_owned(), self.yaml(named, id).await?)]),
            None => self.yamls(named).await,
        }
    }

    /// Watches one by its id, or all of a kind. What is there already is told first.
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

    async fn yaml(&self, named: Named<'_>, id: &str) -> Result<String, ClientError> {
        let call = "get resource";
        let request =
            GetRequest { namespace: named.namespace.into(), r#type: named.kind.into(), id: id.into(), options: None };
        let mut state = self.0.state();
        let answer = self.0.within(call, Wait::Short, state.get(self.0.request(request))).await?.into_inner();
        let spec = answer.resource.and_then(|resource| resource.spec);
        spec.map(|spec| spec.yaml_spec).ok_or_else(|| self.unreadable(call, named.kind, id))
    }

    async fn yamls(&self, named: Named<'_>) -> Result<Vec<(String, String)>, ClientError> {
        let request = ListRequest { namespace: named.namespace.into(), r#type: named.kind.into(), options: None };
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
        self.0.error(call, Kind::Other, format!("{kind} `{id}` has a form that is not known"))
    }
}

fn parts(resource: wire::Resource) -> Option<(String, String)> {
    Some((resource.metadata?.id, resource.spec?.yaml_spec))
}

/// Changes as they come.
#[derive(Debug)]
pub struct Watch<R> {
    stream: Stream<wire::WatchResponse>,
    /// Events of a message that have not been told yet, the next one last.
    pending: Vec<wire::Event>,
    read: fn(&str) -> Option<R>,
}

impl<R> Watch<R> {
    /// The next change.
    ///
    /// # Errors
    ///
    /// `Unreachable` when the watch ends, whoever ended it: the caller connects and watches again.
    pub async fn next(&mut self) -> Result<Change<R>, ClientError> {
        let call = "watch resources";
        loop {
            while let Some(event) = self.pending.pop() {
                if event.event_type() == wire::EventType::Errored {
                    let text = format!("the node cut the watch off: {}", event.error);
                    return Err(self.stream.link().error(call, Kind::Unreachable, text));
                }
                if let Some(change) = self.change(event) {
                    return Ok(change);
                }
            }
            match self.stream.raw().await? {
                Some(answer) => self.pending = answer.event.into_iter().rev().collect(),
                None => return Err(self.stream.link().error(call, Kind::Unreachable, "the watch ended")),
            }
        }
    }

    fn change(&self, event: wire::Event) -> Option<Change<R>> {
        use wire::EventType;
        match event.event_type() {
            EventType::Created | EventType::Updated => {
                let (id, yaml) = parts(event.resource?)?;
                Some(Change::Is { id, now: (self.read)(&yaml)? })
            }
            EventType::Destroyed => Some(Change::IsNot { id: event.resource?.metadata?.id }),
            EventType::Bootstrapped => Some(Change::Complete),
            EventType::Errored | EventType::Noop => None,
        }
    }
}
