//! Reads scalars and lists of them, as go-yaml does into typed fields.

use std::collections::BTreeMap;

use super::super::state::{Text, Values};
use super::super::values;
use super::Reader;
use yaml::{Fields, Node, Position, Value};

/// What go-yaml accepts for a boolean besides `true` and `false` (YAML 1.1).
const OLD_TRUE: [&str; 8] = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"];
const OLD_FALSE: [&str; 8] = ["n", "N", "no", "No", "NO", "off", "Off", "OFF"];

/// The value of a boolean field.
pub(in super::super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if OLD_TRUE.contains(&text.as_str()) => Some(true),
        Value::String(text) if OLD_FALSE.contains(&text.as_str()) => Some(false),
        _ => None,
    }
}

impl Reader<'_> {
    /// A string as written: go-yaml reads any scalar into a string field.
    pub(super) fn text(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Option<Text> {
        let node = fields.get(key)?;
        let text = self.scalar(node);
        if text.is_none() {
            self.error(node, format!("`{key}` of {what} must be a string, not {}", node.value.kind()));
        }
        text
    }

    /// A string that is not a template; `None` if it is empty.
    pub(super) fn word(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Option<String> {
        self.text(fields, key, what).map(|text| text.raw).filter(|text| !text.is_empty())
    }

    pub(super) fn texts(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Vec<Text> {
        let mut texts = vec![];
        for node in fields.list(key, self.found) {
            match self.scalar(node) {
                Some(text) => texts.push(text),
                // helmfile skips null arguments.
                None if key == "args" && node.is_null() => {}
                None => {
                    self.error(node, format!("items of `{key}` of {what} must be strings, not {}", node.value.kind()));
                }
            }
        }
        texts
    }

    pub(super) fn words(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Vec<String> {
        self.texts(fields, key, what).into_iter().map(|text| text.raw).collect()
    }

    pub(super) fn scalar(&self, node: &Node) -> Option<Text> {
        let text = match &node.value {
            Value::Sequence(_) | Value::Mapping(_) | Value::Null => return None,
            _ => self.written.get(&node.at)?.clone(),
        };
        let (position, indent) = self.content(node.at);
        Some(Text { raw: text, at: self.origin.location(position), indent })
    }

    /// The position of a scalar's content, after its quote or below its `|`, and its indentation.
    fn content(&self, at: Position) -> (Position, usize) {
        let line = |number: usize| self.lines.get(number.wrapping_sub(1)).copied().unwrap_or_default();
        match line(at.line).chars().nth(at.column.saturating_sub(1)) {
            Some('"' | '\'') => (Position { column: at.column + 1, ..at }, 0),
            Some('|' | '>') => {
                let next = line(at.line + 1);
                let indent = next.len() - next.trim_start_matches(' ').len();
                (Position { line: at.line + 1, column: indent + 1 }, indent)
            }
            _ => (at, 0),
        }
    }

    pub(super) fn switch(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> Option<bool> {
        let node = fields.get(key)?;
        let value = truth(&node.value);
        if value.is_none() {
            self.error(node, format!("`{key}` of {what} must be true or false, not {}", node.value.kind()));
        }
        value
    }

    /// A list of paths and mappings.
    pub(super) fn values(&mut self, fields: &mut Fields<'_>, key: &'static str) -> Vec<Values> {
        let mut found = vec![];
        for node in fields.list(key, self.found) {
            let at = self.origin.location(node.at);
            match &node.value {
                Value::Mapping(_) => match values::finite(node) {
                    Ok(()) => found.push(Values::Inline(node.to_json(), at)),
                    Err(bad) => self.error(bad, values::NOT_FINITE),
                },
                Value::String(_) => found.extend(self.scalar(node).map(Values::Path)),
                other => found.push(Values::Other(other.kind(), at)),
            }
        }
        found
    }

    pub(super) fn labels(&mut self, fields: &mut Fields<'_>, key: &'static str, what: &str) -> BTreeMap<String, Text> {
        let Some(node) = fields.get(key) else { return BTreeMap::new() };
        let Some(mapping) = self.mapping(node, &format!("`{key}` of {what}")) else { return BTreeMap::new() };
        mapping.iter().filter_map(|entry| Some((entry.key.clone(), self.scalar(&entry.value)?))).collect()
    }
}
