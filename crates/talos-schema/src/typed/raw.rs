//! A document before typing: each scalar with its resolved value and its spelling.
//!
//! The schema type decides which one is used: `010` is eight in a free-form value and the string `010` in a string field.

use serde_json::Value;

use yaml::{Diagnostic, Dialect, Location, Node, Origin};

#[derive(Debug, Clone)]
pub(crate) struct RawValue {
    /// The location, when it was parsed from a text.
    pub at: Option<Location>,
    pub content: RawContent,
}

#[derive(Debug, Clone)]
pub(crate) enum RawContent {
    Null,
    Scalar { resolved: Value, spelled: String },
    List(Vec<RawValue>),
    Map(Vec<RawEntry>),
}

#[derive(Debug, Clone)]
pub(crate) struct RawEntry {
    pub key: String,
    pub at: Option<Location>,
    pub value: RawValue,
}

impl RawValue {
    /// Parses all documents of a text that are not empty.
    ///
    /// # Errors
    ///
    /// The first YAML syntax error.
    pub(crate) fn parse(origin: &Origin, text: &str) -> Result<Vec<Self>, Diagnostic> {
        let resolved = yaml::parse_as(origin, text, Dialect::Typed)?;
        let spelled = yaml::parse_as(origin, text, Dialect::Verbatim)?;
        let documents = resolved.iter().zip(&spelled).filter(|(node, _)| !node.is_null());
        Ok(documents.map(|(resolved, spelled)| Self::of_nodes(origin, resolved, spelled)).collect())
    }

    /// Both parses have the same structure; they differ only in plain scalars.
    fn of_nodes(origin: &Origin, resolved: &Node, spelled: &Node) -> Self {
        let content = match (&resolved.value, &spelled.value) {
            (yaml::Value::Null, _) => RawContent::Null,
            (yaml::Value::Sequence(resolved), yaml::Value::Sequence(spelled)) => RawContent::List(
                resolved
                    .iter()
                    .zip(spelled)
                    .map(|(resolved, spelled)| Self::of_nodes(origin, resolved, spelled))
                    .collect(),
            ),
            (yaml::Value::Mapping(resolved), yaml::Value::Mapping(spelled)) => RawContent::Map(
                resolved
                    .iter()
                    .zip(spelled.iter())
                    .map(|(resolved, spelled)| RawEntry {
                        key: resolved.key.clone(),
                        at: Some(origin.location(resolved.key_at)),
                        value: Self::of_nodes(origin, &resolved.value, &spelled.value),
                    })
                    .collect(),
            ),
            _ => RawContent::Scalar {
                resolved: resolved.to_json(),
                spelled: spelled.as_str().unwrap_or_default().to_owned(),
            },
        };
        Self { at: Some(origin.location(resolved.at)), content }
    }

    /// The resolved data.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            RawContent::Null => Value::Null,
            RawContent::Scalar { resolved, .. } => resolved.clone(),
            RawContent::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            RawContent::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }

    pub(crate) fn entries(&self) -> &[RawEntry] {
        match &self.content {
            RawContent::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The spelling of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            RawContent::Scalar { spelled, .. } => Some(spelled),
            _ => None,
        }
    }

    /// A description for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.content {
            RawContent::Null => "null".to_owned(),
            RawContent::List(_) => "a list".to_owned(),
            RawContent::Map(_) => "a mapping".to_owned(),
            RawContent::Scalar { resolved, spelled } => {
                let kind = match resolved {
                    Value::Bool(_) => "the boolean",
                    Value::Number(_) => "the number",
                    _ => "the string",
                };
                // A long string may be a secret.
                let shown = spelled.len() <= 40 && !spelled.contains('\n');
                if shown { format!("{kind} `{spelled}`") } else { kind.replacen("the", "a", 1) }
            }
        }
    }
}

impl From<&Value> for RawValue {
    fn from(value: &Value) -> Self {
        let content = match value {
            Value::Null => RawContent::Null,
            Value::Array(items) => RawContent::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => RawContent::Map(
                map.iter()
                    .map(|(key, value)| RawEntry { key: key.clone(), at: None, value: Self::from(value) })
                    .collect(),
            ),
            Value::String(text) => RawContent::Scalar { resolved: value.clone(), spelled: text.clone() },
            other => RawContent::Scalar { resolved: other.clone(), spelled: other.to_string() },
        };
        Self { at: None, content }
    }
}
