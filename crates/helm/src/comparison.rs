//! Whether the stored manifest of a release equals what its chart renders now.
//!
//! Helm stores what it rendered as it is (Helm 4.1 `action.renderResources`), so equal inputs parse to equal objects,
//! except for fields that no two renderings share: random values, `.Release.Revision`, and what depends on `lookup` or on
//! the API versions of the cluster. A stored field is up to date when it equals the field of any rendering of the inputs,
//! and a field in which the renderings differ is not compared. Everything here is pure.

use std::collections::BTreeMap;
use std::fmt;

use helmfile::ReleaseId;
use serde_json::{Map, Value};

use super::manifest::{self, ManifestError};
use super::storage::StoredRelease;

/// Replaces the values of Secrets.
const HIDDEN: &str = "(hidden)";
/// Labels that helm-controller adds to every object of a release that it upgrades (Flux 2.7, `postrender/origin_labels`).
const FLUX_LABELS: [&str; 2] = ["helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace"];

/// How Helm handles an object of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ObjectRole {
    /// Applied, and deleted with the release.
    Resource,
    /// Run at an event.
    Hook,
}

/// The identity of an object in a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ObjectKey {
    role: ObjectRole,
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    /// Counts objects that repeat an identity, which Helm accepts for hooks.
    occurrence: usize,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            ObjectRole::Resource => "",
            ObjectRole::Hook => "hook ",
        };
        write!(f, "{role}{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The objects of a rendering or of a record, hooks included. `Debug` shows identities only: values may be secret.
#[derive(Clone, PartialEq, Default)]
pub struct ReleaseObjects(BTreeMap<ObjectKey, Value>);

impl fmt::Debug for ReleaseObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl ReleaseObjects {
    /// The objects that a chart rendered for a release.
    pub fn new(release: &ReleaseId, objects: Vec<Value>) -> Self {
        let mut all = BTreeMap::new();
        for mut object in objects {
            normalise(&mut object, release);
            let mut key = key(&object);
            while all.contains_key(&key) {
                key.occurrence += 1;
            }
            all.insert(key, object);
        }
        Self(all)
    }

    /// The objects that Helm recorded.
    ///
    /// # Errors
    ///
    /// A manifest that is not YAML.
    pub fn from_record(stored: &StoredRelease) -> Result<Self, ManifestError> {
        let release = ReleaseId { namespace: stored.namespace.clone(), name: stored.name.clone() };
        let mut objects = manifest::parse(&stored.manifest)?;
        for hook in &stored.hooks {
            objects.extend(manifest::parse(hook)?);
        }
        Ok(Self::new(&release, objects))
    }

    /// What stays in the cluster: everything but hooks.
    pub fn resources(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|(key, _)| key.role == ObjectRole::Resource).map(|(_, object)| object)
    }
}

fn key(object: &Value) -> ObjectKey {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    ObjectKey {
        role: if manifest::is_hook(object) { ObjectRole::Hook } else { ObjectRole::Resource },
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        occurrence: 0,
    }
}

/// Sets the namespace that Helm defaults to, and removes the labels that Flux adds.
fn normalise(object: &mut Value, release: &ReleaseId) {
    manifest::set_namespace(object, &release.namespace);
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|name, _| !FLUX_LABELS.contains(&name.as_str()));
        if labels.is_empty() {
            metadata.remove("labels");
        }
    }
}

/// A difference between a stored manifest and the rendered one.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestDifference {
    /// Such as `Deployment kube-system/cilium-operator` or `hook Job lab/migrate`.
    pub object: String,
    pub change: ManifestChange,
}

/// What an upgrade would change of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestChange {
    /// It is rendered, and not stored.
    Added,
    /// It is stored, and no longer rendered.
    Removed,
    /// A field has another value; those of Secrets are hidden.
    Field { path: String, stored: Option<Value>, rendered: Option<Value> },
}

impl fmt::Display for ManifestDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.change {
            ManifestChange::Added => write!(f, "{} is new", self.object),
            ManifestChange::Removed => write!(f, "{} is no longer rendered", self.object),
            ManifestChange::Field { path, .. } => write!(f, "{} {path} differs", self.object),
        }
    }
}

/// Compares the stored objects of a release with one or more renderings of its inputs; the last rendering is what an
/// upgrade would store.
pub fn differences(stored: &ReleaseObjects, renderings: &[&ReleaseObjects]) -> Vec<ManifestDifference> {
    let mut keys: Vec<&ObjectKey> = stored.0.keys().collect();
    keys.extend(renderings.iter().flat_map(|rendering| rendering.0.keys()));
    keys.sort();
    keys.dedup();
    let mut found = Vec::new();
    for key in keys {
        let rendered: Vec<Option<&Value>> = renderings.iter().map(|rendering| rendering.0.get(key)).collect();
        let mut fields = Vec::new();
        compare(stored.0.get(key), &rendered, &mut String::new(), &mut fields);
        let difference = |change| ManifestDifference { object: key.to_string(), change };
        found.extend(fields.into_iter().map(|field| difference(field.change(key))));
    }
    found
}

