//! The smallest object that a schema allows, as far as that can be read off it.

use serde_json::{Map, Value, json};

/// Schemas are trees, but nothing says how deep.
const DEEPEST: usize = 16;

/// An object with everything that a structural schema requires and nothing else; nothing when it requires something
/// that cannot be made up, such as a text of a certain pattern. Rules across fields are not looked at.
pub(super) fn sample(schema: &Value) -> Option<Value> {
    let made = value(schema, 0)?;
    made.is_object().then_some(made)
}

fn value(schema: &Value, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    if let Some(default) = schema.get("default") {
        return Some(default.clone());
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        return allowed.iter().find(|value| !value.is_null()).cloned();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => object(schema, depth),
        Some("array") => {
            let least = usize::try_from(schema.get("minItems").and_then(Value::as_u64).unwrap_or_default()).ok()?;
            // Two items of a set would have to differ.
            let items: Option<Vec<Value>> = (0..least).map(|_| value(&schema["items"], depth + 1)).collect();
            items.filter(|items| items.len() < 2).map(Value::Array)
        }
        Some("string") => text(schema),
        Some("boolean") => Some(json!(false)),
        Some("integer" | "number") => number(schema),
        _ if schema.get("x-kubernetes-int-or-string").is_some() => number(schema),
        _ => Some(json!({})),
    }
}

fn object(schema: &Value, depth: usize) -> Option<Value> {
    let required = schema.get("required").and_then(Value::as_array);
    let mut object = Map::new();
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let of_object = depth == 0 && matches!(name, "apiVersion" | "kind" | "metadata");
        if !of_object {
            object.insert(name.to_owned(), value(schema.get("properties")?.get(name)?, depth + 1)?);
        }
    }
    Some(Value::Object(object))
}

fn text(schema: &Value) -> Option<Value> {
    if schema.get("pattern").is_some() {
        return None;
    }
    let least = usize::try_from(schema.get("minLength").and_then(Value::as_u64).unwrap_or_default()).ok()?;
    match schema.get("format").and_then(Value::as_str) {
        None => Some(json!("a".repeat(least))),
        Some("date-time") => Some(json!("2000-01-01T00:00:00Z")),
        Some("byte") if least == 0 => Some(json!("")),
        Some(_) => None,
    }
}

fn number(schema: &Value) -> Option<Value> {
    let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or_default();
    let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX);
    let exclusive = schema.get("exclusiveMinimum").and_then(Value::as_bool).unwrap_or_default();
    let number = least.max(0).checked_add(exclusive.into())?.min(most);
    (number >= least).then(|| json!(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_required_is_made() {
        let schema = json!({"type": "object", "required": ["spec", "kind"], "properties": {
            "status": {"type": "object"},
            "spec": {"type": "object", "required": ["size", "mode", "names", "when", "port", "on", "more", "kind"], "properties": {
                "size": {"type": "integer", "minimum": 1, "exclusiveMinimum": true},
                "mode": {"type": "string", "enum": ["soft", "hard"]},
                "names": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 2}},
                "when": {"type": "string", "format": "date-time"},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "on": {"type": "boolean", "default": true},
                "more": {"x-kubernetes-preserve-unknown-fields": true},
                "kind": {"type": "string"},
                "other": {"type": "string"},
            }},
        }});
        let made = sample(&schema).unwrap();
        let spec = json!({"size": 2, "mode": "soft", "names": ["aa"], "when": "2000-01-01T00:00:00Z", "port": 0, "on": true, "more": {}, "kind": ""});
        assert_eq!(made, json!({"spec": spec}));
    }

    #[test]
    fn what_cannot_be_made_up_is_not_made() {
        let of = |field: Value| sample(&json!({"type": "object", "required": ["a"], "properties": {"a": field}}));
        assert_eq!(of(json!({"type": "string", "pattern": "^[a-z]{3}$"})), None);
        assert_eq!(of(json!({"type": "string", "format": "ipv4"})), None);
        assert_eq!(of(json!({"type": "array", "minItems": 2, "items": {"type": "string"}})), None);
        assert_eq!(of(json!({"type": "integer", "minimum": -9, "maximum": -3})), Some(json!({"a": -3})));
    }
}
