//! COSI: the resources of a machine, read-only.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use serde_json::json;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::machine_service::Api;
use super::serve::Caller;
use super::{Stage, State as MachineState};
use crate::lab::machine::Role;
use crate::proto::cosi::resource::state_server::State;
use crate::proto::cosi::resource::{
    Event, EventType, GetRequest, GetResponse, ListRequest, ListResponse, Metadata, Resource, Spec, WatchRequest,
    WatchResponse,
};
use crate::proto::machine::MachineStatusEvent;
use crate::proto::machine::machine_status_event::machine_status::UnmetCondition;
use crate::proto::machine::machine_status_event::{MachineStage, MachineStatus};
use crate::yaml;

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Api {
    fn resource(&self, kind: &str, id: &str) -> Result<Resource, Status> {
        let state = self.node.state.borrow().clone();
        let found = match (kind, id) {
            ("MachineStatuses.runtime.talos.dev", "machine") => Some(("runtime", machine_status(&state))),
            ("Versions.runtime.talos.dev", "version") => Some(("runtime", version(&self.node.world.talos_version))),
            ("MachineConfigs.config.talos.dev", "v1alpha1") => {
                state.config.as_ref().map(|config| ("config", machine_config(&config.text)))
            }
            (
                "MachineStatuses.runtime.talos.dev" | "Versions.runtime.talos.dev" | "MachineConfigs.config.talos.dev",
                _,
            ) => None,
            _ => return Err(Status::permission_denied(format!("resource type \"{kind}\" is not supported"))),
        };
        let (namespace, spec) =
            found.ok_or_else(|| Status::not_found(format!("resource {kind}({id}) doesn't exist")))?;
        Ok(Resource { metadata: Some(metadata(namespace, kind, id)), spec: Some(spec) })
    }

    fn may_read<T>(&self, kind: &str, request: &Request<T>) -> Result<(), Status> {
        let sensitive = kind == "MachineConfigs.config.talos.dev";
        let roles = request.extensions().get::<Caller>().map(|caller| caller.roles.as_slice()).unwrap_or_default();
        let admin = roles.iter().any(|role| role == "os:admin");
        let reader = admin || self.in_maintenance() || !roles.is_empty();
        if (sensitive && !admin) || !reader {
            return Err(Status::permission_denied("not authorized"));
        }
        Ok(())
    }
}

fn metadata(namespace: &str, kind: &str, id: &str) -> Metadata {
    Metadata {
        namespace: namespace.to_owned(),
        r#type: kind.to_owned(),
        id: id.to_owned(),
        version: "1".to_owned(),
        phase: "running".to_owned(),
        ..Default::default()
    }
}

/// What keeps the machine from being ready; means something while it boots and runs only.
fn unmet(state: &MachineState) -> Vec<(String, String)> {
    if !matches!(state.stage, Stage::Booting | Stage::Running) {
        return vec![];
    }
    let mut unmet: Vec<(String, String)> = state
        .services
        .iter()
        .filter(|(_, service)| service.healthy != Some(true))
        .map(|(id, service)| ("services".to_owned(), format!("{id} is {}", service.state.to_lowercase())))
        .collect();
    if !state.node_ready && state.config.is_some() {
        unmet.push(("nodeReady".to_owned(), "node is not ready".to_owned()));
    }
    unmet
}

fn machine_status(state: &MachineState) -> Spec {
    let unmet = unmet(state);
    let conditions: Vec<_> = unmet.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect();
    let data = json!({
        "stage": state.stage.name(),
        "status": {"ready": unmet.is_empty(), "unmetConditions": conditions},
    });
    let stage = match state.stage {
        Stage::Maintenance => MachineStage::Maintenance,
        Stage::Installing => MachineStage::Installing,
        Stage::Rebooting => MachineStage::Rebooting,
        Stage::Booting => MachineStage::Booting,
        Stage::Running => MachineStage::Running,
    };
    let message = MachineStatusEvent {
        stage: stage.into(),
        status: Some(MachineStatus {
            ready: unmet.is_empty(),
            unmet_conditions: unmet.into_iter().map(|(name, reason)| UnmetCondition { name, reason }).collect(),
        }),
    };
    spec(&data, prost::Message::encode_to_vec(&message))
}

fn version(tag: &str) -> Spec {
    spec(&json!({"version": tag, "name": "Talos"}), vec![])
}

/// The config as Talos gives it: a YAML string that holds YAML.
fn machine_config(text: &str) -> Spec {
    spec(&json!(text), vec![])
}

fn spec(data: &serde_json::Value, proto_spec: Vec<u8>) -> Spec {
    Spec { proto_spec, yaml_spec: yaml::to_string(data).unwrap_or_default() }
}

#[tonic::async_trait]
impl State for Api {
    type ListStream = Items<ListResponse>;
    type WatchStream = Items<WatchResponse>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.node.world.recorder.call(self.node.name(), "Get");
        self.may_read(&request.get_ref().r#type, &request)?;
        let request = request.into_inner();
        let resource = self.resource(&request.r#type, &request.id)?;
        Ok(Response::new(GetResponse { resource: Some(resource) }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        self.node.world.recorder.call(self.node.name(), "List");
        let kind = request.get_ref().r#type.clone();
        self.may_read(&kind, &request)?;
        let id = match kind.as_str() {
            "MachineStatuses.runtime.talos.dev" => "machine",
            "Versions.runtime.talos.dev" => "version",
            _ => "v1alpha1",
        };
        let found = match self.resource(&kind, id) {
            Ok(resource) => vec![Ok(ListResponse { resource: Some(resource) })],
            Err(status) if status.code() == tonic::Code::NotFound => vec![],
            Err(status) => return Err(status),
        };
        Ok(Response::new(Box::pin(futures::stream::iter(found))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.node.world.recorder.call(self.node.name(), "Watch");
        let (kind, id) = (request.get_ref().r#type.clone(), request.get_ref().id.clone().unwrap_or_default());
        self.may_read(&kind, &request)?;
        self.resource(&kind, &id)?;
        let hello = futures::stream::iter([Ok(WatchResponse { event: vec![] })]);
        let api = self.clone();
        let changes = WatchStream::new(self.node.state.subscribe()).enumerate().map(move |(index, _)| {
            let event_type = if index == 0 { EventType::Created } else { EventType::Updated };
            let resource = Some(api.resource(&kind, &id)?);
            let event = Event { resource, event_type: event_type.into(), ..Default::default() };
            Ok(WatchResponse { event: vec![event] })
        });
        Ok(Response::new(Box::pin(hello.chain(changes))))
    }
}

/// Which role a machine's config gives it, for the lab's own status.
pub(in crate::lab) fn role_name(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::ControlPlane) => "control plane",
        Some(Role::Worker) => "worker",
        None => "unconfigured",
    }
}
