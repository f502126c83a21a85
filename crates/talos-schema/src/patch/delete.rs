//! `$patch: delete`: deletions are extracted from a patch before the rest merges.
//!
//! Talos (`configloader/internal/decoder`) deletes documents, fields, map keys, and list elements selected by the first
//! key beside the directive. It finds elements only in lists outside of other lists, and only by strings; here elements of
//! keyed lists are found at any depth and by any scalar.

use serde_json::{Map, Value};

use super::super::merge::twin;
use super::super::schema::{ListRule, Struct, Type, schema};
use super::super::typed::{DIRECTIVE, RawContent, RawEntry, RawValue};
use yaml::{Diagnostic, Location};

/// A deletion from a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deletion {
    pub(super) at: Option<Location>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    /// The list element that corresponds to an element of the patch.
    Element(Value),
    /// The first list element with this key and spelling.
    First {
        key: String,
        spelled: String,
    },
}

/// The rest of a patch document without its deletions.
pub(super) enum Rest {
    /// The directive deletes the whole document.
    Document,
    Nothing,
    Written(RawValue),
}

/// Extracts all deletions of a document, in document order.
///
/// # Errors
///
/// A deletion that Talos does not support.
pub(super) fn extract(mut written: RawValue) -> Result<(Rest, Vec<Deletion>), Diagnostic> {
    if is_deleted(&written) {
        return Ok((Rest::Document, vec![]));
    }
    let mut found = Vec::new();
    let emptied = take(&mut written, &mut Vec::new(), &mut found)?;
    let scalar = |entry: &RawEntry| matches!(entry.value.content, RawContent::Scalar { .. });
    let label = |entry: &RawEntry| scalar(entry) && matches!(entry.key.as_str(), "version" | "kind" | "name");
    let nothing = emptied || (!found.is_empty() && written.entries().iter().all(label));
    Ok((if nothing { Rest::Nothing } else { Rest::Written(written) }, found))
}

/// Whether the directive deletes the whole document.
pub(super) fn is_deleted(written: &RawValue) -> bool {
    directive(written.entries()).is_some()
}

fn directive(entries: &[RawEntry]) -> Option<&RawEntry> {
    entries.iter().find(|entry| entry.key == DIRECTIVE && entry.value.text() == Some("delete"))
}

/// Extracts deletions below a value; returns whether the value is empty afterwards.
fn take(written: &mut RawValue, steps: &mut Vec<Step>, found: &mut Vec<Deletion>) -> Result<bool, Diagnostic> {
    match &mut written.content {
        RawContent::Map(entries) => {
            let mut took = false;
            let mut index = 0;
            while let Some(entry) = entries.get_mut(index) {
                steps.push(Step::Key(entry.key.clone()));
                let gone = match directive(entry.value.entries()) {
                    Some(directive) => {
                        reject_inside_list(steps, directive)?;
                        found.push(Deletion { at: entry.at.clone(), steps: steps.clone() });
                        true
                    }
                    None => take(&mut entry.value, steps, found)?,
                };
                steps.pop();
                took |= gone;
                if gone { drop(entries.remove(index)) } else { index += 1 }
            }
            Ok(took && entries.is_empty())
        }
        RawContent::List(items) => {
            let mut took = false;
            let mut index = 0;
            while let Some(item) = items.get_mut(index) {
                let gone = match directive(item.entries()) {
                    Some(at) => {
                        let at = at.at.clone();
                        steps.push(first_key(item)?);
                        found.push(Deletion { at, steps: steps.clone() });
                        true
                    }
                    None => {
                        steps.push(Step::Element(item.to_json()));
                        take(item, steps, found)?
                    }
                };
                steps.pop();
                took |= gone;
                if gone { drop(items.remove(index)) } else { index += 1 }
            }
            Ok(took && items.is_empty())
        }
        RawContent::Null | RawContent::Scalar { .. } => Ok(false),
    }
}

fn reject_inside_list(steps: &[Step], directive: &RawEntry) -> Result<(), Diagnostic> {
    if steps.iter().all(|step| matches!(step, Step::Key(_))) {
        return Ok(());
    }
    let message = format!("cannot delete `{}`: Talos does not delete fields of list elements", display(steps));
    Err(located(directive.at.as_ref(), message)
        .with_hint("delete the whole element and add it again without the field"))
}

