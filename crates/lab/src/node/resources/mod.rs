//! COSI: read-only access to the resources of a machine.

mod contents;
mod hardware;
mod kinds;
mod messages;
mod static_pods;
mod versions;

use std::pin::Pin;
use std::sync::PoisonError;

use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

pub(super) use self::hardware::{LOOP_DISK, LOOP_DISK_SIZE, is_advertised};
use self::kinds::ResourceKind;
pub(super) use self::versions::ResourceVersions;
use super::access::{ADMIN, ApiMode};
use super::api::{NodeApi, roles_of};
use super::{SimulatedNode, to_proto_timestamp};
use crate::yaml_text::to_yaml;
use talos_proto::cosi::resource::state_server::State;
use talos_proto::cosi::resource::{
    Event, EventType, GetRequest, GetResponse, ListRequest, ListResponse, Metadata, Resource, Spec, WatchRequest,
    WatchResponse,
};

type ItemStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A resource without its metadata: the encoded spec and the YAML form.
#[derive(Debug, Clone, PartialEq)]
struct ResourceItem {
    id: String,
    proto: Vec<u8>,
    yaml: YamlSpec,
}

#[derive(Debug, Clone, PartialEq)]
enum YamlSpec {
    Data(Value),
    /// YAML that is passed on unchanged.
    Text(String),
}

impl ResourceItem {
    fn new(id: &str, message: &impl prost::Message, yaml: Value) -> Self {
        Self { id: id.to_owned(), proto: message.encode_to_vec(), yaml: YamlSpec::Data(yaml) }
    }

    fn with_yaml_text(id: &str, message: &impl prost::Message, yaml: &str) -> Self {
        Self { id: id.to_owned(), proto: message.encode_to_vec(), yaml: YamlSpec::Text(yaml.to_owned()) }
    }
}

impl SimulatedNode {
    fn with_metadata(&self, kind: &ResourceKind, item: ResourceItem) -> Resource {
        let name = kind.full_name();
        let seen = self.versions.lock().unwrap_or_else(PoisonError::into_inner).observe(&name, &item);
        // By this annotation talosctl recognizes a YAML string that contains YAML.
        let is_quoted = name.starts_with("MachineConfigs.") && matches!(item.yaml, YamlSpec::Data(_));
        let annotations = is_quoted.then(|| ("talos.dev/yaml-spec".to_owned(), "1".to_owned()));
        let metadata = Metadata {
            namespace: kind.namespace.to_owned(),
            annotations: annotations.into_iter().collect(),
            r#type: name,
            id: item.id,
            version: seen.version.to_string(),
            phase: "running".to_owned(),
            created: Some(to_proto_timestamp(seen.created)),
            updated: Some(to_proto_timestamp(seen.updated)),
            ..Default::default()
        };
        let yaml_spec = match item.yaml {
            YamlSpec::Data(data) => to_yaml(&data),
            YamlSpec::Text(text) => text,
        };
        Resource { metadata: Some(metadata), spec: Some(Spec { proto_spec: item.proto, yaml_spec }) }
    }

    fn resources(&self, kind: &ResourceKind) -> Vec<Resource> {
        contents::items(self, kind).into_iter().map(|item| self.with_metadata(kind, item)).collect()
    }
}

impl NodeApi {
    /// The resource kind, if the caller may read it.
    fn readable_kind<T>(
        &self,
        name: &str,
        namespace: &str,
        request: &Request<T>,
    ) -> Result<&'static ResourceKind, Status> {
        let kind = kinds::find(&self.node.talos(), name)
            .ok_or_else(|| Status::permission_denied(format!("resource type {name:?} is not supported")))?;
        let is_admin = self.mode == ApiMode::Configured && roles_of(request).iter().any(|role| role == ADMIN);
        if kind.sensitive && !is_admin {
            return Err(Status::permission_denied("not authorized"));
        }
        if !kinds::is_namespace(&self.node.talos(), namespace) {
            return Err(Status::permission_denied(format!("namespace {namespace:?} is not supported")));
        }
        Ok(kind)
    }
}

