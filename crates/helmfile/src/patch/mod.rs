//! Patches rendered manifests, as helmfile does with kustomize for `jsonPatches` and `strategicMergePatches`.
//!
//! A JSON patch (RFC 6902) is applied to every object that its target matches, if any; a strategic merge is applied to the
//! object that it names, which must exist. The patched objects are packed as a chart, so that Helm installs, records and
//! later removes exactly these objects.

mod strategic;

use regex::Regex;
use serde_json::Value;

use yaml::Location;

use crate::{Patch, PatchTarget};

/// A patch that cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {reason}")]
pub struct PatchError {
    /// Where the patch is written.
    pub location: Location,
    pub reason: PatchErrorReason,
}

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchErrorReason {
    #[error("invalid JSON patch: {0}")]
    Invalid(serde_json::Error),
    #[error("invalid regular expression `{expression}` in `target`")]
    InvalidTarget { expression: String },
    #[error("the JSON patch does not apply to {object}: {error}")]
    NotApplicable { object: String, error: json_patch::PatchError },
    #[error("the strategic merge patch is for {object}, which the chart does not render")]
    NoSuchObject { object: String },
}

/// Applies patches in order.
///
/// # Errors
///
/// The first patch that cannot be applied.
pub fn apply(objects: Vec<Value>, patches: &[Patch]) -> Result<Vec<Value>, PatchError> {
    patches.iter().try_fold(objects, |objects, patch| match patch {
        Patch::Json { target, operations, at } => {
            apply_json(objects, target, operations).map_err(|reason| PatchError { location: at.clone(), reason })
        }
        Patch::Merge { object, at } => {
            apply_merge(objects, object).map_err(|reason| PatchError { location: at.clone(), reason })
        }
    })
}

fn apply_json(
    mut objects: Vec<Value>,
    target: &PatchTarget,
    operations: &Value,
) -> Result<Vec<Value>, PatchErrorReason> {
    let patch: json_patch::Patch = serde_json::from_value(operations.clone()).map_err(PatchErrorReason::Invalid)?;
    let matcher = TargetMatcher::new(target)?;
    for object in objects.iter_mut().filter(|object| matcher.matches(object)) {
        json_patch::patch(object, &patch)
            .map_err(|error| PatchErrorReason::NotApplicable { object: Identity::of(object).to_string(), error })?;
    }
    Ok(objects)
}

fn apply_merge(objects: Vec<Value>, patch: &Value) -> Result<Vec<Value>, PatchErrorReason> {
    let wanted = Identity::of(patch);
    if !objects.iter().any(|object| Identity::of(object) == wanted) {
        return Err(PatchErrorReason::NoSuchObject { object: wanted.to_string() });
    }
    let schema = strategic::Schema::of(&wanted.group);
    let patched = objects.into_iter().filter_map(|object| {
        if Identity::of(&object) == wanted { strategic::merge(&schema, Some(object), patch) } else { Some(object) }
    });
    Ok(patched.collect())
}

/// Splits objects into those that are not among `known`, by identity, and those that are.
pub fn split(objects: Vec<Value>, known: &[Value]) -> (Vec<Value>, Vec<Value>) {
    let known: Vec<Identity> = known.iter().map(Identity::of).collect();
    objects.into_iter().partition(|object| !known.contains(&Identity::of(object)))
}

/// The identity of an object.
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

/// A target, compiled: each field is a regular expression for the whole text.
struct TargetMatcher([Option<Regex>; 5]);

impl TargetMatcher {
    fn new(target: &PatchTarget) -> Result<Self, PatchErrorReason> {
        let expression = |text: &String| match text.as_str() {
            "" => Ok(None),
            text => Regex::new(&format!("^(?:{text})$"))
                .map(Some)
                .map_err(|_| PatchErrorReason::InvalidTarget { expression: text.to_owned() }),
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

    fn matches(&self, object: &Value) -> bool {
        let Identity { group, version, kind, namespace, name } = Identity::of(object);
        let texts = [group, version, kind, name, namespace];
        self.0.iter().zip(texts).all(|(wanted, text)| wanted.as_ref().is_none_or(|wanted| wanted.is_match(&text)))
    }
}

#[cfg(test)]
mod tests;
