//! The values of a HelmRelease: those of its references in their order, then its own (helm-controller 1.4.5).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use yaml::Origin;

use super::helm_release::HelmRelease;
use crate::operators::objects::ObjectKind;

const CONFIG_MAP: ObjectKind = ObjectKind { group: "", version: "v1", name: "ConfigMap", plural: "configmaps" };
const SECRET: ObjectKind = ObjectKind { group: "", version: "v1", name: "Secret", plural: "secrets" };
const DEFAULT_KEY: &str = "values.yaml";

/// Why values cannot be composed. No value is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValuesError {
    #[error("could not find {reference}")]
    Missing { reference: String, source: kube::Error },
    #[error("missing key '{key}' in {reference}")]
    NoKey { reference: String, key: String },
    #[error("unable to read values from key '{key}' in {reference}")]
    Invalid { reference: String, key: String },
    #[error("the rehearsal does not support targetPath '{path}' of {reference}")]
    Path { reference: String, path: String },
}

/// The values of a HelmRelease, as the cluster has its references.
pub(super) async fn compose(client: &kube::Client, release: &HelmRelease) -> Result<Value, ValuesError> {
    let mut values = json!({});
    for reference in &release.values_from {
        match read(client, &release.object.namespace, reference).await {
            Ok(found) => merge(&mut values, found),
            Err(ValuesError::Missing { .. } | ValuesError::NoKey { .. }) if reference["optional"] == true => {}
            Err(error) => return Err(error),
        }
    }
    merge(&mut values, release.values.clone());
    Ok(values)
}

async fn read(client: &kube::Client, namespace: &str, reference: &Value) -> Result<Value, ValuesError> {
    let (kind, name) = (reference["kind"].as_str().unwrap_or_default(), reference["name"].as_str().unwrap_or_default());
    let described = format!("{kind} '{namespace}/{name}'");
    let source_kind = if kind == "Secret" { SECRET } else { CONFIG_MAP };
    let object = source_kind.api(client, Some(namespace)).get(name).await;
    let object = object.map_err(|source| ValuesError::Missing { reference: described.clone(), source })?;
    from_reference(&object.data, reference, &described)
}

/// The values that an object holds under the key of a reference.
fn from_reference(object: &Value, reference: &Value, described: &str) -> Result<Value, ValuesError> {
    let key = reference["valuesKey"].as_str().unwrap_or(DEFAULT_KEY);
    let place = || (described.to_owned(), key.to_owned());
    let invalid = || {
        let (reference, key) = place();
        ValuesError::Invalid { reference, key }
    };
    let Some(content) = object["data"][key].as_str() else {
        let (reference, key) = place();
        return Err(ValuesError::NoKey { reference, key });
    };
    let text = if reference["kind"] == "Secret" {
        String::from_utf8(STANDARD.decode(content).map_err(|_| invalid())?).map_err(|_| invalid())?
    } else {
        content.to_owned()
    };
    let parsed = yaml::parse_one(&Origin::new(described), &text).map_err(|_| invalid())?.to_json();
    match reference["targetPath"].as_str().filter(|path| !path.is_empty()) {
        Some(path) if path.contains(['[', '\\', '{', ',']) => {
            Err(ValuesError::Path { reference: described.to_owned(), path: path.to_owned() })
        }
        // As with `--set`, numbers and booleans are typed and everything else is text.
        Some(path) => {
            let is_scalar = matches!(parsed, Value::Bool(_) | Value::Number(_));
            let value = if is_scalar { parsed } else { Value::String(text) };
            Ok(path.rsplit('.').fold(value, |inner, name| json!({ name: inner })))
        }
        None if parsed.is_null() => Ok(json!({})),
        None if parsed.is_object() => Ok(parsed),
        None => Err(invalid()),
    }
}

/// Merges objects; anything else of `over` replaces what is there.
fn merge(values: &mut Value, over: Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, value) in over {
                merge_entry(values, key, value);
            }
        }
        (values, over) => *values = over,
    }
}

fn merge_entry(values: &mut Map<String, Value>, key: String, over: Value) {
    match values.get_mut(&key) {
        Some(value) => merge(value, over),
        None => {
            values.insert(key, over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(object: &Value, reference: &Value) -> Result<Value, ValuesError> {
        from_reference(object, reference, "ConfigMap 'a/b'")
    }

    #[test]
    fn objects_are_merged_and_everything_else_is_replaced() {
        let mut values = json!({"a": {"b": 1, "c": [1, 2]}, "d": "e"});
        merge(&mut values, json!({"a": {"c": [3], "f": null}, "d": {"g": 1}}));
        assert_eq!(values, json!({"a": {"b": 1, "c": [3], "f": null}, "d": {"g": 1}}));
    }

    #[test]
    fn values_are_read_from_either_kind_under_the_default_or_another_key() {
        let map = json!({"data": {"values.yaml": "a: 1\n", "other": "b: [2]\n", "empty": ""}});
        assert_eq!(read(&map, &json!({"kind": "ConfigMap"})).unwrap(), json!({"a": 1}));
        assert_eq!(read(&map, &json!({"kind": "ConfigMap", "valuesKey": "other"})).unwrap(), json!({"b": [2]}));
        assert_eq!(read(&map, &json!({"kind": "ConfigMap", "valuesKey": "empty"})).unwrap(), json!({}));
        let secret = json!({"data": {"values.yaml": STANDARD.encode("a: x\n")}});
        assert_eq!(read(&secret, &json!({"kind": "Secret"})).unwrap(), json!({"a": "x"}));
    }

    #[test]
    fn a_target_path_sets_one_value() {
        let map = json!({"data": {"n": "3", "t": "a: b", "s": "text"}});
        let set =
            |key: &str, path: &str| read(&map, &json!({"kind": "ConfigMap", "valuesKey": key, "targetPath": path}));
        assert_eq!(set("n", "a.b").unwrap(), json!({"a": {"b": 3}}));
        assert_eq!(set("t", "a").unwrap(), json!({"a": "a: b"}));
        assert_eq!(set("s", "a").unwrap(), json!({"a": "text"}));
        assert!(matches!(set("s", "a[0]"), Err(ValuesError::Path { .. })));
    }

    #[test]
    fn what_is_missing_or_invalid_is_an_error_without_the_content() {
        let map = json!({"data": {"values.yaml": "hidden", "broken": "hidden: ["}});
        assert!(matches!(read(&map, &json!({"valuesKey": "x"})), Err(ValuesError::NoKey { .. })));
        for key in ["values.yaml", "broken"] {
            let error = read(&map, &json!({"kind": "ConfigMap", "valuesKey": key})).unwrap_err();
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }
}
