//! Conversion webhooks of custom resources, for every Service that a CRD names.
//!
//! The webhook serves some time after its pod is Ready, and the CRD gets the CA bundle some time later. Until then the API
//! server rejects objects that need conversion, as with the real operators.

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use error_report::ErrorReport;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::objects::{CRD, apply};
use super::webhook_server::{serve_connection, tls_acceptor};
use crate::cluster_context::ClusterContext;
use crate::network::{ServiceEndpoints, ServiceKey};
use crate::pki::{CertificateAuthority, TlsMaterialError};
use crate::record::facts;

/// The field manager for CA bundles.
const MANAGER: &str = "converter";

/// Runs until the lab ends.
pub(super) async fn run(context: &ClusterContext, endpoints: &ServiceEndpoints) {
    let mut definitions = CRD.watch(&context.cache.client);
    let (mut known, mut serving) = (BTreeSet::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            Some(definition) = definitions.next() => {
                let name = definition.name_any();
                if let Some(service) = conversion_service(&definition.data).filter(|_| known.insert(name.clone())) {
                    serving.push(serve(context, endpoints, name, service));
                }
            }
            Some(()) = serving.next() => {}
        }
    }
}

/// The Service that converts the objects of a CRD.
fn conversion_service(definition: &Value) -> Option<ServiceKey> {
    let conversion = definition.pointer("/spec/conversion").filter(|conversion| conversion["strategy"] == "Webhook")?;
    let service = conversion.pointer("/webhook/clientConfig/service")?;
    Some(ServiceKey {
        namespace: service["namespace"].as_str()?.to_owned(),
        name: service["name"].as_str()?.to_owned(),
    })
}

async fn serve(context: &ClusterContext, endpoints: &ServiceEndpoints, definition: String, service: ServiceKey) {
    context.cache.wait_until(|cache| cache.has_ready_endpoint(&service).then_some(())).await;
    let (began, delays) = (Instant::now(), &context.lab.scenario.operators);
    tokio::time::sleep(delays.webhook_serves.duration()).await;
    let ca_bundle = match start_webhook(endpoints, service) {
        Ok(ca_bundle) => ca_bundle,
        Err(error) => {
            tracing::error!(error = %ErrorReport::new(&error), definition, "the conversion webhook cannot serve");
            return;
        }
    };
    tokio::time::sleep(delays.ca_injection.duration()).await;
    let patch = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": definition},
        "spec": {"conversion": {
            "strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": STANDARD.encode(ca_bundle)}},
        }},
    });
    apply(&context.cache.client, CRD, MANAGER, &patch).await;
    context.lab.recorder.record_fact(facts::conversion_serves(&definition), began, []);
}

/// Serves the webhook from now on. Returns its CA bundle.
fn start_webhook(endpoints: &ServiceEndpoints, service: ServiceKey) -> Result<String, TlsMaterialError> {
    let authority = CertificateAuthority::generate()?;
    let acceptor = tls_acceptor(&authority, &service)?;
    endpoints.serve(service, move |stream| serve_connection(acceptor.clone(), stream, convert));
    Ok(authority.certificate)
}

/// Converts objects by changing their version only.
fn convert(review: &Value) -> Value {
    let (desired, mut objects) = (&review["request"]["desiredAPIVersion"], review["request"]["objects"].clone());
    for object in objects.as_array_mut().into_iter().flatten() {
        object["apiVersion"] = desired.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {
            "uid": review["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": objects,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_of_an_object_changes() {
        let objects = json!([{"apiVersion": "a/v1", "kind": "A", "spec": {"x": 1}}]);
        let review = json!({"request": {"uid": "u", "desiredAPIVersion": "a/v1beta1", "objects": objects}});
        let response = &convert(&review)["response"];
        assert_eq!(response["uid"], "u");
        assert_eq!(response["convertedObjects"], json!([{"apiVersion": "a/v1beta1", "kind": "A", "spec": {"x": 1}}]));
    }
}
