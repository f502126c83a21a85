//! Talos's strategic merge of one document into another (`pkg/machinery/config/merge`), driven by the schema.
//!
//! Both sides are typed. Zero values of the patch change nothing, except `false` and optional fields that are set; maps
//! merge by key, lists append unless the schema says otherwise.

use serde_json::{Map, Value};

use super::schema::{Field, ListRule, Struct, Type, schema};
use super::typed::is_zero;

/// Two free-form values whose types Talos does not merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clash {
    /// Steps from the innermost to the outermost.
    path: Vec<String>,
    old: &'static str,
    new: &'static str,
}

impl Clash {
    pub(super) fn path(&self) -> Vec<&str> {
        self.path.iter().rev().map(String::as_str).collect()
    }

    pub(super) fn message(&self) -> String {
        format!("is {} and cannot become {}", self.old, self.new)
    }

    fn within(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }
}

/// Merges `patch` into `target`, two documents of one kind.
pub(super) fn merge_document(target: &mut Value, patch: &Value) -> Result<(), Clash> {
    let kind = schema().kind(patch.get("kind").and_then(Value::as_str));
    match (kind, target, patch) {
        (Some(kind), Value::Object(target), Value::Object(patch)) => fields(&kind.body, target, patch),
        // Documents of unknown kinds merge like free-form values.
        (None, target, patch) => free(target, patch),
        _ => Ok(()),
    }
}

fn fields(body: &Struct, target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Clash> {
    for (key, new) in patch {
        let Some(field) = body.field(key) else {
            // `apiVersion` and `kind` are the same on both sides.
            target.entry(key.clone()).or_insert_with(|| new.clone());
            continue;
        };
        match target.get_mut(key) {
            Some(old) => merge_field(field, old, new).map_err(|clash| clash.within(key))?,
            None => {
                if let Some(value) = fresh(field, new).map_err(|clash| clash.within(key))? {
                    target.insert(key.clone(), value);
                }
            }
        }
    }
    Ok(())
}

fn merge_field(field: &Field, old: &mut Value, new: &Value) -> Result<(), Clash> {
    if !field.replace {
        return merge_value(&field.value_type, old, new);
    }
    let empty_list = matches!((&field.value_type, new), (Type::List(..), Value::Array(_)));
    if empty_list || !is_zero(&field.value_type, new) {
        *old = new.clone();
    }
    Ok(())
}

/// The value of a field that the target does not have. Lists and structs are merged into their zero value, which joins
/// elements of the list with the same key; other values are copied.
fn fresh(field: &Field, new: &Value) -> Result<Option<Value>, Clash> {
    let mut value = match (&field.value_type, new) {
        (Type::List(..), Value::Array(_)) if !field.replace => Value::Array(vec![]),
        (Type::Struct(_), Value::Object(_)) if !field.replace => Value::Object(Map::new()),
        _ => return Ok(Some(new.clone())),
    };
    merge_value(&field.value_type, &mut value, new)?;
    Ok(Some(value))
}

fn merge_value(value_type: &Type, old: &mut Value, new: &Value) -> Result<(), Clash> {
    match (value_type, old, new) {
        (_, _, Value::Null) => Ok(()),
        (Type::Optional(value_type), old, new) => match (&**value_type, &old) {
            (_, Value::Null) | (Type::Scalar(_) | Type::Enum(_), _) => {
                *old = new.clone();
                Ok(())
            }
            (value_type, _) => merge_value(value_type, old, new),
        },
        (Type::Struct(index), Value::Object(old), Value::Object(new)) => fields(schema().struct_type(*index), old, new),
        (Type::List(value_type, rule), Value::Array(old), Value::Array(new)) => list(value_type, rule, old, new),
        (Type::Map(value_type), Value::Object(old), Value::Object(new)) => {
            for (key, new) in new {
                match old.get_mut(key) {
                    Some(old) => merge_value(value_type, old, new).map_err(|clash| clash.within(key))?,
                    None => {
                        old.insert(key.clone(), new.clone());
                    }
                }
            }
            Ok(())
        }
        (Type::Arguments, Value::Object(old), Value::Object(new)) => {
            old.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
            Ok(())
        }
        (Type::Free, old, new) => free(old, new),
        (value_type, old, new) => {
            if new.is_boolean() || !is_zero(value_type, new) {
                *old = new.clone();
            }
            Ok(())
        }
    }
}

fn list(value_type: &Type, rule: &ListRule, old: &mut Vec<Value>, new: &[Value]) -> Result<(), Clash> {
    // Replacing considers only elements of the target: an element that is twice in the patch is appended twice.
    let before = old.len();
    for element in new {
        let known = match rule {
            ListRule::Append => None,
            ListRule::MergeBy(keys) => twin(value_type, old, element, keys),
            ListRule::ReplaceBy(key) => old[..before].iter().rposition(|known| text(known, key) == text(element, key)),
        };
        match (known, rule) {
            (Some(index), ListRule::ReplaceBy(_)) => old[index] = element.clone(),
            (Some(index), _) => {
                merge_value(value_type, &mut old[index], element)
                    .map_err(|clash| clash.within(&format!("[{index}]")))?;
            }
            (None, _) => old.push(element.clone()),
        }
    }
    Ok(())
}

/// The element that is equal in the first of `keys` that the new element has.
pub(super) fn twin(value_type: &Type, old: &[Value], element: &Value, keys: &[&str]) -> Option<usize> {
    let present = |key: &&&str| element.get(**key).is_some_and(|value| value.as_str() != Some(""));
    let key = match keys {
        [only] => only,
        several => several.iter().find(present)?,
    };
    if never_equal(value_type, key, element) {
        return None;
    }
    old.iter().position(|known| same(known.get(*key), element.get(*key)))
}

/// Go compares optional fields by pointer, so that a selector with `physical: true` never equals another one.
fn never_equal(value_type: &Type, key: &str, element: &Value) -> bool {
    let key_type = match value_type {
        Type::Struct(index) => schema().struct_type(*index).field(key).map(|field| &field.value_type),
        _ => None,
    };
    let Some((Type::Optional(value_type), Value::Object(map))) = key_type.zip(element.get(key)) else { return false };
    let Type::Struct(index) = &**value_type else { return false };
    let optional = |key: &str| {
        schema().struct_type(*index).field(key).is_some_and(|field| matches!(field.value_type, Type::Optional(_)))
    };
    map.keys().any(|key| optional(key))
}

/// Equality regardless of key order; an absent key equals the zero value.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let zero =
        |value: Option<&Value>| value.is_none_or(|value| value.as_str() == Some("") || value.as_u64() == Some(0));
    a == b || (zero(a) && zero(b))
}

fn text<'v>(element: &'v Value, key: &str) -> &'v str {
    element.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Merges values without a schema: only equal types merge, and zero values change nothing.
fn free(old: &mut Value, new: &Value) -> Result<(), Clash> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, new) in new {
                match old.get_mut(key) {
                    Some(old) if !old.is_null() => free(old, new).map_err(|clash| clash.within(key))?,
                    _ => {
                        old.insert(key.clone(), new.clone());
                    }
                }
            }
            Ok(())
        }
        (Value::Array(old), Value::Array(new)) => {
            old.extend_from_slice(new);
            Ok(())
        }
        (old, new) if type_name(old) == type_name(new) => {
            let zero = matches!(new, Value::String(text) if text.is_empty()) || new.as_f64() == Some(0.0);
            if !zero {
                *old = new.clone();
            }
            Ok(())
        }
        (old, new) => Err(Clash { path: vec![], old: type_name(old), new: type_name(new) }),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
