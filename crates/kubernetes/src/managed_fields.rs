//! What a server-side apply would change: seen in a dry run, or in the fields that its manager owned before.

use serde_json::{Map, Value};

use super::drift::{DriftKind, FieldDrift};

/// Fields that the API server writes at every change.
const SERVER_FIELDS: [&str; 4] = ["managedFields", "resourceVersion", "generation", "creationTimestamp"];

/// The first field in which `applied`, the result of a dry run, differs from the live object. Left out are fields that
/// controllers write by design: the status, CA bundles of webhooks, replicas that were set through the `scale`
/// subresource, as autoscalers do, and values of Secrets and ConfigMaps that the manifest leaves empty to be filled in.
pub(super) fn find_change(live: &Value, applied: &Value) -> Option<FieldDrift> {
    let is_data = ["Secret", "ConfigMap"].iter().any(|kind| live["kind"] == *kind);
    let mut changes = Changes { path: String::new(), is_scaled: is_scaled(live), is_data };
    changes.find(Some(live), Some(applied))
}

/// The first field that `manager` applied before and that the manifest no longer has.
pub(super) fn find_abandoned(live: &Value, desired: &Value, manager: &str) -> Option<FieldDrift> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let is_ours = |entry: &&Value| {
        entry["manager"] == manager
            && entry["operation"] == "Apply"
            && entry.get("subresource").is_none()
            // The fields of another version may have other names.
            && entry["apiVersion"] == desired["apiVersion"]
    };
    let path = entries.filter(is_ours).find_map(|entry| abandoned(entry.get("fieldsV1")?.as_object()?, desired))?;
    Some(FieldDrift { path, kind: DriftKind::Unexpected })
}

/// What a manifest has in place of an owned field.
enum ManifestField<'v> {
    Found(&'v Value),
    Gone,
    /// The manifest has something of another shape there, so it is unknown.
    Unknown,
}

impl<'v> From<Option<&'v Value>> for ManifestField<'v> {
    fn from(found: Option<&'v Value>) -> Self {
        found.map_or(Self::Gone, Self::Found)
    }
}

/// Walks the owned fields (`FieldsV1` of Kubernetes 1.35: `f:` is a field, `k:` an entry by its keys, `v:` an entry by its
/// value) and returns the path of the first that is not desired.
fn abandoned(owned: &Map<String, Value>, desired: &Value) -> Option<String> {
    owned.iter().find_map(|(key, inner)| {
        let (kind, name) = key.split_once(':')?;
        let (part, found) = match kind {
            "f" => (field_name(name), field(desired, name)),
            "k" => (format!("[{name}]"), entry(desired, name)),
            "v" => (format!("[{name}]"), item(desired, name)),
            _ => return None,
        };
        match found {
            ManifestField::Gone => Some(part),
            ManifestField::Found(found) => abandoned(inner.as_object()?, found).map(|path| format!("{part}{path}")),
            ManifestField::Unknown => None,
        }
    })
}

fn field<'v>(desired: &'v Value, name: &str) -> ManifestField<'v> {
    desired.as_object().map_or(ManifestField::Unknown, |fields| fields.get(name).into())
}

/// The entry of a list with these keys. A key that an entry omits has a default, such as `protocol: TCP`.
fn entry<'v>(desired: &'v Value, keys: &str) -> ManifestField<'v> {
    let (Some(list), Ok(keys)) = (desired.as_array(), serde_json::from_str::<Map<String, Value>>(keys)) else {
        return ManifestField::Unknown;
    };
    let has_keys = |entry: &&Value| keys.iter().all(|(key, value)| entry.get(key).is_none_or(|own| own == value));
    list.iter().find(has_keys).into()
}

/// The entry of a list with this value.
fn item<'v>(desired: &'v Value, value: &str) -> ManifestField<'v> {
    let (Some(list), Ok(value)) = (desired.as_array(), serde_json::from_str::<Value>(value)) else {
        return ManifestField::Unknown;
    };
    list.iter().find(|item| **item == value).into()
}

