//! COSI: the resources of a machine, read-only.

mod contents;
mod kinds;
mod messages;
mod versions;

use std::pin::Pin;
use std::sync::PoisonError;

use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use self::kinds::Kind;
pub(super) use self::versions::Versions;
use super::access::{ADMIN, Mode};
use super::machine_service::{Api, roles_of};
use super::{Node, stamp};
use crate::machine::Role;
use talos_proto::cosi::resource::state_server::State;
use talos_proto::cosi::resource::{
    Event, EventType, GetRequest, GetResponse, ListRequest, ListResponse, Metadata, Resource, Spec, WatchRequest,
    WatchResponse,
};

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A resource without its metadata: as a message for programs and as YAML for people.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    id: String,
    proto: Vec<u8>,
    text: Text,
}

#[derive(Debug, Clone, PartialEq)]
enum Text {
    Data(Value),
    /// YAML as it is, whatever is in it.
    Written(String),
}

impl Item {
    fn new(id: &str, message: &impl prost::Message, text: Value) -> Self {
        Self { id: id.to_owned(), proto: message.encode_to_vec(), text: Text::Data(text) }
    }

    fn written(id: &str, message: &impl prost::Message, text: &str) -> Self {
        Self { id: id.to_owned(), proto: message.encode_to_vec(), text: Text::Written(text.to_owned()) }
    }
}

impl Node {
    fn with_metadata(&self, kind: &Kind, item: Item) -> Resource {
        let name = kind.full_name();
        let seen = self.versions.lock().unwrap_or_else(PoisonError::into_inner).of(&name, &item);
        // The mark by which talosctl knows that the YAML is a string that holds YAML.
        let quoted = name.starts_with("MachineConfigs.") && matches!(item.text, Text::Data(_));
        let annotated = quoted.then(|| ("talos.dev/yaml-spec".to_owned(), "1".to_owned()));
        let metadata = Metadata {
            namespace: kind.namespace.to_owned(),
            annotations: annotated.into_iter().collect(),
            r#type: name,
            id: item.id,
            version: seen.version.to_string(),
            phase: "running".to_owned(),
            created: Some(stamp(seen.created)),
            updated: Some(stamp(seen.updated)),
            ..Default::default()
        };
        let yaml_spec = match item.text {
            Text::Data(data) => yaml::to_string(&data).unwrap_or_default(),
            Text::Written(text) => text,
        };
        Resource { metadata: Some(metadata), spec: Some(Spec { proto_spec: item.proto, yaml_spec }) }
    }

    fn resources(&self, kind: &Kind) -> Vec<Resource> {
        contents::of(self, kind).into_iter().map(|item| self.with_metadata(kind, item)).collect()
    }
}

impl Api {
    /// The kind, if this caller may read it.
    fn may_read<T>(&self, name: &str, namespace: &str, request: &Request<T>) -> Result<&'static Kind, Status> {
        let kind = kinds::find(&self.node.talos(), name)
            .ok_or_else(|| Status::permission_denied(format!("resource type {name:?} is not supported")))?;
        let admin = self.mode == Mode::Configured && roles_of(request).iter().any(|role| role == ADMIN);
        if kind.sensitive && !admin {
            return Err(Status::permission_denied("not authorized"));
        }
        if !kinds::is_namespace(namespace) {
            return Err(Status::permission_denied(format!("namespace {namespace:?} is not supported")));
        }
        Ok(kind)
    }
}

fn id_of(resource: &Resource) -> &str {
    resource.metadata.as_ref().map_or("", |metadata| &metadata.id)
}

/// What has become of the resources between two looks.
fn differences(before: &[Resource], after: &[Resource]) -> Vec<Event> {
    let find = |among: &[Resource], id: &str| among.iter().find(|resource| id_of(resource) == id).cloned();
    let event = |event_type: EventType, resource: &Resource, old: Option<Resource>| Event {
        resource: Some(resource.clone()),
        event_type: event_type.into(),
        old,
        ..Default::default()
    };
    let gone = before.iter().filter(|resource| find(after, id_of(resource)).is_none());
    let gone = gone.map(|resource| event(EventType::Destroyed, resource, None));
    let here = after.iter().filter_map(|resource| match find(before, id_of(resource)) {
        None => Some(event(EventType::Created, resource, None)),
        Some(old) if old != *resource => Some(event(EventType::Updated, resource, Some(old))),
        Some(_) => None,
    });
    gone.chain(here).collect()
}

