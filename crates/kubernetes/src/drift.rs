//! Whether a live object has drifted from its manifest.
//!
//! The API server adds defaults and drops empty fields, so the two are never equal. The rules:
//! - maps are compared by the keys of the manifest; additional live keys are allowed;
//! - a desired `null`, and a desired zero value (`false`, `0`, `""`, `{}`, `[]`), equals an absent field, since the
//!   API server drops these from fields with `omitempty`;
//! - lists are compared by index and length, but lists of maps that the API merges by a key (such as `name` or
//!   `containerPort`) are compared by that key; additional live entries are allowed;
//! - quantities (`1000m`, `"1"`) are compared by their amount where an object has quantities.

use serde_json::{Map, Value};

use super::quantity;

/// The first field in which a live object differs from its manifest. Values are left out: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDrift {
    /// Such as `.spec.template.spec.containers[name=app].image`.
    pub path: String,
    pub kind: DriftKind,
}

/// How a field differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriftKind {
    /// The live object has another value.
    Different,
    /// The live object has no value.
    Missing,
    /// The live object has a value, the manifest none.
    Unexpected,
}

impl std::fmt::Display for FieldDrift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            DriftKind::Different => "differs",
            DriftKind::Missing => "is missing",
            DriftKind::Unexpected => "is unexpected",
        };
        write!(f, "{} {kind}", self.path)
    }
}

/// Keys by which the API merges lists of maps; the first with distinct values for all desired entries is used.
/// Source: the `listMapKeys` of the Kubernetes 1.35 OpenAPI.
const LIST_KEYS: [&[&str]; 9] = [
    &["containerPort", "protocol"],
    &["port", "protocol"],
    &["mountPath"],
    &["devicePath"],
    &["name"],
    &["topologyKey", "whenUnsatisfiable"],
    &["type"],
    &["ip"],
    &["uid"],
];
/// Default values of key fields.
const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];
/// Fields whose values are quantities, or maps of quantities.
const QUANTITIES: [&str; 10] =
    ["requests", "limits", "hard", "capacity", "sizeLimit", "min", "max", "default", "defaultRequest", "averageValue"];
/// Lists that are sets: unordered, with entries of other owners.
const SETS: [&str; 1] = ["finalizers"];

/// The first field in which a live object differs from its manifest. The status is not compared.
pub fn find_drift(live: &Value, desired: &Value) -> Option<FieldDrift> {
    let mut path = Path::default();
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .filter(|(key, _)| *key != "status")
            .find_map(|(key, desired)| path.within(key, |path| path.compare(live.get(key), desired))),
        _ => path.compare(Some(live), desired),
    }
}

/// The path of the field under comparison.
#[derive(Default)]
struct Path {
    parts: Vec<String>,
    /// The number of enclosing fields with quantities.
    quantities: usize,
    set: bool,
}

impl Path {
    fn within<T>(&mut self, key: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let quantities = usize::from(QUANTITIES.contains(&key));
        let set = std::mem::replace(&mut self.set, SETS.contains(&key));
        self.quantities += quantities;
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        self.parts.push(if plain { format!(".{key}") } else { format!("[\"{key}\"]") });
        let result = inner(self);
        self.parts.pop();
        self.quantities -= quantities;
        self.set = set;
        result
    }

    fn at<T>(&mut self, entry: String, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.parts.push(format!("[{entry}]"));
        let result = inner(self);
        self.parts.pop();
        result
    }

    fn drift(&self, kind: DriftKind) -> FieldDrift {
        FieldDrift { path: self.parts.concat(), kind }
    }

    fn compare(&mut self, live: Option<&Value>, desired: &Value) -> Option<FieldDrift> {
        match (live, desired) {
            (None | Some(Value::Null), desired) if is_empty(desired) => None,
            (None | Some(Value::Null), Value::Object(desired)) => {
                // All its fields may equal absent ones.
                desired.iter().find_map(|(key, desired)| self.within(key, |path| path.compare(None, desired)))
            }
            (None | Some(Value::Null), _) => Some(self.drift(DriftKind::Missing)),
            (Some(_), Value::Null) => Some(self.drift(DriftKind::Unexpected)),
            (Some(Value::Object(live)), Value::Object(desired)) => {
                desired.iter().find_map(|(key, desired)| self.within(key, |path| path.compare(live.get(key), desired)))
            }
            (Some(Value::Array(live)), Value::Array(desired)) => self.compare_lists(live, desired),
            (Some(live), desired) if same(live, desired) => None,
            (Some(live), desired) if self.quantities > 0 && quantity::same(live, desired) => None,
            (Some(_), _) => Some(self.drift(DriftKind::Different)),
        }
    }

    fn compare_lists(&mut self, live: &[Value], desired: &[Value]) -> Option<FieldDrift> {
        if self.set {
            let is_contained = desired.iter().all(|desired| live.iter().any(|live| same(live, desired)));
            return if is_contained { None } else { Some(self.drift(DriftKind::Different)) };
        }
        if let Some(keys) = merge_keys(desired) {
            return desired.iter().find_map(|desired| {
                let identity = identity(desired, keys)?;
                let live = live.iter().find(|live| self::identity(live, keys).as_ref() == Some(&identity));
                self.at(identity, |path| match live {
                    Some(live) => path.compare(Some(live), desired),
                    None => Some(path.drift(DriftKind::Missing)),
                })
            });
        }
        if live.len() != desired.len() {
            return Some(self.drift(DriftKind::Different));
        }
        live.iter()
            .zip(desired)
            .enumerate()
            .find_map(|(index, (live, desired))| self.at(index.to_string(), |path| path.compare(Some(live), desired)))
    }
}

