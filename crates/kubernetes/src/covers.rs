//! Whether a live object already says everything that is desired.
//!
//! The API server adds to an object and drops what is empty, so the two are never equal. The rules:
//! - maps are compared key by key of what is desired; more keys in the live one are fine;
//! - a desired `null`, and a desired zero value (`false`, `0`, `""`, `{}`, `[]`), is covered by absence, since the API
//!   server drops these from fields with `omitempty`;
//! - lists are compared by index and length, but lists of maps that the API merges by a key (such as `name` or
//!   `containerPort`) are compared by that key, and more entries in the live one are fine;
//! - quantities (`1000m`, `"1"`) are compared by their amount where an object holds quantities.

use serde_json::{Map, Value};

use super::quantity;

/// The first place at which a live object does not say what is desired. Values are left out: they may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Such as `.spec.template.spec.containers[name=app].image`.
    pub path: String,
    pub how: How,
}

/// How the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The live object has another value.
    Other,
    /// The live object has none.
    Missing,
    /// The live object has a value where none is desired.
    Unwanted,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            How::Other => "differs",
            How::Missing => "is missing",
            How::Unwanted => "should not be there",
        };
        write!(f, "{} {how}", self.path)
    }
}

/// Keys by which the API merges lists of maps; the first whose values tell the desired entries apart is used.
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
/// What a key field is when it is not written.
const KEY_DEFAULTS: [(&str, &str); 1] = [("protocol", "TCP")];
/// Fields whose values are quantities, or maps of quantities.
const QUANTITIES: [&str; 10] =
    ["requests", "limits", "hard", "capacity", "sizeLimit", "min", "max", "default", "defaultRequest", "averageValue"];
/// Lists that are sets: the order does not matter, and others may add to them.
const SETS: [&str; 1] = ["finalizers"];

/// The first difference between a live object and what is desired of it; nothing when the live one covers it.
/// The status is not compared.
pub fn covers(live: &Value, desired: &Value) -> Option<Difference> {
    let mut path = Path::default();
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired
            .iter()
            .filter(|(key, _)| *key != "status")
            .find_map(|(key, desired)| path.within(key, |path| path.compare(live.get(key), desired))),
        _ => path.compare(Some(live), desired),
    }
}

/// Where the comparison is.
#[derive(Default)]
struct Path {
    parts: Vec<String>,
    /// How many of the enclosing fields hold quantities.
    quantities: usize,
    set: bool,
}

impl Path {
    fn within<T>(&mut self, key: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let of_quantities = usize::from(QUANTITIES.contains(&key));
        let set = std::mem::replace(&mut self.set, SETS.contains(&key));
        self.quantities += of_quantities;
        let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        self.parts.push(if plain { format!(".{key}") } else { format!("[\"{key}\"]") });
        let result = inner(self);
        self.parts.pop();
        self.quantities -= of_quantities;
        self.set = set;
        result
    }

    fn at<T>(&mut self, entry: String, inner: impl FnOnce(&mut Self) -> T) -> T {
        self.parts.push(format!("[{entry}]"));
        let result = inner(self);
        self.parts.pop();
        result
    }

    fn difference(&self, how: How) -> Difference {
        Difference { path: self.parts.concat(), how }
    }

    fn compare(&mut self, live: Option<&Value>, desired: &Value) -> Option<Difference> {
        match (live, desired) {
            (None | Some(Value::Null), desired) if is_empty(desired) => None,
            (None | Some(Value::Null), Value::Object(desired)) => {
                // All that it holds may itself be covered by absence.
                desired.iter().find_map(|(key, desired)| self.within(key, |path| path.compare(None, desired)))
            }
            (None | Some(Value::Null), _) => Some(self.difference(How::Missing)),
            (Some(_), Value::Null) => Some(self.difference(How::Unwanted)),
            (Some(Value::Object(live)), Value::Object(desired)) => {
                desired.iter().find_map(|(key, desired)| self.within(key, |path| path.compare(live.get(key), desired)))
            }
            (Some(Value::Array(live)), Value::Array(desired)) => self.compare_lists(live, desired),
            (Some(live), desired) if same(live, desired) => None,
            (Some(live), desired) if self.quantities > 0 && quantity::same(live, desired) => None,
            (Some(_), _) => Some(self.difference(How::Other)),
        }
    }

