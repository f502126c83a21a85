//! Which documents can stand beside each other in one config (Talos 1.14, `pkg/machinery/config/container`).

use std::collections::HashMap;

use serde_json::Value;

use super::schema::schema;

/// Kinds that configure a link of their name; two of one name conflict.
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

/// Pairs of kinds of which one name may have only one.
const RIVALS: [(&str, &str); 2] =
    [("Layer2VIPConfig", "HCloudVIPConfig"), ("ExistingVolumeConfig", "UserVolumeConfig")];

/// The first two documents that exclude each other.
pub(super) fn conflict(documents: &[Value]) -> Option<String> {
    let mut claims: HashMap<String, String> = HashMap::new();
    for document in documents {
        let title = title(document);
        for claim in claims_of(document) {
            match claims.get(&claim) {
                Some(owner) if *owner == title => return Some(format!("the config has two documents {title}")),
                Some(owner) => return Some(format!("the documents {owner} and {title} exclude each other")),
                None => {
                    claims.insert(claim, title.clone());
                }
            }
        }
    }
    None
}

/// What a document takes for itself.
fn claims_of(document: &Value) -> Vec<String> {
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
        "" => "of version v1alpha1".to_owned(),
        kind => format!("{kind} {}", text("name")).trim().to_owned(),
    }
}
