//! The webhook: a real TLS endpoint that answers admission reviews.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;

use super::{SECRET, SERVED, WEBHOOK};
use crate::lab::cluster::Inside;
use crate::lab::network::Endpoints;
use crate::lab::operators::objects::apply;
use crate::lab::pki::{Authority, Key, Leaf, Subject, Use};

/// Where the webhook keeps its authority, for the injector to read.
const CA_SECRET: &str = "cert-manager-webhook-ca";

/// Serves from the moment in which the webhook's pod is Ready and has had its time.
pub(super) async fn serve(inside: &Inside, endpoints: &Endpoints, authority: &Authority) {
    let (namespace, pod) = inside.view.until(|view| view.ready_of(WEBHOOK)).await;
    let began = Instant::now();
    tokio::time::sleep(inside.world.scenario.operators.webhook_serves.duration()).await;
    let acceptor = match acceptor(authority, &namespace) {
        Ok(acceptor) => acceptor,
        Err(reason) => {
            tracing::error!(%reason, "the webhook cannot serve");
            return;
        }
    };
    let secret = SECRET.object(
        Some(&namespace),
        CA_SECRET,
        json!({"type": "Opaque", "data": {"ca.crt": STANDARD.encode(&authority.certificate)}}),
    );
    apply(&inside.view.client, SECRET, WEBHOOK, &secret).await;
    endpoints.serve((namespace, WEBHOOK.to_owned()), move |stream| connection(acceptor.clone(), stream));
    inside.world.recorder.fact(SERVED, began, [pod]);
}

fn acceptor(authority: &Authority, namespace: &str) -> Result<TlsAcceptor, String> {
    let base = format!("{WEBHOOK}.{namespace}");
    let names = vec![WEBHOOK.to_owned(), base.clone(), format!("{base}.svc")];
    let Leaf { certificate, key } = authority.issue(&Subject {
        name: WEBHOOK,
        organizations: vec![],
        addresses: vec![],
        names,
        purpose: Use::Server,
        key: Key::Ecdsa,
    })?;
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| error.to_string())?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain.map_err(|error| error.to_string())?, key);
    Ok(TlsAcceptor::from(Arc::new(config.map_err(|error| error.to_string())?)))
}

async fn connection(acceptor: TlsAcceptor, stream: UnixStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // A connection that breaks is the caller's to open again.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": response(&review["request"]),
    });
    let mut response = Response::new(Full::from(answer.to_string()));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// Allows whatever is not plainly wrong.
fn response(request: &Value) -> Value {
    let problem = match request.pointer("/kind/kind").and_then(Value::as_str) {
        Some("Certificate") => certificate_problem(&request["object"]["spec"]),
        _ => None,
    };
    match problem {
        None => json!({"uid": request["uid"], "allowed": true}),
        Some(problem) => json!({
            "uid": request["uid"], "allowed": false,
            "status": {"code": 400, "reason": "BadRequest", "message": problem},
        }),
    }
}

fn certificate_problem(spec: &Value) -> Option<&'static str> {
    let missing = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if missing(&spec["secretName"]) {
        return Some("spec.secretName: Required value: must be specified");
    }
    missing(&spec["issuerRef"]["name"]).then_some("spec.issuerRef.name: Required value: must be specified")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(spec: &Value) -> Value {
        response(&json!({"uid": "u", "kind": {"kind": "Certificate"}, "object": {"spec": spec}}))
    }

    #[test]
    fn what_is_plainly_wrong_is_denied_and_everything_else_allowed() {
        assert_eq!(review(&json!({"secretName": "tls", "issuerRef": {"name": "x"}}))["allowed"], true);
        let denied = review(&json!({"secretName": "tls"}));
        assert_eq!(denied["allowed"], false);
        assert_eq!(denied["status"]["message"], "spec.issuerRef.name: Required value: must be specified");
        assert_eq!(response(&json!({"uid": "u", "kind": {"kind": "Issuer"}}))["allowed"], true);
    }
}
