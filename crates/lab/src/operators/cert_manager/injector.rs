//! The CA injector: writes the webhook's CA into annotated webhook configurations.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::select;
use kube::ResourceExt;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::INJECTOR;
use crate::cluster_context::ClusterContext;
use crate::operators::objects::ObjectKind;
use crate::record::facts;

/// The annotation by which a webhook configuration requests the CA.
const INJECT_ANNOTATION: &str = "cert-manager.io/inject-ca-from-secret";

const VALIDATING: ObjectKind = webhook("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
const MUTATING: ObjectKind = webhook("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");

const fn webhook(name: &'static str, plural: &'static str) -> ObjectKind {
    ObjectKind { group: "admissionregistration.k8s.io", version: "v1", name, plural }
}

/// Runs from the moment the injector's pod is Ready and the webhook serves.
pub(super) async fn run(context: &ClusterContext, authority: &str) {
    let pod = context.cache.wait_until(|cache| cache.ready_pod_of(INJECTOR)).await;
    let mut known = context.lab.recorder.known_facts();
    // The recorder outlives the operators, so this only ever waits.
    let _ = known.wait_for(|known| known.contains(facts::WEBHOOK_SERVES)).await;
    let (client, bundle) = (&context.cache.client, STANDARD.encode(authority));
    let watch = |kind: ObjectKind| kind.watch(client).map(move |object| (kind, object));
    let mut configurations = select(watch(VALIDATING), watch(MUTATING));
    let mut recorded = false;
    while let Some((kind, object)) = configurations.next().await {
        if !object.annotations().contains_key(INJECT_ANNOTATION) || has_ca_bundle(&object, &bundle) {
            continue;
        }
        let began = Instant::now();
        tokio::time::sleep(context.lab.scenario.operators.ca_injection.duration()).await;
        let api = kind.api(client, None);
        let injected = with_ca_bundle(&object, &bundle);
        match api.replace(&object.name_any(), &PostParams::default(), &injected).await {
            // The validating webhook decides whether objects are rejected.
            Ok(_) if kind == VALIDATING && !std::mem::replace(&mut recorded, true) => {
                let causes = [facts::WEBHOOK_SERVES.to_owned(), pod.fact.clone()];
                context.lab.recorder.record_fact(facts::CA_INJECTED, began, causes);
            }
            Ok(_) => {}
            // The configuration has changed. The watch delivers it again.
            Err(error) => tracing::debug!(%error, "the CA was not injected into a webhook configuration"),
        }
    }
}

/// The configuration with the CA bundle in each webhook.
fn with_ca_bundle(object: &DynamicObject, bundle: &str) -> DynamicObject {
    let mut object = object.clone();
    for webhook in object.data["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["clientConfig"]["caBundle"] = json!(bundle);
    }
    object
}

fn webhooks(object: &DynamicObject) -> &[Value] {
    object.data["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn has_ca_bundle(object: &DynamicObject, bundle: &str) -> bool {
    webhooks(object).iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle)
}