/// The stored objects without the fields in which the renderings differ and that equal none of them.
pub fn without_volatile(stored: &ReleaseObjects, renderings: &[&ReleaseObjects]) -> ReleaseObjects {
    let mut stable = stored.clone();
    for (key, object) in &mut stable.0 {
        let rendered: Vec<Option<&Value>> = renderings.iter().map(|rendering| rendering.0.get(key)).collect();
        remove_volatile(object, &rendered);
    }
    stable
}

fn remove_volatile(stored: &mut Value, rendered: &[Option<&Value>]) {
    match stored {
        Value::Object(fields) => fields.retain(|key, field| {
            let rendered: Vec<Option<&Value>> =
                rendered.iter().filter_map(|value| (*value)?.get(key.as_str())).map(Some).collect();
            let is_kept =
                field.is_object() || field.is_array() || rendered.contains(&Some(&*field)) || !is_volatile(&rendered);
            remove_volatile(field, &rendered);
            is_kept
        }),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let rendered: Vec<Option<&Value>> =
                    rendered.iter().filter_map(|value| (*value)?.get(index)).map(Some).collect();
                remove_volatile(item, &rendered);
            }
        }
        _ => {}
    }
}

/// A field that equals no rendering.
struct Field<'v> {
    path: String,
    stored: Option<&'v Value>,
    rendered: Option<&'v Value>,
}

impl Field<'_> {
    fn change(self, object: &ObjectKey) -> ManifestChange {
        match (self.path.as_str(), self.stored, self.rendered) {
            ("", None, _) => ManifestChange::Added,
            ("", _, None) => ManifestChange::Removed,
            _ => {
                let shown = |value: Option<&Value>| value.map(|value| visible(object, &self.path, value));
                ManifestChange::Field {
                    stored: shown(self.stored),
                    rendered: shown(self.rendered),
                    path: self.path.clone(),
                }
            }
        }
    }
}

/// The value of a field, unless it belongs to the contents of a Secret.
fn visible(object: &ObjectKey, path: &str, value: &Value) -> Value {
    let is_content = [".data", ".stringData"].iter().any(|field| path.starts_with(field));
    if object.kind == "Secret" && is_content { HIDDEN.into() } else { value.clone() }
}

fn compare<'v>(
    stored: Option<&'v Value>,
    rendered: &[Option<&'v Value>],
    path: &mut String,
    found: &mut Vec<Field<'v>>,
) {
    if rendered.contains(&stored) {
        return;
    }
    // A rendering without the field shows that it may be absent, and nothing about its value.
    let present: Vec<Option<&Value>> = rendered.iter().flatten().copied().map(Some).collect();
    let rendered = if stored.is_some() && !present.is_empty() { &present } else { rendered };
    if let Some(Sides { stored, rendered }) = maps(stored, rendered) {
        let mut keys: Vec<&String> = stored.keys().chain(rendered.iter().flat_map(|map| map.keys())).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let fields: Vec<Option<&Value>> = rendered.iter().map(|map| map.get(key)).collect();
            within(path, &field_name(key), |path| compare(stored.get(key), &fields, path, found));
        }
    } else if let Some(Sides { stored, rendered }) = lists(stored, rendered) {
        for (index, item) in stored.iter().enumerate() {
            let items: Vec<Option<&Value>> = rendered.iter().map(|list| list.get(index)).collect();
            within(path, &format!("[{index}]"), |path| compare(Some(item), &items, path, found));
        }
    } else if !(stored.is_some() && is_volatile(rendered)) {
        found.push(Field { path: path.clone(), stored, rendered: rendered.last().copied().flatten() });
    }
}

/// Whether the renderings give the field different values.
fn is_volatile(rendered: &[Option<&Value>]) -> bool {
    rendered.windows(2).any(|pair| pair[0].is_some() && pair[1].is_some() && pair[0] != pair[1])
}

/// A field of the stored manifest and of every rendering.
struct Sides<T> {
    stored: T,
    rendered: Vec<T>,
}

/// All sides, when each is a map.
fn maps<'v>(stored: Option<&'v Value>, rendered: &[Option<&'v Value>]) -> Option<Sides<&'v Map<String, Value>>> {
    let rendered: Option<Vec<_>> = rendered.iter().map(|value| (*value)?.as_object()).collect();
    Some(Sides { stored: stored?.as_object()?, rendered: rendered? })
}

/// All sides, when each is a list of one length.
fn lists<'v>(stored: Option<&'v Value>, rendered: &[Option<&'v Value>]) -> Option<Sides<&'v Vec<Value>>> {
    let stored = stored?.as_array()?;
    let rendered: Option<Vec<_>> =
        rendered.iter().map(|value| (*value)?.as_array().filter(|list| list.len() == stored.len())).collect();
    Some(Sides { stored, rendered: rendered? })
}

fn within(path: &mut String, part: &str, inner: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(part);
    inner(path);
    path.truncate(length);
}

/// A key as a part of a path: `.spec`, or `["tls.crt"]` where a dot would be ambiguous.
fn field_name(key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { format!(".{key}") } else { format!("[\"{key}\"]") }
}

#[cfg(test)]
mod tests;
