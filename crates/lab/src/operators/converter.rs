//! Operators that convert their own custom resources: whoever a definition names, once its pod is Ready.
//!
//! The webhook answers some time after that, and the definition is told whom to trust some time later still; until then
//! the API server refuses what has to be converted, as it does with the real ones.

use std::collections::BTreeSet;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::https::{acceptor, connection};
use super::objects::{CRD, apply};
use crate::cluster::Inside;
use crate::network::Endpoints;
use crate::pki::Authority;

/// Who puts the authority into definitions.
const MANAGER: &str = "converter";

/// Runs until the lab ends.
pub(super) async fn run(inside: &Inside, endpoints: &Endpoints) {
    let mut definitions = CRD.follow(&inside.view.client);
    let (mut known, mut serving) = (BTreeSet::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            Some(definition) = definitions.next() => {
                let name = definition.name_any();
                if let Some(service) = service(&definition.data).filter(|_| known.insert(name.clone())) {
                    serving.push(serve(inside, endpoints, name, service));
                }
            }
            Some(()) = serving.next() => {}
        }
    }
}

/// Who converts the objects of a definition, by namespace and name.
fn service(definition: &Value) -> Option<(String, String)> {
    let conversion = definition.pointer("/spec/conversion").filter(|conversion| conversion["strategy"] == "Webhook")?;
    let service = conversion.pointer("/webhook/clientConfig/service")?;
    Some((service["namespace"].as_str()?.to_owned(), service["name"].as_str()?.to_owned()))
}

async fn serve(inside: &Inside, endpoints: &Endpoints, definition: String, (namespace, service): (String, String)) {
    inside.view.until(|view| view.is_backed(&namespace, &service).then_some(())).await;
    let (began, pace) = (Instant::now(), &inside.world.scenario.operators);
    tokio::time::sleep(pace.webhook_serves.duration()).await;
    let authority = Authority::throwaway();
    let made = authority.and_then(|authority| Ok((acceptor(&authority, &namespace, &service)?, authority.certificate)));
    let (acceptor, authority) = match made {
        Ok(made) => made,
        Err(reason) => {
            tracing::error!(%reason, "the converter cannot serve");
            return;
        }
    };
    endpoints.serve((namespace, service), move |stream| connection(acceptor.clone(), stream, converted));
    tokio::time::sleep(pace.ca_injection.duration()).await;
    let told = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": definition},
        "spec": {"conversion": {
            "strategy": "Webhook", "webhook": {"clientConfig": {"caBundle": STANDARD.encode(authority)}},
        }},
    });
    apply(&inside.view.client, CRD, MANAGER, &told).await;
    inside.world.recorder.fact(format!("conversion/{definition}/serves"), began, []);
}

/// Every object in the version that is wanted, and otherwise as it was.
fn converted(review: &Value) -> Value {
    let (wanted, mut objects) = (&review["request"]["desiredAPIVersion"], review["request"]["objects"].clone());
    for object in objects.as_array_mut().into_iter().flatten() {
        object["apiVersion"] = wanted.clone();
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
        let response = &converted(&review)["response"];
        assert_eq!(response["uid"], "u");
        assert_eq!(response["convertedObjects"], json!([{"apiVersion": "a/v1beta1", "kind": "A", "spec": {"x": 1}}]));
    }
}
