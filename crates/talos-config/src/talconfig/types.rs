//! The types of a talconfig and of the legacy machine config, as data. Reading, writing and the template view use them.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use yaml::{Diagnostic, Diagnostics, Node, Origin, Value as Yaml, near};

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    Text,
    Bool,
    Int,
    Any,
    List(Box<Type>),
    Map(Box<Type>),
    Struct(String),
}

#[derive(Debug, Clone)]
struct Field {
    key: String,
    /// The Go name that templates use.
    go: String,
    value_type: Type,
    /// A pointer in Go: null is distinct from the zero value.
    nullable: bool,
    /// An empty value is omitted.
    optional: bool,
}

static TYPES: LazyLock<HashMap<String, Vec<Field>>> = LazyLock::new(|| read(include_str!("types.txt")));

fn read(text: &str) -> HashMap<String, Vec<Field>> {
    let mut types: HashMap<String, Vec<Field>> = HashMap::new();
    let mut current = String::new();
    let mut includes = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name] => {
                (*name).clone_into(&mut current);
                types.entry(current.clone()).or_default();
            }
            ["=", included] => includes.push((current.clone(), (*included).to_owned())),
            [key, go, value_type] => types.entry(current.clone()).or_default().push(field(key, go, value_type)),
            _ => {}
        }
    }
    for (into, from) in includes {
        let fields = types.get(&from).cloned().unwrap_or_default();
        types.entry(into).or_default().extend(fields);
    }
    types
}

fn field(key: &str, go: &str, value_type: &str) -> Field {
    let optional = value_type.ends_with('?');
    let value_type = value_type.trim_end_matches('?');
    let nullable = value_type.starts_with('*');
    Field {
        key: key.to_owned(),
        go: go.to_owned(),
        value_type: type_of(value_type.trim_start_matches('*')),
        nullable,
        optional,
    }
}

fn type_of(name: &str) -> Type {
    if let Some(item) = name.strip_prefix("[]") {
        return Type::List(Box::new(type_of(item)));
    }
    if let Some(value) = name.strip_prefix("map[string]") {
        return Type::Map(Box::new(type_of(value)));
    }
    match name {
        "string" => Type::Text,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "any" => Type::Any,
        name => Type::Struct(name.to_owned()),
    }
}

fn fields(name: &str) -> &'static [Field] {
    TYPES.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// Errors, and warnings about fields that talhelper ignores.
#[derive(Debug, Default)]
pub(super) struct TalconfigFindings {
    pub(super) errors: Diagnostics,
    pub(super) warnings: Diagnostics,
}

/// Reads a mapping as the type `name`: scalars are converted to the types of their fields, unknown keys are ignored with a
/// warning, null equals absent.
pub(super) fn conform(
    origin: &Origin,
    node: &Node,
    name: &str,
    path: &str,
    found: &mut TalconfigFindings,
) -> Map<String, Value> {
    match conform_value(origin, node, &Type::Struct(name.to_owned()), path, found) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn conform_value(
    origin: &Origin,
    node: &Node,
    value_type: &Type,
    path: &str,
    found: &mut TalconfigFindings,
) -> Option<Value> {
    if node.is_null() {
        return None;
    }
    let value = match (value_type, &node.value) {
        (Type::Any, _) => Some(node.to_json()),
        (Type::Text, _) => text(&node.value).map(Value::from),
        (Type::Bool, Yaml::Bool(value)) => Some(json!(value)),
        (Type::Bool, Yaml::String(text)) => old_bool(text).map(Value::from),
        (Type::Int, Yaml::Int(value)) => Some(json!(value)),
        (Type::Int, Yaml::Unsigned(value)) => Some(json!(value)),
        (Type::List(value_type), Yaml::Sequence(items)) => {
            let item = |(index, item)| conform_value(origin, item, value_type, &format!("{path}[{index}]"), found);
            Some(items.iter().enumerate().filter_map(item).collect())
        }
        (Type::Map(value_type), Yaml::Mapping(entries)) => {
            let mut map = Map::new();
            for entry in entries.iter() {
                let value = conform_value(origin, &entry.value, value_type, &format!("{path}.{}", entry.key), found);
                map.insert(entry.key.clone(), value.unwrap_or_else(|| zero(value_type)));
            }
            Some(Value::Object(map))
        }
        (Type::Struct(name), Yaml::Mapping(_)) => return Some(conform_struct(origin, node, name, path, found)),
        _ => None,
    };
    if value.is_none() {
        let (expected, actual) = (description(value_type), node.value.kind());
        found.errors.error(origin.location(node.at), format!("`{path}` must be {expected}, this is {actual}"));
    }
    value
}

fn conform_struct(origin: &Origin, node: &Node, name: &str, path: &str, found: &mut TalconfigFindings) -> Value {
    let fields = fields(name);
    let mut map = Map::new();
    for entry in node.as_mapping().into_iter().flat_map(|mapping| mapping.iter()) {
        let place = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        if let Some(field) = fields.iter().find(|field| field.key == entry.key) {
            if let Some(value) = conform_value(origin, &entry.value, &field.value_type, &place, found) {
                map.insert(entry.key.clone(), value);
            }
            continue;
        }
        // By convention such keys only define anchors.
        if entry.key.starts_with("x-") || entry.key.starts_with(['.', '_']) {
            continue;
        }
        let near = near(&entry.key, fields.iter().map(|field| field.key.as_str()));
        let message = format!("unknown field `{place}` is ignored, like in talhelper");
        found.warnings.push(Diagnostic::at_location(origin.location(entry.key_at), message).did_you_mean(near));
    }
    Value::Object(map)
}

fn description(value_type: &Type) -> &'static str {
    match value_type {
        Type::Text => "a string",
        Type::Bool => "true or false",
        Type::Int => "an integer",
        Type::Any => "a value",
        Type::List(_) => "a list",
        Type::Map(_) | Type::Struct(_) => "a mapping",
    }
}

