//! Conflicts between the documents of a config (Talos 1.14, `pkg/machinery/config/container`).

use std::collections::HashMap;

use serde_json::Value;

use super::schema::schema;

/// Kinds that configure the link with their name; two with one name conflict.
const LINKS: [&str; 8] = [
    "LinkConfig",
    "BondConfig",
    "BridgeConfig",
    "VLANConfig",
    "DummyLinkConfig",
    "WireguardConfig",
    "VRFConfig",
    "VethConfig",
];

/// Pairs of kinds that conflict when they have the same name.
const RIVALS: [(&str, &str); 2] =
    [("Layer2VIPConfig", "HCloudVIPConfig"), ("ExistingVolumeConfig", "UserVolumeConfig")];

/// The first two conflicting documents.
pub(super) fn conflict(documents: &[Value]) -> Option<String> {
    let mut claims: HashMap<String, String> = HashMap::new();
    for document in documents {
        let title = title(document);
        for claim in unique_keys(document) {
            match claims.get(&claim) {
                Some(owner) if *owner == title => return Some(format!("duplicate document {title}")),
                Some(owner) => return Some(format!("the documents {owner} and {title} conflict")),
                None => {
                    claims.insert(claim, title.clone());
                }
            }
        }
    }
    None
}

/// The keys that no other document may have.
fn unique_keys(document: &Value) -> Vec<String> {
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let Some(kind) = text("kind") else { return vec!["the legacy document".to_owned()] };
    let named = schema().kind(Some(kind)).is_none_or(|kind| kind.named);
    let name = if named { text("name").unwrap_or_default() } else { "" };
    let mut claims = vec![format!("{kind}/{name}")];
    if LINKS.contains(&kind) {
        claims.push(format!("link/{name}"));
        let peer = document.pointer("/peer/name").and_then(Value::as_str);
        claims.extend(peer.map(|peer| format!("link/{peer}")));
    }
    for (one, other) in RIVALS {
        if kind == one || kind == other {
            claims.push(format!("{one}/{other}/{name}"));
        }
    }
    claims
}

fn title(document: &Value) -> String {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("kind") {
        "" => "with version v1alpha1".to_owned(),
        kind => format!("{kind} {}", text("name")).trim().to_owned(),
    }
}