    fn compare_lists(&mut self, live: &[Value], desired: &[Value]) -> Option<Difference> {
        if self.set {
            let covered = desired.iter().all(|desired| live.iter().any(|live| same(live, desired)));
            return if covered { None } else { Some(self.difference(How::Other)) };
        }
        if let Some(keys) = merge_keys(desired) {
            return desired.iter().find_map(|desired| {
                let identity = identity(desired, keys)?;
                let live = live.iter().find(|live| self::identity(live, keys).as_ref() == Some(&identity));
                self.at(identity, |path| match live {
                    Some(live) => path.compare(Some(live), desired),
                    None => Some(path.difference(How::Missing)),
                })
            });
        }
        if live.len() != desired.len() {
            return Some(self.difference(How::Other));
        }
        live.iter()
            .zip(desired)
            .enumerate()
            .find_map(|(index, (live, desired))| self.at(index.to_string(), |path| path.compare(Some(live), desired)))
    }
}

/// The key fields that tell the entries of a list apart.
fn merge_keys(list: &[Value]) -> Option<&'static [&'static str]> {
    LIST_KEYS.into_iter().find(|keys| {
        let mut seen = std::collections::BTreeSet::new();
        !list.is_empty() && list.iter().all(|entry| identity(entry, keys).is_some_and(|identity| seen.insert(identity)))
    })
}

/// What an entry of a list is known by, such as `name=app`.
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

    fn told(live: Value, desired: Value) -> String {
        covers(&live, &desired).map(|difference| difference.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_the_server_adds_and_drops_is_no_difference() {
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
        assert_eq!(covers(&live, &desired), None);
    }

    #[test]
    fn the_first_difference_is_told_by_its_path() {
        insta::assert_snapshot!(told(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 3}})), @".spec.replicas differs");
        insta::assert_snapshot!(told(json!({"spec": {"a": 1}}), json!({"spec": {"a": null}})), @".spec.a should not be there");
        insta::assert_snapshot!(told(json!({}), json!({"data": {"tls.crt": "eA=="}})), @r#".data["tls.crt"] is missing"#);
        let container = |image: &str| json!({"containers": [{"name": "app", "image": image}]});
        insta::assert_snapshot!(told(container("a:1"), container("a:2")), @".containers[name=app].image differs");
        insta::assert_snapshot!(told(json!({"args": ["a", "b"]}), json!({"args": ["a"]})), @".args differs");
        insta::assert_snapshot!(told(json!({"args": ["a", "b"]}), json!({"args": ["a", "c"]})), @".args[1] differs");
    }

    #[test]
    fn two_ports_of_one_number_are_told_apart_by_protocol() {
        let ports = json!({"ports": [{"port": 53, "protocol": "UDP", "name": "u"}, {"port": 53, "name": "t"}]});
        let live = json!({"ports": [{"port": 53, "protocol": "TCP", "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]});
        assert_eq!(covers(&live, &ports), None);
    }

    #[test]
    fn text_that_only_looks_like_a_quantity_is_compared_as_text() {
        assert_eq!(told(json!({"data": {"a": "1"}}), json!({"data": {"a": "1000m"}})), ".data.a differs");
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
        fn an_object_covers_itself(value in any_json()) {
            prop_assert_eq!(covers(&value, &value), None);
        }

        #[test]
        fn what_is_added_to_the_live_object_changes_nothing(value in any_json()) {
            prop_assert_eq!(covers(&defaulted(&value), &value), None);
        }

        #[test]
        fn another_value_anywhere_is_found(value in any_json(), key in "[A-Z]{3}") {
            let desired = json!({"deep": {"inside": value, key.clone(): "desired"}});
            let live = json!({"deep": {"inside": value, key: "live"}});
            prop_assert!(covers(&live, &desired).is_some());
        }
    }
}
