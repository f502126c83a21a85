//! The server side of webhooks: TLS under a Service's name, and one JSON response to each JSON request.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_rustls::TlsAcceptor;

use crate::network::ServiceKey;
use crate::pki::{
    CertificateAuthority, CertificatePurpose, CertificateSubject, KeyAlgorithm, TlsMaterialError, tls_server_builder,
};

/// TLS for a Service, with a certificate for its DNS names.
pub(super) fn tls_acceptor(
    authority: &CertificateAuthority,
    service: &ServiceKey,
) -> Result<TlsAcceptor, TlsMaterialError> {
    let qualified = format!("{}.{}", service.name, service.namespace);
    let leaf = authority.issue(&CertificateSubject {
        common_name: &service.name,
        organizations: vec![],
        addresses: vec![],
        dns_names: vec![service.name.clone(), qualified.clone(), format!("{qualified}.svc")],
        purpose: CertificatePurpose::Server,
        key: KeyAlgorithm::Ecdsa,
    })?;
    let builder = tls_server_builder()?.with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(leaf.chain()?, leaf.private_key()?)?)))
}

/// Answers the requests of one connection until it ends.
pub(super) async fn serve_connection(acceptor: TlsAcceptor, stream: UnixStream, answer: fn(&Value) -> Value) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request| async move { Ok::<_, Infallible>(respond(request, answer).await) });
    // The API server reopens a broken connection by itself.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(request: Request<Incoming>, answer: fn(&Value) -> Value) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = Response::new(Full::from(answer(&review).to_string()));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
