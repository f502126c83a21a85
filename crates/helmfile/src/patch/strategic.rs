//! Kubernetes' strategic merge as kustomize implements it: maps merge, null and `$patch: delete` remove, and lists with a
//! merge key merge by it, the elements of the patch first.

use serde_json::{Map, Value};

/// Which lists have a merge key.
pub(super) struct Schema {
    /// Custom resources have no merge keys.
    is_built_in: bool,
}

/// API groups of Kubernetes itself with a dot.
const GROUPS: [&str; 16] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];
/// The list's name, the name of the parent, and the merge key (`x-kubernetes-patch-merge-key` of the API).
const KEYS: [(&str, &str, &str); 21] = [
    ("containers", "spec", "name"),
    ("initContainers", "spec", "name"),
    ("ephemeralContainers", "spec", "name"),
    ("volumes", "spec", "name"),
    ("imagePullSecrets", "spec", "name"),
    ("imagePullSecrets", "", "name"),
    ("secrets", "", "name"),
    ("hostAliases", "spec", "ip"),
    ("topologySpreadConstraints", "spec", "topologyKey"),
    ("resourceClaims", "spec", "name"),
    ("schedulingGates", "spec", "name"),
    ("env", "containers", "name"),
    ("env", "initContainers", "name"),
    ("ports", "containers", "containerPort"),
    ("ports", "initContainers", "containerPort"),
    ("volumeMounts", "containers", "mountPath"),
    ("volumeMounts", "initContainers", "mountPath"),
    ("volumeDevices", "containers", "devicePath"),
    ("ports", "spec", "port"),
    ("webhooks", "", "name"),
    ("ownerReferences", "metadata", "uid"),
];

impl Schema {
    pub(super) fn of(group: &str) -> Self {
        Self { is_built_in: !group.contains('.') || GROUPS.contains(&group) }
    }

    fn key(&self, list: &str, within: &str) -> Option<&'static str> {
        let known = KEYS.iter().filter(|_| self.is_built_in);
        known.into_iter().find(|(name, parent, _)| (*name, *parent) == (list, within)).map(|(_, _, key)| *key)
    }
}

/// Merges `patch` into an object; `None` if the patch deletes it.
pub(super) fn merge(schema: &Schema, object: Option<Value>, patch: &Value) -> Option<Value> {
    value(schema, "", "", object, patch)
}

/// Merges into the field `name` of the parent `within`.
fn value(schema: &Schema, within: &str, name: &str, own: Option<Value>, patch: &Value) -> Option<Value> {
    match (own, patch) {
        (_, Value::Null) => None,
        (own, Value::Object(patch)) => {
            let own = match (directive(patch), own) {
                (Some("delete"), _) => return None,
                (Some("replace"), _) => Map::new(),
                (_, Some(Value::Object(own))) => own,
                _ => Map::new(),
            };
            Some(Value::Object(map(schema, name, own, patch)))
        }
        (own, Value::Array(patch)) => {
            let own = if let Some(Value::Array(own)) = own { own } else { vec![] };
            Some(Value::Array(list(schema, within, name, own, patch)))
        }
        (_, scalar) => Some(scalar.clone()),
    }
}

fn directive(patch: &Map<String, Value>) -> Option<&str> {
    patch.get("$patch").and_then(Value::as_str)
}

fn map(schema: &Schema, name: &str, mut own: Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    for (key, over) in patch.iter().filter(|(key, _)| *key != "$patch") {
        let existing = own.get(key).cloned();
        match value(schema, name, key, existing, over) {
            Some(merged) => drop(own.insert(key.clone(), merged)),
            None => drop(own.shift_remove(key)),
        }
    }
    own
}

fn list(schema: &Schema, within: &str, name: &str, own: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let is_replaced = |one: &Value| one.get("$patch").and_then(Value::as_str) == Some("replace");
    let elements = |patch: &[Value]| -> Vec<Value> {
        let whole = |one: &Value| one.as_object().is_none_or(|map| !map.keys().all(|key| key == "$patch"));
        patch.iter().filter(|one| whole(one)).filter_map(|one| value(schema, within, name, None, one)).collect()
    };
    let Some(key) = schema.key(name, within) else { return elements(patch) };
    if patch.iter().any(is_replaced) {
        return elements(patch);
    }
    let (mut own, mut merged) = (own, vec![]);
    for over in patch {
        let existing = own.iter().position(|one| same(one, over, key)).map(|index| own.remove(index));
        // The parent's name of an element's lists is the list's name.
        merged.extend(value(schema, within, name, existing, over));
    }
    merged.extend(own);
    merged
}

/// Whether two elements have the same merge key and the same protocol (TCP by default).
fn same(one: &Value, other: &Value, key: &str) -> bool {
    let protocol = |value: &Value| value.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
    one.get(key).is_some() && one.get(key) == other.get(key) && protocol(one) == protocol(other)
}
