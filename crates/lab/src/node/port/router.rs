//! Requests that are for another machine, or for several (Talos's `apid`).
//!
//! `node` passes a request on as it is; `nodes` asks all of them and puts their answers into one, in which a failure is
//! an element like any other. A worker has no certificate to ask others with, and asks nobody.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Frame;
use prost::bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

use super::frames;
use super::frames::Frames;
use super::gate::Gate;
use super::way::Answer;
use crate::machine::Role;
use crate::node::access::{Method, Mode};
use crate::node::talos::Talos;

/// A machine's API as its neighbours reach it.
#[derive(Debug, Clone)]
pub(in crate::node) struct Open {
    pub(super) gate: Gate,
    pub(super) down: CancellationToken,
}

#[derive(Debug, Clone)]
pub(super) struct Router(pub(super) Gate);

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Here,
    One(String),
    Many(Vec<String>),
}

/// Decides by the request's metadata; `is_here` tells whether a target is this machine.
fn route(
    talos: &Talos,
    forwards: bool,
    headers: &http::HeaderMap,
    method: Method<'_>,
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
    if !forwards {
        for targets in [&mut one, &mut many] {
            if targets.len() == 1 && is_here(&targets[0]) {
                targets.clear();
            }
        }
    }
    if !many.is_empty() {
        may_fan_out(talos, method)?;
    }
    if (one.is_empty() && many.is_empty()) || forwards {
        return Ok(match (many.is_empty(), one.pop()) {
            (false, _) => Route::Many(many),
            (true, Some(target)) => Route::One(target),
            (true, None) => Route::Here,
        });
    }
    Err(Status::permission_denied("no request forwarding"))
}

fn may_fan_out(talos: &Talos, method: Method<'_>) -> Result<(), Status> {
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

impl Router {
    async fn route(self, request: http::Request<Body>) -> http::Response<Body> {
        let gate = self.0;
        if gate.mode == Mode::Maintenance {
            return gate.ask(request).await;
        }
        let path = request.uri().path().to_owned();
        let method = Method::of(&path);
        let forwards = gate.node.config().is_some_and(|config| config.role == Role::ControlPlane);
        let is_here = |target: &str| gate.node.is_called(target);
        match route(&gate.talos, forwards, request.headers(), method, is_here) {
            Ok(Route::Here) => gate.ask(request).await,
            Ok(Route::One(target)) => pass_on(&gate, &target, request).await,
            Ok(Route::Many(targets)) => fan_out(&gate, targets, method, request).await,
            Err(status) => status.into_http(),
        }
    }
}

/// The machine that a target names, when its API can be reached.
fn neighbour(gate: &Gate, target: &str) -> Result<Open, Status> {
    let nobody = |why: &str| {
        let dial = format!("dial tcp {target}:{}: {why}", super::PORT);
        Status::unavailable(format!("connection error: desc = \"transport: Error while dialing: {dial}\""))
    };
    if target.parse::<std::net::SocketAddr>().is_ok() {
        return Err(Status::internal(format!("invalid target {target:?}")));
    }
    let machine = gate.node.world.neighbours.find(target).ok_or_else(|| nobody("i/o timeout"))?;
    machine.open.borrow().clone().ok_or_else(|| nobody("connect: connection refused"))
}

async fn pass_on(gate: &Gate, target: &str, request: http::Request<Body>) -> http::Response<Body> {
    match neighbour(gate, target) {
        Ok(open) => ask(open, request).await,
        Err(status) => status.into_http(),
    }
}

fn gone() -> Status {
    Status::unavailable("error reading from server: EOF")
}

/// Asks another machine; what it says ends when it goes down.
async fn ask(open: Open, request: http::Request<Body>) -> http::Response<Body> {
    let down = open.down.clone();
    let answer = tokio::select! {
        () = down.cancelled() => return gone().into_http(),
        answer = open.gate.ask(request) => answer,
    };
    // A refusal has its status in the headers, and nothing may follow them.
    if answer.headers().contains_key(Status::GRPC_STATUS) {
        return answer;
    }
    answer.map(|body| {
        let broken = down.clone();
        let end = async move { broken.is_cancelled().then(|| Ok(Frame::trailers(trailers(&gone())))) };
        let until = BodyStream::new(body).take_until(down.cancelled_owned());
        Body::new(StreamBody::new(until.chain(end.into_stream().filter_map(std::future::ready))))
    })
}

fn trailers(status: &Status) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    // A status whose text is no header value ends the stream without one, which callers take for a broken stream.
    let _ = status.add_header(&mut headers);
    headers
}