/// Converts a scalar to a string.
fn text(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Int(value) => Some(value.to_string()),
        Yaml::Unsigned(value) => Some(value.to_string()),
        Yaml::Float(value) => Some(value.to_string()),
        _ => None,
    }
}

/// YAML 1.1 booleans, which go-yaml still accepts for boolean fields.
fn old_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn zero(value_type: &Type) -> Value {
    match value_type {
        Type::Text => json!(""),
        Type::Bool => json!(false),
        Type::Int => json!(0),
        Type::Any => Value::Null,
        Type::List(_) => json!([]),
        Type::Map(_) => json!({}),
        Type::Struct(name) => encode(name, &Map::new()),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_zero),
    }
}

/// Encodes a mapping like a Go struct of the type `name`: in field order, empty values omitted where the type says so.
pub(super) fn encode(name: &str, map: &Map<String, Value>) -> Value {
    let mut out = Map::new();
    for field in fields(name) {
        let value = map.get(&field.key).map(|value| encode_value(&field.value_type, value));
        let value = match value {
            Some(value) if field.optional && !field.nullable && is_zero(&value) => continue,
            Some(value) => value,
            None if field.optional || field.nullable => continue,
            None => zero(&field.value_type),
        };
        out.insert(field.key.clone(), value);
    }
    Value::Object(out)
}

fn encode_value(value_type: &Type, value: &Value) -> Value {
    match (value_type, value) {
        (Type::Struct(name), Value::Object(map)) => encode(name, map),
        (Type::List(value_type), Value::Array(items)) => {
            items.iter().map(|item| encode_value(value_type, item)).collect()
        }
        (Type::Map(value_type), Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), encode_value(value_type, value))).collect()
        }
        _ => value.clone(),
    }
}

/// The legacy machine config for Go templates: all fields, by their Go names.
pub(super) fn view(config: &Value) -> Value {
    view_struct("Config", config)
}

fn view_struct(name: &str, value: &Value) -> Value {
    let mut out = Map::new();
    for field in fields(name).iter().filter(|field| field.go != "-") {
        let shown = match value.get(&field.key) {
            None | Some(Value::Null) if field.nullable => Value::Null,
            None | Some(Value::Null) => view_value(&field.value_type, &Value::Null),
            Some(value) => view_value(&field.value_type, value),
        };
        out.insert(field.go.clone(), shown);
    }
    Value::Object(out)
}

fn view_value(value_type: &Type, value: &Value) -> Value {
    match (value_type, value) {
        (Type::Struct(name), value) => view_struct(name, value),
        (value_type, Value::Null) => zero(value_type),
        (Type::List(value_type), Value::Array(items)) => {
            items.iter().map(|item| view_value(value_type, item)).collect()
        }
        (Type::Map(value_type), Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), view_value(value_type, value))).collect()
        }
        _ => value.clone(),
    }
}
