//! A machine config as a list of documents.

use serde_json::{Map, Value, json};

use crate::yaml::{self, Diagnostic, Origin};

/// The documents of a machine config, the legacy one (`version: v1alpha1`) first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Documents(pub Vec<Value>);

/// What tells documents apart; the legacy document has neither kind nor API version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    api_version: String,
    kind: String,
    name: String,
}

impl Documents {
    /// The document that `version: v1alpha1` begins, if there is one.
    pub fn legacy(&self) -> Option<&Value> {
        self.0.iter().find(|document| is_legacy(document))
    }

    pub(super) fn legacy_mut(&mut self) -> &mut Value {
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

/// Reads a machine config or a patch; empty documents are dropped.
///
/// # Errors
///
/// Text that is no YAML, or a document that is no mapping.
pub fn parse_documents(origin: &Origin, text: &str) -> Result<Documents, Diagnostic> {
    let mut documents = Vec::new();
    for node in yaml::parse(origin, text)? {
        if node.is_null() {
            continue;
        }
        if node.as_mapping().is_none() {
            return Err(Diagnostic::at(
                origin.at(node.at),
                format!("a machine config document is a mapping, this is {}", node.value.kind()),
            ));
        }
        documents.push(node.to_json());
    }
    Ok(Documents(documents))
}

pub(in crate::talos::config) fn is_legacy(document: &Value) -> bool {
    document.get("kind").is_none() && document.get("apiVersion").is_none()
}

pub(in crate::talos::config) fn identity(document: &Value) -> Identity {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Identity { api_version: text("apiVersion"), kind: text("kind"), name: text("name") }
}

/// Puts a value below a path, making the mappings on the way.
pub(in crate::talos::config) fn put(document: &mut Value, path: &[&str], value: Value) {
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
