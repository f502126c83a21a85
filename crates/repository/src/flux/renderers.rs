//! `postRenderers` of a HelmRelease as patches.

use serde_json::Value;

use super::Object;
use helmfile::{Patch, PatchTarget};
use yaml::Node;

/// The post-renderers of a HelmRelease.
#[derive(Debug, Clone, PartialEq)]
pub struct PostRendererPatches {
    pub patches: Vec<Patch>,
    /// The names of those that are not supported.
    pub unsupported: Vec<String>,
}

pub(super) fn patches(release: &Object) -> PostRendererPatches {
    let renderers = release.document.find(&["spec", "postRenderers"]).and_then(Node::as_sequence).unwrap_or_default();
    let (mut patches, mut unsupported) = (Vec::new(), Vec::new());
    for entry in renderers.iter().filter_map(|renderer| renderer.find(&["kustomize"])?.as_mapping()) {
        for entry in entry.iter() {
            match entry.value.as_sequence().filter(|_| entry.key == "patches") {
                Some(items) => items.iter().for_each(|item| match patch(release, item) {
                    Some(patch) => patches.push(patch),
                    None => unsupported.push("a patch by labels or without a target".to_owned()),
                }),
                None => unsupported.push(entry.key.clone()),
            }
        }
    }
    PostRendererPatches { patches, unsupported }
}

fn patch(release: &Object, item: &Node) -> Option<Patch> {
    let node = item.find(&["patch"])?;
    let at = release.origin.location(node.at);
    let content = yaml::parse_one(&release.origin, node.as_str()?).ok()?.to_json();
    let text = |key: &str| item.find(&["target", key]).and_then(Node::as_str).unwrap_or_default().to_owned();
    if !text("labelSelector").is_empty() || !text("annotationSelector").is_empty() {
        return None;
    }
    match content {
        Value::Array(_) => {
            let target = PatchTarget {
                group: text("group"),
                version: text("version"),
                kind: text("kind"),
                name: text("name"),
                namespace: text("namespace"),
            };
            Some(Patch::Json { target, operations: content, at })
        }
        Value::Object(_) if content.pointer("/metadata/name").is_some() => Some(Patch::Merge { object: content, at }),
        _ => None,
    }
}
