//! What webhooks are served by: TLS under a Service's name, and one JSON answer to each JSON question.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;

use crate::pki::{Authority, Key, Leaf, Subject, Use};

/// The server's side of TLS for a Service.
pub(super) fn acceptor(authority: &Authority, namespace: &str, service: &str) -> Result<TlsAcceptor, String> {
    let base = format!("{service}.{namespace}");
    let names = vec![service.to_owned(), base.clone(), format!("{base}.svc")];
    let Leaf { certificate, key } = authority.issue(&Subject {
        name: service,
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

/// Answers on one connection until it ends.
pub(super) async fn connection(acceptor: TlsAcceptor, stream: UnixStream, answer: fn(&Value) -> Value) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| async move { Ok::<_, Infallible>(respond(request, answer).await) });
    // A connection that breaks is the caller's to open again.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: Request<Incoming>, answer: fn(&Value) -> Value) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let question: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = Response::new(Full::from(answer(&question).to_string()));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
