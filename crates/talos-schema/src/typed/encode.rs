//! Writes documents like Talos: fields in schema order, empty fields omitted unless the schema says otherwise.

use serde_json::{Map, Value};

use super::super::schema::{Field, Scalar, Struct, Type, schema};
use super::duration;

/// Encodes a typed document. A document of an unknown kind stays unchanged.
pub fn encode(document: &Value) -> Value {
    let Value::Object(map) = document else { return document.clone() };
    let Some(kind) = schema().kind(document.get("kind").and_then(Value::as_str)) else { return document.clone() };
    let mut written = Map::new();
    for key in ["apiVersion", "kind"] {
        if let Some(value) = map.get(key) {
            written.insert(key.to_owned(), value.clone());
        }
    }
    written.append(&mut fields(&kind.body, map));
    Value::Object(written)
}

fn fields(body: &Struct, map: &Map<String, Value>) -> Map<String, Value> {
    let mut written = Map::new();
    for field in &body.fields {
        if let Some(value) = field_value(field, map.get(field.name)) {
            written.insert(field.name.to_owned(), value);
        }
    }
    // Unknown fields are kept.
    for (key, value) in map {
        if body.field(key).is_none() && !matches!(key.as_str(), "apiVersion" | "kind") {
            written.insert(key.clone(), value.clone());
        }
    }
    written
}

fn field_value(field: &Field, value: Option<&Value>) -> Option<Value> {
    match value {
        Some(value) if field.always || !is_zero(&field.value_type, value) => Some(encoded(&field.value_type, value)),
        None if field.always && !matches!(field.value_type, Type::Enum(_)) => Some(zero(&field.value_type)),
        _ => None,
    }
}

fn encoded(value_type: &Type, value: &Value) -> Value {
    match (value_type, value) {
        (Type::Optional(value_type), value) => encoded(value_type, value),
        (Type::Struct(index), Value::Object(map)) => Value::Object(fields(schema().struct_type(*index), map)),
        (Type::List(value_type, _), Value::Array(items)) => {
            Value::Array(items.iter().map(|item| encoded(value_type, item)).collect())
        }
        (Type::Map(value_type), Value::Object(map)) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), encoded(value_type, value))).collect())
        }
        (_, value) => value.clone(),
    }
}

/// What Talos writes for an absent value.
pub(super) fn zero(value_type: &Type) -> Value {
    match value_type {
        Type::Optional(_) => Value::Null,
        Type::Scalar(Scalar::Bool) => Value::Bool(false),
        Type::Scalar(Scalar::Integer(..) | Scalar::Mode | Scalar::Ports | Scalar::DiskSize) => Value::from(0),
        Type::Scalar(Scalar::Duration) => Value::String("0s".to_owned()),
        Type::Scalar(Scalar::Table) => Value::String("unspec".to_owned()),
        Type::Scalar(_) => Value::String(String::new()),
        Type::Enum(values) => Value::String(values.first().copied().unwrap_or_default().to_owned()),
        Type::List(..) => Value::Array(vec![]),
        Type::Struct(index) => Value::Object(fields(schema().struct_type(*index), &Map::new())),
        Type::Map(_) | Type::Arguments | Type::Free => Value::Object(Map::new()),
    }
}

/// Whether a value is Go's zero value: it changes nothing in a patch and is written only where the schema says so.
pub(crate) fn is_zero(value_type: &Type, value: &Value) -> bool {
    match (value_type, value) {
        (_, Value::Null) => true,
        (Type::Optional(_), _) => false,
        (Type::Scalar(Scalar::Duration), Value::String(text)) => duration::parse(text) == Some(0),
        (Type::Scalar(Scalar::Table), Value::String(text)) => text == "unspec",
        (Type::Enum(values), Value::String(text)) => values.first().is_some_and(|zero| zero == text),
        (Type::Struct(index), Value::Object(map)) => {
            let body = schema().struct_type(*index);
            map.iter().all(|(key, value)| body.field(key).is_some_and(|field| is_zero(&field.value_type, value)))
        }
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Bool(value)) => !value,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        (_, Value::Array(items)) => items.is_empty(),
        (_, Value::Object(map)) => map.is_empty(),
    }
}
