//! What is sent of a manifest, and in which order.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// cert-manager's CA injector writes `caBundle` into objects with one of these annotations.
const INJECTED: [&str; 3] =
    ["cert-manager.io/inject-ca-from", "cert-manager.io/inject-ca-from-secret", "cert-manager.io/inject-apiserver-ca"];

/// When an object goes in, since the next ones need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wave {
    Namespaces,
    Definitions,
    Rest,
}

pub(super) fn wave(object: &Value) -> Wave {
    match kind(object) {
        "Namespace" => Wave::Namespaces,
        "CustomResourceDefinition" => Wave::Definitions,
        _ => Wave::Rest,
    }
}

pub(super) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// The manifests with every `List` taken apart.
pub(super) fn flatten(objects: &[Value]) -> Vec<Value> {
    let mut flat = Vec::new();
    for object in objects {
        match object.get("items").and_then(Value::as_array) {
            Some(items) if kind(object).ends_with("List") => flat.extend(flatten(items)),
            _ => flat.push(object.clone()),
        }
    }
    flat
}

/// The manifest as it is sent: nothing that the server or another controller writes, and a Secret's `stringData` as
/// `data`, which is how the API gives it back.
pub(super) fn to_send(object: &Value) -> Value {
    let mut object = object.clone();
    let is_secret = kind(&object) == "Secret";
    let injected = is_injected(&object);
    let Some(fields) = object.as_object_mut() else { return object };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"] {
            metadata.remove(key);
        }
    }
    if is_secret {
        encode_strings(fields);
    }
    if injected {
        drop_bundles(&mut object);
    }
    object
}

/// Whether the CA injector looks after this object.
pub(super) fn is_injected(object: &Value) -> bool {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.is_some_and(|annotations| INJECTED.iter().any(|key| annotations.contains_key(*key)))
}

fn encode_strings(secret: &mut Map<String, Value>) {
    let Some(Value::Object(strings)) = secret.remove("stringData") else { return };
    let data = secret.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    let Some(data) = data.as_object_mut() else { return };
    for (key, value) in strings {
        // What is no text stays, so that the API server can say what is wrong with it.
        let encoded = value.as_str().map_or(value.clone(), |text| Value::String(STANDARD.encode(text)));
        data.insert(key, encoded);
    }
}

fn drop_bundles(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("caBundle");
            fields.values_mut().for_each(drop_bundles);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_bundles),
        _ => {}
    }
}

/// The release or Kustomization of Flux that manages a live object, by the labels that Flux's controllers set.
pub(super) fn flux_owner(live: &Value) -> Option<String> {
    let labels = live.pointer("/metadata/labels")?;
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    [("HelmRelease", "helm"), ("Kustomization", "kustomize")].into_iter().find_map(|(kind, controller)| {
        let name = label(&format!("{controller}.toolkit.fluxcd.io/name"))?;
        let namespace = label(&format!("{controller}.toolkit.fluxcd.io/namespace")).unwrap_or("flux-system");
        Some(format!("{kind} {namespace}/{name}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_is_sent_as_the_api_gives_it_back() {
        let secret = json!({
            "kind": "Secret", "metadata": {"name": "a", "creationTimestamp": null},
            "data": {"kept": "aw=="}, "stringData": {"token": "t0p"},
        });
        let expected = json!({"kind": "Secret", "metadata": {"name": "a"}, "data": {"kept": "aw==", "token": "dDBw"}});
        assert_eq!(to_send(&secret), expected);
    }

    #[test]
    fn a_ca_bundle_is_left_to_its_injector() {
        let webhook = json!({
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "a", "annotations": {"cert-manager.io/inject-ca-from": "ns/ca"}},
            "webhooks": [{"name": "a.b", "clientConfig": {"caBundle": "Cg==", "service": {"name": "s"}}}],
        });
        assert_eq!(to_send(&webhook)["webhooks"][0]["clientConfig"], json!({"service": {"name": "s"}}));
        let mut own = webhook.clone();
        own["metadata"]["annotations"] = json!({});
        assert_eq!(to_send(&own)["webhooks"], webhook["webhooks"]);
    }

    #[test]
    fn lists_are_taken_apart_and_order_is_by_need() {
        let list = json!({"kind": "List", "items": [
            {"kind": "ConfigMap"}, {"kind": "RoleList", "items": [{"kind": "Role"}]}, {"kind": "Namespace"},
        ]});
        let mut flat = flatten(&[list, json!({"kind": "CustomResourceDefinition"})]);
        flat.sort_by_key(wave);
        assert_eq!(
            flat.iter().map(kind).collect::<Vec<_>>(),
            ["Namespace", "CustomResourceDefinition", "ConfigMap", "Role"]
        );
    }

    #[test]
    fn an_object_of_flux_is_known_by_its_labels() {
        let live = json!({"metadata": {"labels": {
            "helm.toolkit.fluxcd.io/name": "cilium", "helm.toolkit.fluxcd.io/namespace": "kube-system",
        }}});
        assert_eq!(flux_owner(&live).as_deref(), Some("HelmRelease kube-system/cilium"));
        assert_eq!(flux_owner(&json!({"metadata": {"labels": {"a": "b"}}})), None);
    }
}
