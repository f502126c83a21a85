//! Requests for other nodes (Talos's `apid`).
//!
//! With `node`, a request is forwarded as it is. With `nodes`, it is sent to all of them and their responses are merged
//! into one, with an element for each error. A worker does not forward, because it has no client certificate.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Frame;
use prost::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

use super::admission::Admission;
use super::frames::{self, Frames};
use super::network_faults::ResponseFuture;
use crate::machine_config::NodeRole;
use crate::node::access::{ApiMode, GrpcMethod};
use crate::node::talos_version::TalosVersion;

/// A machine's API as other nodes reach it.
#[derive(Debug, Clone)]
pub(in crate::node) struct PeerApi {
    pub(super) admission: Admission,
    pub(super) down: CancellationToken,
}

/// Forwards calls by their metadata.
#[derive(Debug, Clone)]
pub(super) struct ApidRouter(pub(super) Admission);

/// Whether a node forwards requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forwarding {
    Allowed,
    Forbidden,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Here,
    One(String),
    Many(Vec<String>),
}

/// Routes by the request's metadata. `is_here` is whether a target is this machine.
fn route(
    talos: &TalosVersion,
    forwarding: Forwarding,
    headers: &http::HeaderMap,
    method: GrpcMethod<'_>,
    is_here: impl Fn(&str) -> bool,
) -> Result<Route, Status> {
    let values = |key: &str| -> Vec<String> {
        headers.get_all(key).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
    };
    if headers.contains_key("proxyfrom") {
        return Ok(Route::Here);
    }
    let (mut one, mut many) = (values("node"), values("nodes"));
    if one.len() > 1 {
        return Err(Status::invalid_argument("node metadata must be single-valued"));
    }
    if forwarding == Forwarding::Forbidden {
        for targets in [&mut one, &mut many] {
            if targets.len() == 1 && is_here(&targets[0]) {
                targets.clear();
            }
        }
    }
    if !many.is_empty() {
        check_fan_out(talos, method)?;
    }
    if (one.is_empty() && many.is_empty()) || forwarding == Forwarding::Allowed {
        return Ok(match (many.is_empty(), one.pop()) {
            (false, _) => Route::Many(many),
            (true, Some(target)) => Route::One(target),
            (true, None) => Route::Here,
        });
    }
    Err(Status::permission_denied("no request forwarding"))
}

fn check_fan_out(talos: &TalosVersion, method: GrpcMethod<'_>) -> Result<(), Status> {
    if !talos.fans_out_by_service() {
        return match method.service {
            "cosi.resource.State" => {
                Err(Status::invalid_argument("one-2-many proxying is not supported for COSI methods"))
            }
            _ => Ok(()),
        };
    }
    match method.service {
        "machine.MachineService"
        | "cluster.ClusterService"
        | "inspect.InspectService"
        | "storage.StorageService"
        | "time.TimeService" => Ok(()),
        service => Err(Status::invalid_argument(format!(
            "one-2-many proxying is not supported for method /{service}/{}",
            method.name
        ))),
    }
}

impl ApidRouter {
    async fn route(self, request: http::Request<Body>) -> http::Response<Body> {
        let admission = self.0;
        if admission.mode == ApiMode::Maintenance {
            return admission.call(request).await;
        }
        let path = request.uri().path().to_owned();
        let method = GrpcMethod::from_path(&path);
        let forwarding = match admission.node.config() {
            Some(config) if config.role == NodeRole::ControlPlane => Forwarding::Allowed,
            _ => Forwarding::Forbidden,
        };
        let is_here = |target: &str| admission.node.is_addressed_by(target);
        match route(&admission.talos, forwarding, request.headers(), method, is_here) {
            Ok(Route::Here) => admission.call(request).await,
            Ok(Route::One(target)) => forward(&admission, &target, request).await,
            Ok(Route::Many(targets)) => fan_out(&admission, targets, method, request).await,
            Err(status) => status.into_http(),
        }
    }
}