fn id_of(resource: &Resource) -> &str {
    resource.metadata.as_ref().map_or("", |metadata| &metadata.id)
}

/// The events for the difference between two lists of resources.
fn differences(before: &[Resource], after: &[Resource]) -> Vec<Event> {
    let find = |among: &[Resource], id: &str| among.iter().find(|resource| id_of(resource) == id).cloned();
    let event = |event_type: EventType, resource: &Resource, old: Option<Resource>| Event {
        resource: Some(resource.clone()),
        event_type: event_type.into(),
        old,
        ..Default::default()
    };
    let destroyed = before.iter().filter(|resource| find(after, id_of(resource)).is_none());
    let destroyed = destroyed.map(|resource| event(EventType::Destroyed, resource, None));
    let changed = after.iter().filter_map(|resource| match find(before, id_of(resource)) {
        None => Some(event(EventType::Created, resource, None)),
        Some(old) if old != *resource => Some(event(EventType::Updated, resource, Some(old))),
        Some(_) => None,
    });
    destroyed.chain(changed).collect()
}

/// The first events of a watch. For one resource: that it exists or does not. For a kind: all resources, if requested,
/// and a final event.
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
impl State for NodeApi {
    type ListStream = ItemStream<ListResponse>;
    type WatchStream = ItemStream<WatchResponse>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let message = request.get_ref();
        let kind = self.readable_kind(&message.r#type, &message.namespace, &request)?;
        let found = self.node.resources(kind).into_iter().find(|resource| id_of(resource) == message.id);
        let missing = || {
            let (name, namespace, id) = (&message.r#type, &message.namespace, &message.id);
            Status::not_found(format!("resource {name}({namespace}/{id}@undefined) doesn't exist"))
        };
        Ok(Response::new(GetResponse { resource: Some(found.ok_or_else(missing)?) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let message = request.get_ref();
        let kind = self.readable_kind(&message.r#type, &message.namespace, &request)?;
        let pattern = message.options.as_ref().and_then(|options| options.id_query.as_ref());
        let pattern = pattern.map(|query| regex::Regex::new(&query.regexp)).transpose();
        let pattern = pattern.map_err(|error| Status::unknown(error.to_string()))?;
        let mut found = self.node.resources(kind);
        found.retain(|resource| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id_of(resource))));
        let found = found.into_iter().map(|resource| Ok(ListResponse { resource: Some(resource) }));
        Ok(Response::new(Box::pin(futures::stream::iter(found.collect::<Vec<_>>()))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let message = request.get_ref();
        let kind = self.readable_kind(&message.r#type, &message.namespace, &request)?;
        if message.id.is_some() && message.options.as_ref().is_some_and(|options| options.bootstrap_contents) {
            return Err(Status::unimplemented("bootstrap contents is not implemented for resource watch"));
        }
        let (node, id) = (self.node.clone(), message.id.clone());
        let list = move || {
            let mut now = node.resources(kind);
            now.retain(|resource| id.as_ref().is_none_or(|id| id_of(resource) == id));
            now
        };
        let now = list();
        let first = std::iter::once(vec![]).chain(first_events(message, &now).into_iter().map(|event| vec![event]));
        let first: Vec<_> = first.map(|event| Ok(WatchResponse { event })).collect();
        let changes = WatchStream::new(self.node.state.subscribe()).scan(now, move |before, _| {
            let after = list();
            let events = differences(before, &after);
            *before = after;
            std::future::ready(Some(futures::stream::iter(events)))
        });
        let changes = changes.flatten().map(|event| Ok(WatchResponse { event: vec![event] }));
        Ok(Response::new(Box::pin(futures::stream::iter(first).chain(changes))))
    }
}
