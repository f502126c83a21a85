//! Rendered manifests, patched: what helmfile does with kustomize for `jsonPatches` and `strategicMergePatches`.
//!
//! JSON patches (RFC 6902) go to every object that their target means, none of them being no mistake; a strategic merge
//! goes to the one object that it names. The result becomes a chart of its own (`wrap`), so that Helm installs, records
//! and later removes exactly these objects.

mod strategic;

use regex::Regex;
use serde_json::Value;

use crate::{Patch, PatchTarget};

/// Applies patches in their order.
///
/// # Errors
///
/// Where the patch is written, and why it does not fit.
pub fn apply(mut objects: Vec<Value>, patches: &[Patch]) -> Result<Vec<Value>, String> {
    for patch in patches {
        objects = match patch {
            Patch::Json { target, operations, at } => {
                json(objects, target, operations).map_err(|error| format!("{at}: {error}"))?
            }
            Patch::Merge { object, at } => merge(objects, object).map_err(|error| format!("{at}: {error}"))?,
        };
    }
    Ok(objects)
}

fn json(mut objects: Vec<Value>, target: &PatchTarget, operations: &Value) -> Result<Vec<Value>, String> {
    let patch: json_patch::Patch =
        serde_json::from_value(operations.clone()).map_err(|error| format!("this is no JSON patch: {error}"))?;
    let means = TargetMatcher::of(target)?;
    for object in objects.iter_mut().filter(|object| means.takes(object)) {
        json_patch::patch(object, &patch)
            .map_err(|error| format!("the JSON patch does not fit {}: {error}", Identity::of(object)))?;
    }
    Ok(objects)
}

fn merge(objects: Vec<Value>, patch: &Value) -> Result<Vec<Value>, String> {
    let wanted = Identity::of(patch);
    if !objects.iter().any(|object| Identity::of(object) == wanted) {
        return Err(format!("the strategic merge patch is for {wanted}, which the chart does not render"));
    }
    let schema = strategic::Schema::of(&wanted.group);
    let patched = objects.into_iter().filter_map(|object| {
        if Identity::of(&object) == wanted { strategic::merge(&schema, Some(object), patch) } else { Some(object) }
    });
    Ok(patched.collect())
}

/// Parts objects into those that are not among `known`, by kind and name, and those that are: what templates render, and
/// what lies in a chart's `crds/`.
pub fn split(objects: Vec<Value>, known: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let known: Vec<Identity> = known.iter().map(Identity::of).collect();
    objects.into_iter().partition(|object| !known.contains(&Identity::of(object)))
}

/// Who an object is.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    group: String,
    version: String,
    kind: String,
    namespace: String,
    name: String,
}

impl Identity {
    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let api_version = text(&object["apiVersion"]);
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
        let namespace = text(&object["metadata"]["namespace"]);
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text(&object["kind"]),
            namespace: if namespace.is_empty() { "default".to_owned() } else { namespace },
            name: text(&object["metadata"]["name"]),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A target, each of its texts a regular expression for the whole.
struct TargetMatcher([Option<Regex>; 5]);

impl TargetMatcher {
    fn of(target: &PatchTarget) -> Result<Self, String> {
        let expression = |text: &String| match text.as_str() {
            "" => Ok(None),
            text => Regex::new(&format!("^(?:{text})$"))
                .map(Some)
                .map_err(|_| format!("`{text}` in the target is no regular expression")),
        };
        let PatchTarget { group, version, kind, name, namespace } = target;
        Ok(Self([
            expression(group)?,
            expression(version)?,
            expression(kind)?,
            expression(name)?,
            expression(namespace)?,
        ]))
    }

    fn takes(&self, object: &Value) -> bool {
        let Identity { group, version, kind, namespace, name } = Identity::of(object);
        let texts = [group, version, kind, name, namespace];
        self.0.iter().zip(texts).all(|(wanted, text)| wanted.as_ref().is_none_or(|wanted| wanted.is_match(&text)))
    }
}

#[cfg(test)]
mod tests;