/// The API of the node that a target names.
fn find_peer(admission: &Admission, target: &str) -> Result<PeerApi, Status> {
    let unreachable = |reason: &str| {
        let dial = format!("dial tcp {target}:{}: {reason}", super::PORT);
        Status::unavailable(format!("connection error: desc = \"transport: Error while dialing: {dial}\""))
    };
    if target.parse::<std::net::SocketAddr>().is_ok() {
        return Err(Status::internal(format!("invalid target {target:?}")));
    }
    let node = admission.node.lab.directory.find(target).ok_or_else(|| unreachable("i/o timeout"))?;
    node.open.borrow().clone().ok_or_else(|| unreachable("connect: connection refused"))
}

async fn forward(admission: &Admission, target: &str, request: http::Request<Body>) -> http::Response<Body> {
    match find_peer(admission, target) {
        Ok(peer) => call_peer(peer, request).await,
        Err(status) => status.into_http(),
    }
}

fn disconnected() -> Status {
    Status::unavailable("error reading from server: EOF")
}

/// Calls another node. The response ends when that node goes down.
async fn call_peer(peer: PeerApi, request: http::Request<Body>) -> http::Response<Body> {
    let down = peer.down.clone();
    let response = tokio::select! {
        () = down.cancelled() => return disconnected().into_http(),
        response = peer.admission.call(request) => response,
    };
    // A rejection has its status in the headers, and nothing may follow them.
    if response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    response.map(|body| {
        let broken = down.clone();
        let end = async move { broken.is_cancelled().then(|| Ok(Frame::trailers(trailers(&disconnected())))) };
        let until = BodyStream::new(body).take_until(down.cancelled_owned());
        Body::new(StreamBody::new(until.chain(end.into_stream().filter_map(std::future::ready))))
    })
}

fn trailers(status: &Status) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    // A status that is not a valid header value is omitted. Callers see that as a broken stream.
    let _ = status.add_header(&mut headers);
    headers
}

/// A response and the node that it is from.
struct NodeResponse {
    host: String,
    response: http::Response<Body>,
}

async fn fan_out(
    admission: &Admission,
    targets: Vec<String>,
    method: GrpcMethod<'_>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return disconnected().into_http();
    };
    let responses = targets.into_iter().map(|target| {
        let request = http::Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
        let admission = admission.clone();
        async move {
            let response = forward(&admission, &target, request).await;
            NodeResponse { host: target, response }
        }
    });
    let messages = if method.is_streaming() {
        let streams = responses.map(|response| response.into_stream().flat_map(messages).boxed());
        futures::stream::select_all(streams).boxed()
    } else {
        let merged = futures::future::join_all(responses.map(|response| async {
            let NodeResponse { host, response } = response.await;
            frames::elements(&host, unary_message(response).await)
        }));
        merged.map(|elements| frames::frame(&elements.concat())).into_stream().boxed()
    };
    let end = futures::stream::iter([Ok::<_, Infallible>(Frame::trailers(trailers(&Status::ok(""))))]);
    let mut response =
        http::Response::new(Body::new(StreamBody::new(messages.map(|bytes| Ok(Frame::data(bytes))).chain(end))));
    response.headers_mut().insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
    response
}