/// The key fields that identify the entries of a list.
fn merge_keys(list: &[Value]) -> Option<&'static [&'static str]> {
    LIST_KEYS.into_iter().find(|keys| {
        let mut seen = std::collections::BTreeSet::new();
        !list.is_empty() && list.iter().all(|entry| identity(entry, keys).is_some_and(|identity| seen.insert(identity)))
    })
}

/// The identity of an entry of a list, such as `name=app`.
fn identity(entry: &Value, keys: &[&str]) -> Option<String> {
    let fields: &Map<String, Value> = entry.as_object()?;
    let parts: Option<Vec<String>> = keys
        .iter()
        .map(|key| match fields.get(*key) {
            Some(Value::String(text)) => Some(format!("{key}={text}")),
            Some(Value::Number(number)) => Some(format!("{key}={number}")),
            _ => {
                let default = KEY_DEFAULTS.iter().find(|(field, _)| field == key)?.1;
                Some(format!("{key}={default}"))
            }
        })
        .collect();
    Some(parts?.join(","))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Equal, where numbers are compared by their value.
fn same(live: &Value, desired: &Value) -> bool {
    live == desired
        || matches!((live.as_f64(), desired.as_f64()), (Some(live), Some(desired)) if live.total_cmp(&desired).is_eq())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn drift_of(live: Value, desired: Value) -> String {
        find_drift(&live, &desired).map(|drift| drift.to_string()).unwrap_or_default()
    }

    #[test]
    fn defaults_and_dropped_fields_are_not_drift() {
        let desired = json!({
            "metadata": {"name": "app", "annotations": {}, "finalizers": ["ours"]},
            "spec": {"replicas": 1, "paused": false, "template": {"spec": {
                "hostNetwork": false, "nodeSelector": null, "securityContext": {"runAsNonRoot": false},
                "containers": [{
                    "name": "app", "env": [{"name": "A", "value": ""}], "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 2}},
                }],
            }}},
            "status": {"replicas": 7},
        });
        let live = json!({
            "metadata": {"name": "app", "uid": "1", "finalizers": ["theirs", "ours"]},
            "spec": {"replicas": 1, "template": {"spec": {
                "restartPolicy": "Always",
                "containers": [{"name": "injected"}, {
                    "name": "app", "image": "x", "env": [{"name": "A"}],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}},
                }],
            }}},
            "status": {"replicas": 1},
        });
        assert_eq!(find_drift(&live, &desired), None);
    }

    #[test]
    fn the_first_difference_is_reported_by_its_path() {
        insta::assert_snapshot!(drift_of(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 3}})), @".spec.replicas differs");
        insta::assert_snapshot!(drift_of(json!({"spec": {"a": 1}}), json!({"spec": {"a": null}})), @".spec.a is unexpected");
        insta::assert_snapshot!(drift_of(json!({}), json!({"data": {"tls.crt": "eA=="}})), @r#".data["tls.crt"] is missing"#);
        let container = |image: &str| json!({"containers": [{"name": "app", "image": image}]});
        insta::assert_snapshot!(drift_of(container("a:1"), container("a:2")), @".containers[name=app].image differs");
        insta::assert_snapshot!(drift_of(json!({"args": ["a", "b"]}), json!({"args": ["a"]})), @".args differs");
        insta::assert_snapshot!(drift_of(json!({"args": ["a", "b"]}), json!({"args": ["a", "c"]})), @".args[1] differs");
    }

    #[test]
    fn two_ports_of_one_number_differ_by_protocol() {
        let ports = json!({"ports": [{"port": 53, "protocol": "UDP", "name": "u"}, {"port": 53, "name": "t"}]});
        let live = json!({"ports": [{"port": 53, "protocol": "TCP", "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]});
        assert_eq!(find_drift(&live, &ports), None);
    }

    #[test]
    fn text_that_only_looks_like_a_quantity_is_compared_as_text() {
        assert_eq!(drift_of(json!({"data": {"a": "1"}}), json!({"data": {"a": "1000m"}})), ".data.a differs");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,4}|name|port", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// The value with one more key in every map, as a server would default it.
    fn defaulted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut fields: Map<String, Value> =
                    fields.iter().map(|(key, value)| (key.clone(), defaulted(value))).collect();
                fields.insert("defaultedByServer".to_owned(), json!("x"));
                Value::Object(fields)
            }
            Value::Array(items) => items.iter().map(defaulted).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn an_object_has_no_drift_from_itself(value in any_json()) {
            prop_assert_eq!(find_drift(&value, &value), None);
        }

        #[test]
        fn additional_live_fields_are_not_drift(value in any_json()) {
            prop_assert_eq!(find_drift(&defaulted(&value), &value), None);
        }

        #[test]
        fn another_value_anywhere_is_found(value in any_json(), key in "[A-Z]{3}") {
            let desired = json!({"deep": {"inside": value, key.clone(): "desired"}});
            let live = json!({"deep": {"inside": value, key: "live"}});
            prop_assert!(find_drift(&live, &desired).is_some());
        }
    }
}
