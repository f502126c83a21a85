//! Misbehaving nodes: calls that never end, streams that stop, errors inside successful responses.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use tonic::codegen::BoxStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

use super::link::{Link, Target};
use super::resource::{MachineStatus, Nodename, ResourceChange, Resources, RunningVersion};
use super::response::Element;
use super::*;
use talos_proto::common::Metadata;
use talos_proto::cosi::resource as wire;
use talos_proto::cosi::resource::state_server::{State, StateServer};

const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SHORT: Duration = Duration::from_millis(300);

/// A node that does not respond to most gets, stalls in each list, and ends watches.
#[derive(Clone, Default)]
struct UnresponsiveNode {
    targets: Arc<Mutex<Vec<String>>>,
    watches: Arc<AtomicU32>,
}

fn resource(id: &str, yaml: &str) -> wire::Resource {
    let metadata = wire::Metadata { id: id.into(), ..Default::default() };
    let spec = wire::Spec { yaml_spec: yaml.into(), proto_spec: vec![] };
    wire::Resource { metadata: Some(metadata), spec: Some(spec) }
}

fn event(kind: wire::EventType, resource: Option<wire::Resource>) -> wire::Event {
    wire::Event { event_type: kind.into(), resource, ..Default::default() }
}

#[tonic::async_trait]
impl State for UnresponsiveNode {
    type ListStream = BoxStream<wire::ListResponse>;
    type WatchStream = BoxStream<wire::WatchResponse>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        for key in ["node", "nodes"] {
            for value in request.metadata().get_all(key) {
                self.targets.lock().unwrap().push(format!("{key}={}", value.to_str().unwrap()));
            }
        }
        let yaml = match request.get_ref().id.as_str() {
            "version" => "version: v1.12.4\nname: Talos\n",
            "unknown-format" => "[]",
            _ => std::future::pending().await,
        };
        Ok(Response::new(wire::GetResponse { resource: Some(resource("", yaml)) }))
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let first = wire::ListResponse { resource: Some(resource("a", "nodename: a\n")) };
        let stream = futures::stream::iter([Ok(first)]).chain(futures::stream::pending());
        Ok(Response::new(stream.boxed()))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        use wire::EventType;
        self.watches.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.get_ref().api_version, 1);
        let events = if request.get_ref().id.is_some() {
            let gone = event(EventType::Destroyed, Some(resource("machine", "")));
            let running = "stage: running\nstatus:\n  ready: false\n  unmetConditions:\n    - name: nodeReady\n      \
                           reason: no network\n";
            vec![vec![], vec![gone, event(EventType::Created, Some(resource("machine", running)))]]
        } else {
            let one = |id: &str| event(EventType::Created, Some(resource(id, &format!("nodename: {id}\n"))));
            let cut = wire::Event { error: "buffer overrun".into(), ..event(EventType::Errored, None) };
            vec![vec![], vec![one("a"), one("b"), event(EventType::Bootstrapped, None)], vec![cut]]
        };
        let answers = events.into_iter().map(|event| Ok(wire::WatchResponse { event }));
        Ok(Response::new(futures::stream::iter(answers.collect::<Vec<_>>()).boxed()))
    }
}

async fn unresponsive_node() -> (Link, UnresponsiveNode) {
    let node = UnresponsiveNode::default();
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = Server::builder().add_service(StateServer::new(node.clone()));
    tokio::spawn(server.serve_with_incoming(futures::stream::iter([Ok::<_, std::io::Error>(theirs)])));
    let mut ours = Some(ours);
    let connector = service_fn(move |_| {
        let stream = ours.take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("connected twice")) }
    });
    let channel: Channel = Endpoint::from_static("http://node").connect_with_connector(connector).await.unwrap();
    (Link::new(NODE, channel, super::connection::ConnectionFailure::default()), node)
}

#[tokio::test]
async fn a_call_without_a_response_times_out() {
    let (mut link, _) = unresponsive_node().await;
    link.deadlines.short = SHORT;
    let error = Resources::new(link).get::<MachineStatus>("machine").await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Unavailable);
    assert_eq!(error.to_string(), "get resource on node 10.0.0.1 failed: no response within 300ms");
}

#[tokio::test]
async fn a_stalled_response_times_out() {
    let (mut link, _) = unresponsive_node().await;
    link.deadlines.pause = SHORT;
    let error = Resources::new(link).list::<Nodename>().await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Unavailable);
    assert!(error.reason.contains("the response is incomplete"), "{error}");
}

#[tokio::test]
async fn an_unknown_format_is_an_error() {
    let (link, _) = unresponsive_node().await;
    let error = Resources::new(link).get::<RunningVersion>("unknown-format").await.unwrap_err();
    assert_eq!(error.reason, "Versions.runtime.talos.dev `unknown-format` has an unknown format");
}

#[tokio::test]
async fn a_request_names_its_target() {
    let (link, node) = unresponsive_node().await;
    let other = IpAddr::from([10, 0, 0, 2]);
    for target in [Target::Dialled, Target::Forwarded(other), Target::Every(vec![NODE, other])] {
        Resources::new(link.to(target)).get::<RunningVersion>("version").await.unwrap();
    }
    let named = node.targets.lock().unwrap().clone();
    assert_eq!(named, ["node=10.0.0.2", "nodes=10.0.0.1", "nodes=10.0.0.2"]);
}