fn error_status(headers: &http::HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// The message of a unary response.
async fn unary_message(response: http::Response<Body>) -> Result<Bytes, Status> {
    if let Some(status) = error_status(response.headers()) {
        return Err(status);
    }
    let body = response.into_body().collect().await?;
    if let Some(status) = body.trailers().and_then(error_status) {
        return Err(status);
    }
    let mut frames = Frames::default();
    frames.push(&body.to_bytes());
    frames.pop().ok_or_else(disconnected)
}

/// The messages of a stream with the node's name in each. An error becomes the last message.
fn messages(NodeResponse { host, response }: NodeResponse) -> impl Stream<Item = Bytes> + Send {
    let rejected = error_status(response.headers());
    let first = rejected.map(|status| frames::frame(&frames::error_message(&host, &status)));
    let chunks = BodyStream::new(response.into_body()).scan(Frames::default(), move |frames, chunk| {
        let found: Vec<Bytes> = match chunk.map(Frame::into_data) {
            Ok(Ok(data)) => {
                frames.push(&data);
                std::iter::from_fn(|| frames.pop())
                    .map(|message| frames::frame(&frames::with_hostname(&host, &message)))
                    .collect()
            }
            Ok(Err(frame)) => {
                let status = frame.trailers_ref().and_then(error_status);
                status.map(|status| frames::frame(&frames::error_message(&host, &status))).into_iter().collect()
            }
            Err(status) => vec![frames::frame(&frames::error_message(&host, &status))],
        };
        std::future::ready(Some(futures::stream::iter(found)))
    });
    futures::stream::iter(first).chain(chunks.flatten())
}

impl tower::Service<http::Request<Body>> for ApidRouter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let router = self.clone();
        Box::pin(async move { Ok(router.route(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(
        tag: &str,
        forwarding: Forwarding,
        metadata: &[(&'static str, &str)],
        path: &str,
    ) -> Result<Route, (Code, String)> {
        let mut headers = http::HeaderMap::new();
        for (key, value) in metadata {
            headers.append(*key, value.parse().unwrap());
        }
        route(&TalosVersion::parse(tag).unwrap(), forwarding, &headers, GrpcMethod::from_path(path), |target| {
            target == "10.0.0.1"
        })
        .map_err(|status| (status.code(), status.message().to_owned()))
    }

    #[test]
    fn metadata_decides_where_a_request_goes() {
        let version = "/machine.MachineService/Version";
        let control_plane =
            |metadata: &[(&'static str, &str)]| decide("v1.13.0", Forwarding::Allowed, metadata, version);
        assert_eq!(control_plane(&[]), Ok(Route::Here));
        assert_eq!(control_plane(&[("node", "10.0.0.1")]), Ok(Route::One("10.0.0.1".into())));
        assert_eq!(control_plane(&[("nodes", "a"), ("nodes", "b")]), Ok(Route::Many(vec!["a".into(), "b".into()])));
        assert_eq!(control_plane(&[("node", "a"), ("proxyfrom", "b")]), Ok(Route::Here));
        let twice = control_plane(&[("node", "a"), ("node", "b")]);
        assert_eq!(twice, Err((Code::InvalidArgument, "node metadata must be single-valued".into())));
    }

    #[test]
    fn a_worker_responds_for_itself_and_forwards_nothing() {
        let version = "/machine.MachineService/Version";
        let worker = |metadata: &[(&'static str, &str)]| decide("v1.12.0", Forwarding::Forbidden, metadata, version);
        assert_eq!(worker(&[("nodes", "10.0.0.1")]), Ok(Route::Here));
        assert_eq!(worker(&[("node", "10.0.0.1")]), Ok(Route::Here));
        let refused = Err((Code::PermissionDenied, "no request forwarding".to_owned()));
        assert_eq!(worker(&[("node", "10.0.0.2")]), refused);
        assert_eq!(worker(&[("nodes", "10.0.0.1"), ("nodes", "10.0.0.2")]), refused);
    }

    #[test]
    fn not_every_method_can_be_called_on_several_nodes() {
        let many = [("nodes", "a"), ("nodes", "b")];
        let code =
            |tag: &str, path: &str| decide(tag, Forwarding::Allowed, &many, path).map_err(|(code, _)| code).err();
        assert_eq!(code("v1.12.0", "/cosi.resource.State/Get"), Some(Code::InvalidArgument));
        assert_eq!(code("v1.13.0", "/machine.ImageService/Pull"), Some(Code::InvalidArgument));
        assert_eq!(code("v1.13.0", "/machine.MachineService/Version"), None);
        assert_eq!(code("v1.12.0", "/machine.MachineService/Version"), None);
    }
}
