//! A machine config as a list of documents.

use serde_json::{Map, Value, json};

use super::container::conflict;
use super::typed;
use super::typed::{RawContent, RawValue, UnknownKinds};
use yaml::{Diagnostic, Diagnostics, Origin};

/// The documents of a machine config, the legacy one (`version: v1alpha1`) first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Documents(pub Vec<Value>);

impl Documents {
    /// The legacy document (`version: v1alpha1`), if there is one.
    pub fn legacy(&self) -> Option<&Value> {
        self.0.iter().find(|document| is_legacy(document))
    }

    pub fn legacy_mut(&mut self) -> &mut Value {
        if let Some(index) = self.0.iter().position(is_legacy) {
            return &mut self.0[index];
        }
        self.0.insert(0, json!({}));
        &mut self.0[0]
    }

    /// The whole config as YAML text.
    pub fn to_yaml(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(|document| yaml::to_string(document).unwrap_or_default()).collect();
        texts.join("---\n")
    }
}

/// Parses a machine config or a patch; empty documents are dropped.
///
/// The content is not validated: invalid values and unknown kinds stay unchanged.
///
/// # Errors
///
/// The text is invalid YAML, or a document is not a mapping.
pub fn parse_documents(origin: &Origin, text: &str) -> Result<Documents, Diagnostic> {
    let mut documents = Vec::new();
    for written in RawValue::parse(origin, text)? {
        if !matches!(written.content, RawContent::Map(_)) {
            let message = format!("a machine config document must be a mapping, this is {}", written.describe());
            return Err(written
                .at
                .map_or_else(|| Diagnostic::general(&message), |at| Diagnostic::at_location(at, &message)));
        }
        documents.push(typed::document(&written, UnknownKinds::Pass, &mut Diagnostics::default()));
    }
    Ok(Documents(documents))
}

/// Parses a machine config as strictly as Talos does.
///
/// # Errors
///
/// Everything that Talos rejects: unknown fields and kinds, wrong types, conflicting documents.
pub fn parse_strictly(origin: &Origin, text: &str) -> Result<Documents, Diagnostics> {
    let mut found = Diagnostics::default();
    let written = RawValue::parse(origin, text)?;
    let documents: Vec<Value> =
        written.iter().map(|written| typed::document(written, UnknownKinds::Reject, &mut found)).collect();
    if documents.is_empty() {
        found.push(Diagnostic::general(format!("{origin} has no documents")));
    }
    if found.is_empty()
        && let Some(conflict) = conflict(&documents)
    {
        found.push(Diagnostic::general(format!("{origin}: {conflict}")));
    }
    found.into_result(Documents(documents))
}

pub fn is_legacy(document: &Value) -> bool {
    document.get("kind").is_none() && document.get("apiVersion").is_none()
}

/// Sets the value at a path and creates missing mappings.
pub fn put(document: &mut Value, path: &[&str], value: Value) {
    let mut current = document;
    let Some((last, parents)) = path.split_last() else { return };
    for key in parents {
        if !current.is_object() {
            *current = Value::Object(Map::new());
        }
        current = &mut current[*key];
    }
    if !current.is_object() {
        *current = Value::Object(Map::new());
    }
    current[*last] = value;
}
