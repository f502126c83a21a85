//! Reads one YAML document of a state file to a [`State`].
//!
//! Every key of helmfile 1.7 is either read or rejected by name; keys that only affect helmfile commands without a
//! counterpart here are ignored.

mod document;
mod environments;
mod hooks;
mod release;
mod repository;
mod scalars;
mod settings;

use std::collections::HashMap;

use super::state::{State, Text};
use yaml::{Diagnostic, Diagnostics, Dialect, Fields, Location, Node, Origin, Position, Value};

pub(super) use hooks::name as event_name;
pub(super) use scalars::truth;

/// The content of a document, and the bases that it names.
pub(super) struct Document {
    pub(super) bases: Vec<Text>,
    pub(super) state: State,
}

struct Reader<'r> {
    origin: &'r Origin,
    lines: Vec<&'r str>,
    /// Scalars as written: `1.10` is a version, not a number.
    written: HashMap<Position, String>,
    found: &'r mut Diagnostics,
}

/// Reads every document of one part of a state file.
pub(super) fn documents(origin: &Origin, text: &str, found: &mut Diagnostics) -> Result<Vec<Document>, Diagnostic> {
    let nodes = yaml::parse_as(origin, text, Dialect::Untyped)?;
    let mut written = HashMap::new();
    for node in &yaml::parse_as(origin, text, Dialect::Verbatim)? {
        collect(node, &mut written);
    }
    let mut reader = Reader { origin, lines: text.lines().collect(), written, found };
    Ok(nodes.iter().filter(|node| !node.is_null()).map(|node| reader.document(node)).collect())
}

fn collect(node: &Node, written: &mut HashMap<Position, String>) {
    match &node.value {
        Value::String(text) => {
            written.insert(node.at, text.clone());
        }
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, written)),
        Value::Mapping(mapping) => mapping.iter().for_each(|entry| collect(&entry.value, written)),
        _ => {}
    }
}

impl Reader<'_> {
    fn at(&self, node: &Node) -> Location {
        self.origin.location(node.at)
    }

    fn error(&mut self, node: &Node, message: impl Into<String>) {
        self.found.error(self.origin.location(node.at), message);
    }

    fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n yaml::Mapping> {
        let mapping = node.as_mapping();
        if mapping.is_none() && !node.is_null() {
            self.error(node, format!("{what} must be a mapping, not {}", node.value.kind()));
        }
        mapping
    }

    /// Rejects keys by name.
    fn unsupported(&mut self, fields: &mut Fields<'_>, keys: &'static str, what: &str) {
        for key in keys.split_whitespace() {
            if fields.get(key).is_some() {
                let at = fields.key_location(key).unwrap_or_else(|| fields.location());
                let message = format!("`{key}` of {what} is not supported by k8s-bootstrap");
                self.found.error(at, message);
            }
        }
    }

    /// Rejects switches by name if they are on.
    fn unsupported_switches(&mut self, fields: &mut Fields<'_>, keys: &'static str, what: &str) {
        for key in keys.split_whitespace() {
            if self.switch(fields, key, what) == Some(true) {
                self.unsupported(fields, key, what);
            }
        }
    }

    /// Ignores keys that do not affect an installation.
    fn without_effect(fields: &mut Fields<'_>, keys: &'static str) {
        for key in keys.split_whitespace() {
            fields.get(key);
        }
    }
}