/// Whether another client set the replicas through the `scale` subresource.
fn is_scaled(live: &Value) -> bool {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    let mut scaled = entries.filter(|entry| entry["subresource"] == "scale");
    scaled.any(|entry| entry.pointer("/fieldsV1/f:spec/f:replicas").is_some())
}

/// The search for a change.
struct Changes {
    path: String,
    is_scaled: bool,
    /// The object is a Secret or a ConfigMap.
    is_data: bool,
}

impl Changes {
    fn find(&mut self, live: Option<&Value>, applied: Option<&Value>) -> Option<FieldDrift> {
        match (live, applied) {
            _ if live == applied => None,
            (Some(_), Some(Value::String(empty)))
                if empty.is_empty() && self.is_data && self.path.starts_with(".data") =>
            {
                None
            }
            (Some(Value::Object(live)), Some(Value::Object(applied))) => {
                let keys = live.keys().chain(applied.keys().filter(|key| !live.contains_key(*key)));
                keys.filter(|key| !self.is_left_out(key))
                    .cloned()
                    .collect::<Vec<_>>()
                    .iter()
                    .find_map(|key| self.within(&field_name(key), |inner| inner.find(live.get(key), applied.get(key))))
            }
            (Some(Value::Array(live)), Some(Value::Array(applied))) if live.len() == applied.len() => {
                live.iter().zip(applied).enumerate().find_map(|(index, (live, applied))| {
                    self.within(&format!("[{index}]"), |inner| inner.find(Some(live), Some(applied)))
                })
            }
            (None, _) => Some(self.drift(DriftKind::Missing)),
            (_, None) => Some(self.drift(DriftKind::Unexpected)),
            _ => Some(self.drift(DriftKind::Different)),
        }
    }

    fn is_left_out(&self, key: &str) -> bool {
        match self.path.as_str() {
            "" => key == "status",
            ".metadata" => SERVER_FIELDS.contains(&key),
            ".spec" => key == "replicas" && self.is_scaled,
            _ => key == "caBundle",
        }
    }

    fn within(&mut self, part: &str, inner: impl FnOnce(&mut Self) -> Option<FieldDrift>) -> Option<FieldDrift> {
        let length = self.path.len();
        self.path.push_str(part);
        let found = inner(self);
        self.path.truncate(length);
        found
    }

    fn drift(&self, kind: DriftKind) -> FieldDrift {
        FieldDrift { path: self.path.clone(), kind }
    }
}

