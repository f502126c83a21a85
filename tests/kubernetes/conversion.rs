//! Kinds whose objects a webhook converts: nothing of them can be read in another version until it answers.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kubernetes::{ObjectRef, ServiceName, WaitReason, apply, converted_by, get, wait_converted};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::server::server;
use super::{Lines, US, namespace, quiet, until_reported};

/// A conversion webhook that serves only when the test enables it.
struct Peer {
    address: SocketAddr,
    authority: String,
    acceptor: TlsAcceptor,
    conversions: Arc<AtomicUsize>,
}

impl Peer {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let chain = CertificateDer::pem_slice_iter(leaf.pem().as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, super::server::free_port())),
            authority: authority.pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            conversions: Arc::default(),
        }
    }

    async fn serve(&self) {
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        let (acceptor, count) = (self.acceptor.clone(), self.conversions.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, count) = (acceptor.clone(), count.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate closes the connection.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = |request| {
                        count.fetch_add(1, Ordering::SeqCst);
                        async { Ok::<_, Infallible>(converted(request).await) }
                    };
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
        });
    }
}

/// Every object in the version that is wanted, and otherwise as it was.
async fn converted(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let (wanted, mut objects) = (&review["request"]["desiredAPIVersion"], review["request"]["objects"].clone());
    for object in objects.as_array_mut().unwrap() {
        object["apiVersion"] = wanted.clone();
    }
    let response =
        json!({"uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
    Response::builder().header("content-type", "application/json").body(Full::from(review.to_string())).unwrap()
}

fn by_url(peer: &Peer, authority: &str) -> Value {
    json!({"url": format!("https://{}/convert", peer.address), "caBundle": STANDARD.encode(authority)})
}

/// A kind that is stored in one version and served in two.
fn definition(group: &str, client: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object", "required": ["size"], "properties": {"size": {"type": "integer", "minimum": 1}},
    }}, "required": ["spec"]}});
    let version =
        |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("stores.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": "Store", "plural": "stores"},
            "versions": [version("v1", true), version("v1beta1", false)],
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}},
        },
    })
}

fn store(group: &str) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "Store", "metadata": {"name": "s", "namespace": "default"}, "spec": {"size": 1}})
}

#[tokio::test]
async fn a_conversion_webhook_that_is_late_is_awaited_and_then_really_asked() {
    let client = server().client();
    let peer = Peer::new();
    let group = "late.example.com";
    apply(&client, &US, &[definition(group, by_url(&peer, &peer.authority))], &quiet).await.unwrap();
    let names = [format!("stores.{group}")];
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        let line = until_reported(&mut seen, "does not serve every version").await;
        let line = line.replace(&peer.address.to_string(), "PEER");
        insta::assert_snapshot!(line, @"CustomResourceDefinition stores.late.example.com: its conversion webhook does not serve every version: dial tcp PEER: connect: connection refused");
        peer.serve().await;
    };
    let (outcome, ()) = tokio::join!(wait_converted(&client, &names, &progress), controllers);
    outcome.unwrap();
    assert!(peer.conversions.load(Ordering::SeqCst) > 0, "it was believed and not asked");
    let kept = ObjectRef::new(&format!("{group}/v1"), "Store", Some("default"), "k8s-bootstrap-probe");
    assert_eq!(get(&client, &kept).await.unwrap(), None, "a probe was kept");
}

#[tokio::test]
async fn an_object_that_cannot_be_converted_yet_is_retryable() {
    let client = server().client();
    let peer = Peer::new();
    let group = "stored.example.com";
    let objects = [definition(group, by_url(&peer, &peer.authority)), store(group)];
    // The stored version needs no conversion.
    apply(&client, &US, &objects, &quiet).await.unwrap();
    let other = ObjectRef::new(&format!("{group}/v1beta1"), "Store", Some("default"), "s");
    let error = get(&client, &other).await.unwrap_err();
    assert!(error.is_retryable());
    insta::assert_snapshot!(error.to_string().replace(&peer.address.to_string(), "PEER"), @"Store default/s: the conversion webhook of Store of stored.example.com/v1 failed: dial tcp PEER: connect: connection refused");
    peer.serve().await;
    wait_converted(&client, &[format!("stores.{group}")], &quiet).await.unwrap();
    assert_eq!(get(&client, &other).await.unwrap().unwrap()["spec"]["size"], 1);
}

#[tokio::test]
async fn a_conversion_webhook_of_another_authority_is_awaited_with_that_reason() {
    let client = server().client();
    let (peer, other) = (Peer::new(), Peer::new());
    peer.serve().await;
    let group = "untrusted.example.com";
    apply(&client, &US, &[definition(group, by_url(&peer, &other.authority))], &quiet).await.unwrap();
    let names = [format!("stores.{group}")];
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let controllers = async {
        until_reported(&mut seen, "certificate signed by unknown authority").await;
        apply(&client, &US, &[definition(group, by_url(&peer, &peer.authority))], &quiet).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(wait_converted(&client, &names, &progress), controllers);
    outcome.unwrap();
}

#[tokio::test]
async fn a_service_is_looked_at_before_the_webhook_is_asked() {
    let client = server().client();
    let peer = Peer::new();
    peer.serve().await;
    let group = "service.example.com";
    let service = json!({"service": {"namespace": "converting", "name": "webhook"}});
    apply(&client, &US, &[definition(group, service), namespace("converting")], &quiet).await.unwrap();
    let ours = [ServiceName { namespace: "converting".to_owned(), name: "webhook".to_owned() }].into();
    let names = converted_by(&client, &ours).await.unwrap();
    assert_eq!(names, [format!("stores.{group}")]);
    let (lines, mut seen) = Lines::new();
    let progress = |reason: &WaitReason| lines.push(reason);
    let metadata =
        json!({"name": "webhook", "namespace": "converting", "labels": {"kubernetes.io/service-name": "webhook"}});
    let controllers = async {
        until_reported(&mut seen, "Service converting/webhook does not exist").await;
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443}]}});
        apply(&client, &US, &[service], &quiet).await.unwrap();
        until_reported(&mut seen, "Service converting/webhook has no ready endpoint").await;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.42.0.9"], "conditions": {"ready": true}}], "ports": [{"name": "", "port": 443}],
        });
        apply(&client, &US, &[slice], &quiet).await.unwrap();
        until_reported(&mut seen, "has no caBundle").await;
        // This API server has no pod network to reach the webhook by its Service.
        apply(&client, &US, &[definition(group, by_url(&peer, &peer.authority))], &quiet).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(wait_converted(&client, &names, &progress), controllers);
    outcome.unwrap();
}
