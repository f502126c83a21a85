//! The injector: webhook configurations that ask for it are told the webhook's authority, some time later.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use futures::stream::select;
use kube::ResourceExt;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use super::{INJECTED, INJECTOR, SERVED};
use crate::cluster::Inside;
use crate::operators::objects::Kind;

/// The wish to be told, on a webhook configuration.
const WISH: &str = "cert-manager.io/inject-ca-from-secret";

const VALIDATING: Kind = webhook("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
const MUTATING: Kind = webhook("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");

const fn webhook(name: &'static str, plural: &'static str) -> Kind {
    Kind { group: "admissionregistration.k8s.io", version: "v1", name, plural }
}

/// Runs from the moment in which the injector's pod is Ready and the webhook has its authority.
pub(super) async fn run(inside: &Inside, authority: &str) {
    let (_, pod) = inside.view.until(|view| view.ready_of(INJECTOR)).await;
    let mut known = inside.world.recorder.known();
    // The recorder outlives the operators.
    let _ = known.wait_for(|known| known.contains(SERVED)).await;
    let (client, bundle) = (&inside.view.client, STANDARD.encode(authority));
    let of = |kind: Kind| kind.follow(client).map(move |object| (kind, object));
    let mut configurations = select(of(VALIDATING), of(MUTATING));
    let mut recorded = false;
    while let Some((kind, object)) = configurations.next().await {
        if !object.annotations().contains_key(WISH) || is_told(&object, &bundle) {
            continue;
        }
        let began = Instant::now();
        tokio::time::sleep(inside.world.scenario.operators.ca_injection.duration()).await;
        let told =
            kind.api(client, None).replace(&object.name_any(), &PostParams::default(), &told(&object, &bundle)).await;
        if let Err(reason) = &told {
            // It changed under us; that it did brings it here again.
            tracing::debug!(%reason, "a webhook configuration was not told its authority");
        }
        // Whether objects are refused is decided by the validating one.
        if told.is_ok() && kind == VALIDATING && !std::mem::replace(&mut recorded, true) {
            inside.world.recorder.fact(INJECTED, began, [SERVED.to_owned(), pod.clone()]);
        }
    }
}

/// The configuration with the authority in it.
fn told(object: &DynamicObject, bundle: &str) -> DynamicObject {
    let mut object = object.clone();
    for webhook in object.data["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["clientConfig"]["caBundle"] = json!(bundle);
    }
    object
}

fn webhooks(object: &DynamicObject) -> &[Value] {
    object.data["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_told(object: &DynamicObject, bundle: &str) -> bool {
    webhooks(object).iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle)
}