fn field_name(key: &str) -> String {
    let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if plain { format!(".{key}") } else { format!("[\"{key}\"]") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn change(live: &Value, applied: &Value) -> Option<String> {
        find_change(live, applied).map(|drift| drift.to_string())
    }

    fn managed(entry: Value) -> Value {
        json!({"metadata": {"managedFields": [entry]}, "spec": {"replicas": 3, "image": "a"}})
    }

    #[test]
    fn what_the_server_and_controllers_write_is_no_change() {
        let live = json!({
            "metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "managedFields": []},
            "webhooks": [{"clientConfig": {"caBundle": "eA=="}}], "status": {"a": 1},
        });
        let applied = json!({
            "metadata": {"name": "a", "resourceVersion": "1", "generation": 2, "managedFields": [{}]},
            "webhooks": [{"clientConfig": {"caBundle": "Cg=="}}], "status": {"a": 2},
        });
        assert_eq!(change(&live, &applied), None);
    }

    #[test]
    fn the_first_change_is_named_by_its_path() {
        let live = json!({"spec": {"ports": [{"port": 80}], "type": "NodePort"}});
        let applied = json!({"spec": {"ports": [{"port": 81}], "type": "NodePort"}});
        assert_eq!(change(&live, &applied).as_deref(), Some(".spec.ports[0].port differs"));
        let added = json!({"spec": {"ports": [{"port": 80}], "type": "NodePort"}, "data": {"a.b": "c"}});
        assert_eq!(change(&live, &added).as_deref(), Some(".data is missing"));
        assert_eq!(change(&added, &live).as_deref(), Some(".data is unexpected"));
    }

    #[test]
    fn an_empty_value_of_a_secret_is_there_to_be_filled_in() {
        let secret = |kind: &str, value: &str| json!({"kind": kind, "data": {"ca.crt": value}});
        for kind in ["Secret", "ConfigMap"] {
            assert_eq!(change(&secret(kind, "eA=="), &secret(kind, "")), None);
            assert!(change(&secret(kind, "eA=="), &secret(kind, "eQ==")).is_some());
        }
        assert!(change(&secret("Other", "eA=="), &secret("Other", "")).is_some());
    }

    #[test]
    fn replicas_belong_to_an_autoscaler_that_has_set_them() {
        let fields = json!({"f:spec": {"f:replicas": {}}});
        let scaled =
            managed(json!({"manager": "hpa", "operation": "Update", "subresource": "scale", "fieldsV1": fields}));
        let edited = managed(json!({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": fields}));
        let with = |live: &Value, image: &str| {
            let mut applied = live.clone();
            applied["spec"] = json!({"replicas": 1, "image": image});
            change(live, &applied)
        };
        assert_eq!(with(&scaled, "a"), None);
        assert_eq!(with(&scaled, "b").as_deref(), Some(".spec.image differs"));
        assert_eq!(with(&edited, "a").as_deref(), Some(".spec.replicas differs"));
    }

    fn applied(manager: &str, fields: Value) -> Value {
        let entry = json!({"manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields});
        json!({"metadata": {"managedFields": [entry]}})
    }

    fn left(fields: Value, desired: &Value) -> Option<String> {
        find_abandoned(&applied("us", fields), desired, "us").map(|drift| drift.to_string())
    }

    #[test]
    fn a_field_that_left_the_manifest_is_found_and_one_of_others_is_not() {
        let fields = json!({
            "f:metadata": {"f:labels": {"f:kept": {}, "f:a.b/dropped": {}}},
            "f:data": {".": {}, "f:key": {}},
        });
        let desired = json!({"apiVersion": "v1", "metadata": {"labels": {"kept": "x"}}, "data": {"key": ""}});
        assert_eq!(left(fields.clone(), &desired).as_deref(), Some(".metadata.labels[\"a.b/dropped\"] is unexpected"));
        assert_eq!(find_abandoned(&applied("them", fields), &desired, "us"), None);
    }

    #[test]
    fn entries_of_lists_are_found_by_their_keys_and_values() {
        let fields = json!({"f:spec": {
            "f:ports": {"k:{\"port\":53,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:finalizers": {"v:\"ours\"": {}},
        }});
        let with = |ports: Value, finalizers: Value| {
            left(fields.clone(), &json!({"apiVersion": "v1", "spec": {"ports": ports, "finalizers": finalizers}}))
        };
        assert_eq!(with(json!([{"port": 53}]), json!(["ours"])), None);
        assert!(with(json!([{"port": 54}]), json!(["ours"])).is_some());
        assert_eq!(with(json!([{"port": 53}]), json!([])).as_deref(), Some(".spec.finalizers[\"ours\"] is unexpected"));
    }

    proptest! {
        #[test]
        fn equal_objects_have_no_change(text in "[a-z]{0,8}", number in any::<i32>()) {
            let object = json!({"spec": {"a": text, "list": [number, {"b": number}]}});
            prop_assert_eq!(find_change(&object, &object), None);
        }

        #[test]
        fn another_value_is_a_change(one in any::<i32>(), other in any::<i32>()) {
            let object = |value: i32| json!({"spec": {"list": [{"b": value}]}});
            prop_assert_eq!(find_change(&object(one), &object(other)).is_some(), one != other);
        }
    }
}
