//! The names of calls in the record and in scenarios.

use http_body_util::{BodyExt, Full};
use prost::Message;
use talos_proto::machine::ApplyConfigurationRequest;
use tonic::Status;
use tonic::body::Body;

use super::frames::Frames;

const APPLY: &str = "ApplyConfiguration";
/// A dry run changes nothing, so it has a name of its own.
const DRY_RUN: &str = "ApplyConfiguration (dry run)";

/// A request and the name of its call.
pub(super) struct NamedCall {
    pub(super) name: String,
    pub(super) request: http::Request<Body>,
}

/// Determines the name of a call, which requires reading the body of an `ApplyConfiguration`.
pub(super) async fn with_call_name(request: http::Request<Body>) -> Result<NamedCall, Status> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    if name != APPLY {
        return Ok(NamedCall { name, request });
    }
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let mut frames = Frames::default();
    frames.push(&bytes);
    let message = frames.pop().map(ApplyConfigurationRequest::decode);
    let is_dry_run = message.and_then(Result::ok).is_some_and(|message| message.dry_run);
    let request = http::Request::from_parts(head, Body::new(Full::new(bytes)));
    Ok(NamedCall { name: if is_dry_run { DRY_RUN.to_owned() } else { name }, request })
}
