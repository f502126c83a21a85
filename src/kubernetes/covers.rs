//! Whether the world already holds what a manifest says.

use std::fmt;

use serde_json::Value;

/// The first place at which the world falls short of the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The object is not there.
    Absent,
    /// A field, as `spec.replicas`, that is not there or differs.
    Field(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("is not there"),
            Self::Field(path) => write!(f, "{path} differs"),
        }
    }
}

/// What of `desired` is not in `live`; nothing when all of it is.
///
/// Maps are compared by subset, since the API server adds defaults; lists by index and length. An empty map or list,
/// a null and a false count as absent, since the API server may leave them out.
pub fn covers(live: &Value, desired: &Value) -> Option<Difference> {
    short_of(live, desired, &mut Vec::new())
}

fn short_of<'v>(live: &'v Value, desired: &'v Value, path: &mut Vec<String>) -> Option<Difference> {
    let here = |path: &[String]| Some(Difference::Field(path.join(".")));
    match (live, desired) {
        (_, desired) if is_nothing(desired) && (live.is_null() || is_nothing(live)) => None,
        (Value::Object(live), Value::Object(desired)) => desired.iter().find_map(|(key, wish)| {
            path.push(key.clone());
            let found = short_of(live.get(key).unwrap_or(&Value::Null), wish, path);
            path.pop();
            found
        }),
        (Value::Array(live), Value::Array(desired)) if live.len() == desired.len() => {
            live.iter().zip(desired).enumerate().find_map(|(index, (live, wish))| {
                path.push(index.to_string());
                let found = short_of(live, wish, path);
                path.pop();
                found
            })
        }
        (Value::Number(live), Value::Number(wish)) if live.as_f64() == wish.as_f64() => None,
        (live, desired) if live == desired => None,
        _ => here(path),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        Value::String(text) => text.is_empty(),
        Value::Number(_) | Value::Bool(true) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_field_that_falls_short_is_named() {
        let live = json!({"spec": {"replicas": 2, "ports": [{"port": 1, "protocol": "TCP"}]}});
        assert_eq!(covers(&live, &json!({"spec": {"ports": [{"port": 1}]}})), None);
        let field = |path: &str| Some(Difference::Field(path.to_owned()));
        assert_eq!(covers(&live, &json!({"spec": {"replicas": 3}})), field("spec.replicas"));
        assert_eq!(covers(&live, &json!({"spec": {"ports": [{"port": 2}]}})), field("spec.ports.0.port"));
        assert_eq!(covers(&live, &json!({"spec": {"ports": []}})), field("spec.ports"));
        assert_eq!(covers(&live, &json!({"spec": {"paused": false, "selector": {}}})), None);
    }

    fn data() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|b| json!(b)),
            any::<i32>().prop_map(|n| json!(n)),
            "[a-z]{0,3}".prop_map(|t| json!(t))
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
                prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_there_covers_itself(value in data()) {
            prop_assert_eq!(covers(&value, &value), None);
        }

        #[test]
        fn what_the_api_server_adds_does_not_matter(value in prop::collection::btree_map("[a-d]", data(), 0..4), more in data()) {
            let wish = json!(value);
            let mut live = wish.clone();
            live["zz"] = more;
            prop_assert_eq!(covers(&live, &wish), None);
        }
    }
}