fn first_key(item: &RawValue) -> Result<Step, Diagnostic> {
    let selector = item.entries().iter().find(|entry| entry.key != DIRECTIVE);
    match selector.map(|entry| (&entry.key, entry.value.text())) {
        Some((key, Some(spelled))) => Ok(Step::First { key: key.clone(), spelled: spelled.to_owned() }),
        _ => {
            let message = "cannot delete this element: it needs a key with a scalar value that selects it";
            Err(located(item.at.as_ref(), message.to_owned()))
        }
    }
}

pub(super) fn located(at: Option<&Location>, message: String) -> Diagnostic {
    match at {
        Some(at) => Diagnostic::at_location(at.clone(), message),
        None => Diagnostic::general(message),
    }
}

fn display(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(key) if path.is_empty() => path.push_str(key),
            Step::Key(key) => path.push_str(&format!(".{key}")),
            Step::Element(_) => path.push_str("[]"),
            Step::First { key, spelled } => path.push_str(&format!("[{key}: {spelled}]")),
        }
    }
    path
}

impl Deletion {
    /// Applies the deletion to a typed document.
    ///
    /// # Errors
    ///
    /// The document does not have the field or element.
    pub(super) fn apply(&self, title: &str, document: &mut Value) -> Result<(), Diagnostic> {
        let kind = schema().kind(document.get("kind").and_then(Value::as_str));
        let done = match (kind, document) {
            (Some(kind), Value::Object(map)) => from_fields(&kind.body, map, &self.steps),
            (_, document) => from_value(&Type::Free, document, &self.steps),
        };
        done.ok_or_else(|| {
            let target = if title.is_empty() { "the config" } else { title };
            located(self.at.as_ref(), format!("cannot delete `{}`: not found in {target}", display(&self.steps)))
        })
    }
}

fn from_fields(body: &Struct, map: &mut Map<String, Value>, steps: &[Step]) -> Option<()> {
    let (Step::Key(key), rest) = steps.split_first()? else { return None };
    let field = body.field(key)?;
    if rest.is_empty() {
        // A field of the schema always exists, so deleting an unset one is not an error.
        map.shift_remove(key);
        return Some(());
    }
    match (map.get_mut(key), &field.value_type) {
        (Some(value), value_type) => from_value(value_type, value, rest),
        (None, Type::Struct(index)) => from_fields(schema().struct_type(*index), &mut Map::new(), rest),
        (None, _) => None,
    }
}

fn from_value(value_type: &Type, value: &mut Value, steps: &[Step]) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    match (value_type, value, step) {
        (Type::Optional(value_type), value, _) => from_value(value_type, value, steps),
        (Type::Struct(index), Value::Object(map), _) => from_fields(schema().struct_type(*index), map, steps),
        (Type::Map(_) | Type::Arguments | Type::Free, Value::Object(map), Step::Key(key)) => {
            let inner = if let Type::Map(value_type) = value_type { value_type } else { &Type::Free };
            match rest {
                [] => map.shift_remove(key).map(drop),
                rest => from_value(inner, map.get_mut(key)?, rest),
            }
        }
        (Type::List(value_type, _), Value::Array(items), Step::First { key, spelled }) => {
            let index = items.iter().position(|item| has(value_type, item, key, spelled))?;
            items.remove(index);
            Some(())
        }
        (Type::List(value_type, ListRule::MergeBy(keys)), Value::Array(items), Step::Element(element)) => {
            let index = twin(value_type, items, element, keys)?;
            from_value(value_type, &mut items[index], rest)
        }
        _ => None,
    }
}

/// Whether an element of a typed list has a key with this spelling. Free-form elements never match.
fn has(value_type: &Type, item: &Value, key: &str, spelled: &str) -> bool {
    let value_type = if let Type::Optional(value_type) = value_type { value_type } else { value_type };
    let Type::Struct(index) = value_type else { return false };
    let Some(field) = schema().struct_type(*index).field(key) else { return false };
    match item.get(key) {
        Some(Value::String(text)) => text == spelled,
        Some(Value::Number(number)) => number.to_string() == spelled,
        Some(Value::Bool(value)) => value.to_string() == spelled,
        Some(_) => false,
        None => spelled.is_empty() && matches!(field.value_type, Type::Scalar(_)),
    }
}