/// The first events of a watch: of one resource what it is or that it is not; of a kind what there is, if that is asked
/// for, and that this was all.
fn first_events(request: &WatchRequest, now: &[Resource]) -> Vec<Event> {
    if let Some(id) = &request.id {
        if now.is_empty() {
            let metadata = Metadata {
                namespace: request.namespace.clone(),
                r#type: request.r#type.clone(),
                id: id.clone(),
                version: "undefined".to_owned(),
                phase: "running".to_owned(),
                ..Default::default()
            };
            let tombstone = Resource { metadata: Some(metadata), spec: Some(Spec::default()) };
            let event_type = EventType::Destroyed.into();
            return vec![Event { resource: Some(tombstone), event_type, ..Default::default() }];
        }
        return differences(&[], now);
    }
    if !request.options.as_ref().is_some_and(|options| options.bootstrap_contents) {
        return vec![];
    }
    let mut events = differences(&[], now);
    if request.api_version >= 1 {
        events.push(Event { event_type: EventType::Bootstrapped.into(), ..Default::default() });
    }
    events
}

#[tonic::async_trait]
impl State for Api {
    type ListStream = Items<ListResponse>;
    type WatchStream = Items<WatchResponse>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let wanted = request.get_ref();
        let kind = self.may_read(&wanted.r#type, &wanted.namespace, &request)?;
        let found = self.node.resources(kind).into_iter().find(|resource| id_of(resource) == wanted.id);
        let missing = || {
            let (name, namespace, id) = (&wanted.r#type, &wanted.namespace, &wanted.id);
            Status::not_found(format!("resource {name}({namespace}/{id}@undefined) doesn't exist"))
        };
        Ok(Response::new(GetResponse { resource: Some(found.ok_or_else(missing)?) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let wanted = request.get_ref();
        let kind = self.may_read(&wanted.r#type, &wanted.namespace, &request)?;
        let pattern = wanted.options.as_ref().and_then(|options| options.id_query.as_ref());
        let pattern = pattern.map(|query| regex::Regex::new(&query.regexp)).transpose();
        let pattern = pattern.map_err(|error| Status::unknown(error.to_string()))?;
        let mut found = self.node.resources(kind);
        found.retain(|resource| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id_of(resource))));
        let found = found.into_iter().map(|resource| Ok(ListResponse { resource: Some(resource) }));
        Ok(Response::new(Box::pin(futures::stream::iter(found.collect::<Vec<_>>()))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let wanted = request.get_ref();
        let kind = self.may_read(&wanted.r#type, &wanted.namespace, &request)?;
        if wanted.id.is_some() && wanted.options.as_ref().is_some_and(|options| options.bootstrap_contents) {
            return Err(Status::unimplemented("bootstrap contents is not implemented for resource watch"));
        }
        let (node, id) = (self.node.clone(), wanted.id.clone());
        let look = move || {
            let mut now = node.resources(kind);
            now.retain(|resource| id.as_ref().is_none_or(|id| id_of(resource) == id));
            now
        };
        let now = look();
        let first = std::iter::once(vec![]).chain(first_events(wanted, &now).into_iter().map(|event| vec![event]));
        let first: Vec<_> = first.map(|event| Ok(WatchResponse { event })).collect();
        let changes = WatchStream::new(self.node.state.subscribe()).scan(now, move |before, _| {
            let after = look();
            let events = differences(before, &after);
            *before = after;
            std::future::ready(Some(futures::stream::iter(events)))
        });
        let changes = changes.flatten().map(|event| Ok(WatchResponse { event: vec![event] }));
        Ok(Response::new(Box::pin(futures::stream::iter(first).chain(changes))))
    }
}

/// Which role a machine's config gives it, for the lab's own status.
pub(crate) fn role_name(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::ControlPlane) => "control plane",
        Some(Role::Worker) => "worker",
        None => "unconfigured",
    }
}
