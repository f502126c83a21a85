//! `$patch: delete`: what a patch takes away, found and taken out of it before the rest merges.
//!
//! Talos (`configloader/internal/decoder`) deletes documents, fields, keys of maps, and elements of lists by the first
//! key that stands beside the directive. It finds elements only in lists that lie in no other list, and only by text;
//! here elements of a list whose elements merge by a key are found at any depth and by any scalar.

use serde_json::{Map, Value};

use super::super::merge::twin;
use super::super::schema::{ListRule, Struct, Type, schema};
use super::super::typed::{Content, DIRECTIVE, Entry, Written};
use yaml::{Diagnostic, Location};

/// One thing to take away from a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deletion {
    pub(super) at: Option<Location>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    /// The element of a list that the patch's element stands for.
    Element(Value),
    /// The first element of a list that has this key with this spelling.
    First {
        key: String,
        spelled: String,
    },
}

/// What is left of a document once its deletions are taken out.
pub(super) enum Rest {
    /// The directive stood on the document itself.
    Document,
    Nothing,
    Written(Written),
}

/// Takes every deletion out of a document, in the order in which they stand.
///
/// # Errors
///
/// A deletion that Talos cannot carry out wherever it is applied.
pub(super) fn extract(mut written: Written) -> Result<(Rest, Vec<Deletion>), Diagnostic> {
    if is_deleted(&written) {
        return Ok((Rest::Document, vec![]));
    }
    let mut found = Vec::new();
    let emptied = take(&mut written, &mut Vec::new(), &mut found)?;
    let scalar = |entry: &Entry| matches!(entry.value.content, Content::Scalar { .. });
    let label = |entry: &Entry| scalar(entry) && matches!(entry.key.as_str(), "version" | "kind" | "name");
    let nothing = emptied || (!found.is_empty() && written.entries().iter().all(label));
    Ok((if nothing { Rest::Nothing } else { Rest::Written(written) }, found))
}

/// Whether the directive stands on the document itself.
pub(super) fn is_deleted(written: &Written) -> bool {
    directive(written.entries()).is_some()
}

fn directive(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().find(|entry| entry.key == DIRECTIVE && entry.value.text() == Some("delete"))
}

/// Whether nothing is left of the value.
fn take(written: &mut Written, steps: &mut Vec<Step>, found: &mut Vec<Deletion>) -> Result<bool, Diagnostic> {
    match &mut written.content {
        Content::Map(entries) => {
            let mut took = false;
            let mut index = 0;
            while let Some(entry) = entries.get_mut(index) {
                steps.push(Step::Key(entry.key.clone()));
                let gone = match directive(entry.value.entries()) {
                    Some(directive) => {
                        refuse_inside_a_list(steps, directive)?;
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
        Content::List(items) => {
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
        Content::Null | Content::Scalar { .. } => Ok(false),
    }
}

fn refuse_inside_a_list(steps: &[Step], directive: &Entry) -> Result<(), Diagnostic> {
    if steps.iter().all(|step| matches!(step, Step::Key(_))) {
        return Ok(());
    }
    let message = format!("`{}` lies in an element of a list, from which Talos deletes nothing", display(steps));
    Err(located(directive.at.as_ref(), message).with_hint("delete the whole element and add it again"))
}

fn first_key(item: &Written) -> Result<Step, Diagnostic> {
    let selector = item.entries().iter().find(|entry| entry.key != DIRECTIVE);
    match selector.map(|entry| (&entry.key, entry.value.text())) {
        Some((key, Some(spelled))) => Ok(Step::First { key: key.clone(), spelled: spelled.to_owned() }),
        _ => {
            let message = "this element to delete has no key with a text that would select it";
            Err(located(item.at.as_ref(), message.to_owned()))
        }
    }
}

pub(super) fn located(at: Option<&Location>, message: String) -> Diagnostic {
    match at {
        Some(at) => Diagnostic::at(at.clone(), message),
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
    /// Takes it away from a document that was read by its types.
    ///
    /// # Errors
    ///
    /// When the document does not have it.
    pub(super) fn apply(&self, title: &str, document: &mut Value) -> Result<(), Diagnostic> {
        let kind = schema().kind(document.get("kind").and_then(Value::as_str));
        let done = match (kind, document) {
            (Some(kind), Value::Object(map)) => from_fields(&kind.body, map, &self.steps),
            (_, document) => from_value(&Type::Free, document, &self.steps),
        };
        done.ok_or_else(|| {
            let whose = if title.is_empty() { "the config".to_owned() } else { title.to_owned() };
            located(self.at.as_ref(), format!("there is no `{}` in {whose} to delete", display(&self.steps)))
        })
    }
}

fn from_fields(body: &Struct, map: &mut Map<String, Value>, steps: &[Step]) -> Option<()> {
    let (Step::Key(key), rest) = steps.split_first()? else { return None };
    let field = body.field(key)?;
    if rest.is_empty() {
        // A field that exists is deleted by being empty, so there is nothing to miss.
        map.shift_remove(key);
        return Some(());
    }
    match (map.get_mut(key), &field.of) {
        (Some(value), of) => from_value(of, value, rest),
        (None, Type::Struct(index)) => from_fields(schema().of(*index), &mut Map::new(), rest),
        (None, _) => None,
    }
}

fn from_value(of: &Type, value: &mut Value, steps: &[Step]) -> Option<()> {
    let (step, rest) = steps.split_first()?;
    match (of, value, step) {
        (Type::Optional(of), value, _) => from_value(of, value, steps),
        (Type::Struct(index), Value::Object(map), _) => from_fields(schema().of(*index), map, steps),
        (Type::Map(_) | Type::Arguments | Type::Free, Value::Object(map), Step::Key(key)) => {
            let inner = if let Type::Map(of) = of { of } else { &Type::Free };
            match rest {
                [] => map.shift_remove(key).map(drop),
                rest => from_value(inner, map.get_mut(key)?, rest),
            }
        }
        (Type::List(of, _), Value::Array(items), Step::First { key, spelled }) => {
            let index = items.iter().position(|item| has(of, item, key, spelled))?;
            items.remove(index);
            Some(())
        }
        (Type::List(of, ListRule::MergeBy(keys)), Value::Array(items), Step::Element(element)) => {
            let index = twin(of, items, element, keys)?;
            from_value(of, &mut items[index], rest)
        }
        _ => None,
    }
}

/// Whether an element of a typed list has a key with a spelling. Free-form elements have none.
fn has(of: &Type, item: &Value, key: &str, spelled: &str) -> bool {
    let of = if let Type::Optional(of) = of { of } else { of };
    let Type::Struct(index) = of else { return false };
    let Some(field) = schema().of(*index).field(key) else { return false };
    match item.get(key) {
        Some(Value::String(text)) => text == spelled,
        Some(Value::Number(number)) => number.to_string() == spelled,
        Some(Value::Bool(value)) => value.to_string() == spelled,
        Some(_) => false,
        None => spelled.is_empty() && matches!(field.of, Type::Scalar(_)),
    }
}
