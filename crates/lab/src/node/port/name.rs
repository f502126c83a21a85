//! What the record and scenarios call a call.

use http_body_util::{BodyExt, Full};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::frames::Frames;
use talos_proto::machine::ApplyConfigurationRequest;

const APPLY: &str = "ApplyConfiguration";
/// It changes nothing, so it must never be taken for the call that does.
const TRIED: &str = "ApplyConfiguration (dry run)";

/// The name of a request's call, and the request as it was.
pub(super) async fn named(request: http::Request<Body>) -> Result<(String, http::Request<Body>), Status> {
    let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    if name != APPLY {
        return Ok((name, request));
    }
    let (head, body) = request.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let mut frames = Frames::default();
    frames.push(&bytes);
    let sent = frames.pop().map(ApplyConfigurationRequest::decode);
    let tried = sent.and_then(Result::ok).is_some_and(|sent| sent.dry_run);
    let request = http::Request::from_parts(head, Body::new(Full::new(bytes)));
    Ok((if tried { TRIED.to_owned() } else { name }, request))
}