async fn fan_out(
    gate: &Gate,
    targets: Vec<String>,
    method: Method<'_>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return gone().into_http() };
    let answers = targets.into_iter().map(|target| {
        let request = http::Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
        let gate = gate.clone();
        async move {
            let answer = pass_on(&gate, &target, request).await;
            (target, answer)
        }
    });
    let messages = if method.is_streamed() {
        let streams =
            answers.map(|answer| answer.into_stream().flat_map(|(host, answer)| messages(host, answer)).boxed());
        futures::stream::select_all(streams).boxed()
    } else {
        let answers = futures::future::join_all(answers.map(|answer| async {
            let (host, answer) = answer.await;
            frames::elements(&host, whole(answer).await)
        }));
        answers.map(|elements| frames::frame(&elements.concat())).into_stream().boxed()
    };
    let end = futures::stream::iter([Ok::<_, Infallible>(Frame::trailers(trailers(&Status::ok(""))))]);
    let mut answer =
        http::Response::new(Body::new(StreamBody::new(messages.map(|bytes| Ok(Frame::data(bytes))).chain(end))));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
    answer
}

fn failure(headers: &http::HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// The message of a unary answer.
async fn whole(answer: http::Response<Body>) -> Result<Bytes, Status> {
    if let Some(status) = failure(answer.headers()) {
        return Err(status);
    }
    let answer = answer.into_body().collect().await?;
    if let Some(status) = answer.trailers().and_then(failure) {
        return Err(status);
    }
    let mut frames = Frames::default();
    frames.push(&answer.to_bytes());
    frames.pop().ok_or_else(gone)
}

/// The messages of a stream, with the machine's name in each and its failure as the last.
fn messages(host: String, answer: http::Response<Body>) -> impl Stream<Item = Bytes> + Send {
    let refused = failure(answer.headers());
    let first = refused.map(|status| frames::frame(&frames::failure_in_stream(&host, &status)));
    let pieces = BodyStream::new(answer.into_body()).scan(Frames::default(), move |frames, piece| {
        let found: Vec<Bytes> = match piece.map(Frame::into_data) {
            Ok(Ok(data)) => {
                frames.push(&data);
                std::iter::from_fn(|| frames.pop())
                    .map(|message| frames::frame(&frames::stamp(&host, &message)))
                    .collect()
            }
            Ok(Err(frame)) => {
                let status = frame.trailers_ref().and_then(failure);
                status.map(|status| frames::frame(&frames::failure_in_stream(&host, &status))).into_iter().collect()
            }
            Err(status) => vec![frames::frame(&frames::failure_in_stream(&host, &status))],
        };
        std::future::ready(Some(futures::stream::iter(found)))
    });
    futures::stream::iter(first).chain(pieces.flatten())
}

impl tower::Service<http::Request<Body>> for Router {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

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
        forwards: bool,
        metadata: &[(&'static str, &str)],
        path: &str,
    ) -> Result<Route, (Code, String)> {
        let mut headers = http::HeaderMap::new();
        for (key, value) in metadata {
            headers.append(*key, value.parse().unwrap());
        }
        route(&Talos::parse(tag).unwrap(), forwards, &headers, Method::of(path), |target| target == "10.0.0.1")
            .map_err(|status| (status.code(), status.message().to_owned()))
    }

    #[test]
    fn metadata_decides_where_a_request_goes() {
        let version = "/machine.MachineService/Version";
        let new = |metadata: &[(&'static str, &str)]| decide("v1.13.0", true, metadata, version);
        assert_eq!(new(&[]), Ok(Route::Here));
        assert_eq!(new(&[("node", "10.0.0.1")]), Ok(Route::One("10.0.0.1".into())));
        assert_eq!(new(&[("nodes", "a"), ("nodes", "b")]), Ok(Route::Many(vec!["a".into(), "b".into()])));
        assert_eq!(new(&[("node", "a"), ("proxyfrom", "b")]), Ok(Route::Here));
        let twice = new(&[("node", "a"), ("node", "b")]);
        assert_eq!(twice, Err((Code::InvalidArgument, "node metadata must be single-valued".into())));
    }

    #[test]
    fn a_worker_forwards_nothing_but_answers_for_itself() {
        let version = "/machine.MachineService/Version";
        let worker = |metadata: &[(&'static str, &str)]| decide("v1.12.0", false, metadata, version);
        assert_eq!(worker(&[("nodes", "10.0.0.1")]), Ok(Route::Here));
        assert_eq!(worker(&[("node", "10.0.0.1")]), Ok(Route::Here));
        let refused = Err((Code::PermissionDenied, "no request forwarding".to_owned()));
        assert_eq!(worker(&[("node", "10.0.0.2")]), refused);
        assert_eq!(worker(&[("nodes", "10.0.0.1"), ("nodes", "10.0.0.2")]), refused);
    }

    #[test]
    fn not_every_method_can_be_asked_of_several_machines() {
        let many = [("nodes", "a"), ("nodes", "b")];
        let code = |tag: &str, path: &str| decide(tag, true, &many, path).map_err(|(code, _)| code).err();
        assert_eq!(code("v1.12.0", "/cosi.resource.State/Get"), Some(Code::InvalidArgument));
        assert_eq!(code("v1.13.0", "/machine.ImageService/Pull"), Some(Code::InvalidArgument));
        assert_eq!(code("v1.13.0", "/machine.MachineService/Version"), None);
        assert_eq!(code("v1.12.0", "/machine.MachineService/Version"), None);
    }
}
