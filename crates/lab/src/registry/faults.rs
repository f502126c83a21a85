//! The faults of the chart registry: a proxy in front of the real one.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::scenario::{RegistryFault, RegistryFaultKind};

type Upstream = Client<HttpConnector, Full<Bytes>>;

/// Forwards requests to the real registry, except those that a fault affects.
#[derive(Debug)]
struct FaultyRegistry {
    upstream: SocketAddr,
    client: Upstream,
    faults: Vec<(RegistryFault, AtomicU32)>,
}

/// Listens at `address` for requests to the registry at `upstream`. The returned future serves until it is dropped.
pub(in crate::registry) async fn listen(
    address: SocketAddr,
    upstream: SocketAddr,
    faults: &[RegistryFault],
) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let listener = TcpListener::bind(address).await?;
    let faults = faults.iter().map(|fault| (fault.clone(), AtomicU32::new(fault.times))).collect();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let registry = Arc::new(FaultyRegistry { upstream, client, faults });
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let registry = registry.clone();
            tokio::spawn(async move {
                let respond = service_fn(move |request| {
                    let registry = registry.clone();
                    async move { Ok::<_, Infallible>(registry.respond(request).await) }
                });
                // The peer has closed its connection.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
            });
        }
    })
}

impl FaultyRegistry {
    fn take_fault(&self, request: &http::Request<Incoming>) -> Option<RegistryFaultKind> {
        let path = request.uri().path();
        let is_content = path.contains("/blobs/") && request.method() == http::Method::GET;
        let affects = |fault: &RegistryFault| {
            path.contains(&fault.path) && (is_content || fault.what != RegistryFaultKind::WrongDigest)
        };
        let take = |remaining: &AtomicU32| {
            remaining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
        };
        let found = self.faults.iter().find(|(fault, remaining)| affects(fault) && take(remaining));
        found.map(|(fault, _)| fault.what.clone())
    }

    async fn respond(&self, request: http::Request<Incoming>) -> http::Response<Full<Bytes>> {
        let fault = self.take_fault(&request);
        match fault {
            Some(RegistryFaultKind::Status { code, retry_after }) => return rejection(code, retry_after),
            Some(RegistryFaultKind::Slow(delay)) => tokio::time::sleep(delay.duration()).await,
            Some(RegistryFaultKind::WrongDigest) | None => {}
        }
        match self.forward(request).await {
            Ok(response) if fault == Some(RegistryFaultKind::WrongDigest) => {
                response.map(|body| Full::new(corrupted(&body)))
            }
            Ok(response) => response.map(Full::new),
            Err(_) => rejection(502, None),
        }
    }

    async fn forward(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        head.uri = format!("http://{}{path}", self.upstream).parse()?;
        let body = Full::new(body.collect().await?.to_bytes());
        let response = self.client.request(http::Request::from_parts(head, body)).await?;
        let (head, body) = response.into_parts();
        Ok(http::Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

/// The same content with another last byte.
fn corrupted(content: &Bytes) -> Bytes {
    let mut bytes = content.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

/// The error of a registry (OCI distribution specification 1.1).
fn rejection(code: u16, retry_after: Option<u32>) -> http::Response<Full<Bytes>> {
    let body = r#"{"errors":[{"code":"INJECTED","message":"a fault of the scenario"}]}"#;
    let mut response = http::Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}
