//! Reads a mapping key by key and reports unknown keys.

use std::collections::BTreeSet;

use super::{Diagnostic, Diagnostics, Location, Mapping, Node, Origin, Position, Value, near};

/// A mapping that is being read. Every accessor marks its key as known; [`Fields::finish`] reports the rest.
///
/// A value of the wrong type is reported and treated as absent, so that all mistakes are found at once.
#[derive(Debug)]
pub struct Fields<'n> {
    origin: &'n Origin,
    /// The mapping's name in messages: `release "cilium"`.
    what: String,
    at: Position,
    mapping: Option<&'n Mapping>,
    known: BTreeSet<&'static str>,
}

impl<'n> Fields<'n> {
    /// Reads `node`, which must be a mapping or null (an empty mapping).
    pub fn from_node(origin: &'n Origin, node: &'n Node, what: impl Into<String>, found: &mut Diagnostics) -> Self {
        let what = what.into();
        let mapping = match &node.value {
            Value::Mapping(mapping) => Some(mapping),
            Value::Null => None,
            other => {
                found.error(origin.location(node.at), format!("{what} must be a mapping, not {}", other.kind()));
                None
            }
        };
        Self { origin, what, at: node.at, mapping, known: BTreeSet::new() }
    }

    /// The location of the mapping.
    pub fn location(&self) -> Location {
        self.origin.location(self.at)
    }

    /// The location of `key`, if it is present.
    pub fn key_location(&self, key: &str) -> Option<Location> {
        let entry = self.mapping?.iter().find(|entry| entry.key == key)?;
        Some(self.origin.location(entry.key_at))
    }

    /// The value of `key`; an explicit null counts as absent.
    pub fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.insert(key);
        self.mapping?.get(key).filter(|node| !node.is_null())
    }

    pub fn string(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<String> {
        let node = self.get(key)?;
        match &node.value {
            Value::String(text) => Some(text.clone()),
            other => self.mismatch(node, key, "a string", other, found),
        }
    }

    /// A string that may be written as a number: a version `1.35`, a port.
    pub fn string_or_number(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<String> {
        let node = self.get(key)?;
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            other => self.mismatch(node, key, "a string", other, found),
        }
    }

    /// Like [`Fields::string`], but a missing key is an error.
    pub fn required_string(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<String> {
        if self.get(key).is_none() {
            found.error(self.location(), format!("{} has no `{key}`", self.what));
        }
        self.string(key, found)
    }

    pub fn bool(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<bool> {
        let node = self.get(key)?;
        match &node.value {
            Value::Bool(value) => Some(*value),
            other => self.mismatch(node, key, "true or false", other, found),
        }
    }

    pub fn integer(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<i64> {
        let node = self.get(key)?;
        match &node.value {
            Value::Int(value) => Some(*value),
            other => self.mismatch(node, key, "an integer", other, found),
        }
    }

    /// The items of a list; empty when absent.
    pub fn list(&mut self, key: &'static str, found: &mut Diagnostics) -> &'n [Node] {
        let Some(node) = self.get(key) else { return &[] };
        match &node.value {
            Value::Sequence(items) => items,
            other => self.mismatch(node, key, "a list", other, found).unwrap_or(&[]),
        }
    }

    /// The strings of a list; empty when absent.
    pub fn strings(&mut self, key: &'static str, found: &mut Diagnostics) -> Vec<String> {
        let mut texts = Vec::new();
        for item in self.list(key, found) {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => found.error(
                    self.origin.location(item.at),
                    format!("items of `{key}` of {} must be strings, not {}", self.what, item.value.kind()),
                ),
            }
        }
        texts
    }

    /// Reports every key that was not read.
    pub fn finish(self, found: &mut Diagnostics) {
        let Some(mapping) = self.mapping else { return };
        for entry in mapping.iter().filter(|entry| !self.known.contains(entry.key.as_str())) {
            let message = format!("{} has an unknown key `{}`", self.what, entry.key);
            let near = near(&entry.key, self.known.iter().copied());
            found.push(Diagnostic::at_location(self.origin.location(entry.key_at), message).did_you_mean(near));
        }
    }

    fn mismatch<T>(&self, node: &Node, key: &str, want: &str, got: &Value, found: &mut Diagnostics) -> Option<T> {
        found.error(
            self.origin.location(node.at),
            format!("`{key}` of {} must be {want}, not {}", self.what, got.kind()),
        );
        None
    }
}