#[tokio::test]
async fn a_watch_by_id_reports_absence_then_changes() {
    let (link, _) = unresponsive_node().await;
    let mut watch = Resources::new(link).watch::<MachineStatus>(Some("machine")).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), ResourceChange::Absent { id: "machine".into() });
    let unmet = vec!["nodeReady: no network".to_owned()];
    let now = MachineStatus { stage: Stage::Running, ready: false, unmet };
    assert_eq!(watch.next().await.unwrap(), ResourceChange::Present { id: "machine".into(), resource: now });
    assert_eq!(
        watch.next().await.unwrap_err().kind,
        ClientErrorKind::Unavailable,
        "the caller has to restart a watch that ended"
    );
}

#[tokio::test]
async fn a_watch_of_a_type_lists_existing_resources_then_completes() {
    let (link, node) = unresponsive_node().await;
    let mut watch = Resources::new(link).watch::<Nodename>(None).await.unwrap();
    let mut ids = Vec::new();
    loop {
        match watch.next().await.unwrap() {
            ResourceChange::Present { id, .. } => ids.push(id),
            ResourceChange::Complete => break,
            ResourceChange::Absent { id } => panic!("{id} is gone"),
        }
    }
    assert_eq!(ids, ["a", "b"]);
    let error = watch.next().await.unwrap_err();
    assert_eq!(
        (error.kind, error.reason.as_str()),
        (ClientErrorKind::Unavailable, "the node aborted the watch: buffer overrun")
    );
    assert_eq!(node.watches.load(Ordering::Relaxed), 1);
}

#[test]
fn a_failure_inside_a_successful_response_keeps_its_code() {
    let status = talos_proto::google::rpc::Status { code: 9, message: "not yet".into(), details: vec![] };
    let metadata = Metadata { hostname: "10.0.0.2".into(), error: "rpc error: not yet".into(), status: Some(status) };
    let element = talos_proto::machine::Version { metadata: Some(metadata), ..Default::default() };
    let failure = element.failure().unwrap();
    assert_eq!((failure.code(), failure.message()), (Code::FailedPrecondition, "not yet"));
    assert_eq!(ClientError::from_status(NODE, "version", &failure).kind, ClientErrorKind::NotReady);
}

#[test]
fn statuses_are_classified() {
    let table = [
        (Status::unavailable("connection refused"), ClientErrorKind::Unavailable),
        (Status::failed_precondition("time is not in sync yet"), ClientErrorKind::NotReady),
        (
            Status::unknown("bootstrap is not allowed during unattended install (phase: pending)"),
            ClientErrorKind::NotReady,
        ),
        (Status::already_exists("etcd data directory is not empty"), ClientErrorKind::AlreadyExists),
        (Status::not_found("no such resource"), ClientErrorKind::NotFound),
        (Status::invalid_argument("configuration validation failed"), ClientErrorKind::Rejected),
        (Status::permission_denied("not authorized"), ClientErrorKind::PermissionDenied),
        (Status::resource_exhausted("no space left on device"), ClientErrorKind::ResourceExhausted),
        (Status::unimplemented("unknown service machine.ImageService"), ClientErrorKind::Unimplemented),
        // Messages of a node may mention certificates without being about trust.
        (Status::invalid_argument("machine.ca: the certificate is missing"), ClientErrorKind::Rejected),
        (Status::unknown("failed to create etcd client: certificates are missing"), ClientErrorKind::Other),
    ];
    for (status, kind) in table {
        assert_eq!(ClientError::from_status(NODE, "call", &status).kind, kind, "{status}");
    }
}

/// Every message that Talos 1.11 to 1.14 returns with FailedPrecondition to a call of this client.
#[test]
fn what_no_wait_changes_is_distinguished_from_what_is_not_ready_yet() {
    let kind = |message: &str| ClientError::from_status(NODE, "call", &Status::failed_precondition(message)).kind;
    for never in [
        "method is not supported in container mode",
        "method is not supported in cloud mode",
        "installation is not supported in container mode",
        "upgrade is not supported in container mode",
        "bootstrap can only be performed on a control plane node",
        "system disk not found",
        "Talos is not installed",
        "machine is not installed",
        "k8s API server CA config is not set",
    ] {
        assert_eq!(kind(never), ClientErrorKind::Unsupported, "{never}");
    }
    for later in [
        "bootstrap is not available yet",
        "time is not in sync yet",
        "etcd service is not ready for recovery yet",
        "another apply configuration is already in progress",
        "another installation/upgrade is already in progress",
        "configuration was already applied and node is rebooting, cannot apply more configuration changes until next reboot",
        "a message of a later version",
    ] {
        assert_eq!(kind(later), ClientErrorKind::NotReady, "{later}");
    }
}

#[test]
fn a_config_is_read_as_yaml_and_as_a_yaml_string() {
    use super::resource::{MachineConfig, Resource};
    use secrecy::ExposeSecret;
    let read = |yaml: &str| MachineConfig::read(yaml).map(|config| config.0.expose_secret().to_owned());
    let config = "version: v1alpha1\nmachine:\n  type: worker\n---\nkind: HostnameConfig\n";
    assert_eq!(read(config).as_deref(), Some(config), "format of 1.11");
    let quoted = yaml::to_string(&serde_json::json!(config)).unwrap();
    assert_eq!(read(&quoted).as_deref(), Some(config), "format of 1.12 and later");
    assert_eq!(read("- 1\n"), None);
}
