//! Masks secret values in everything that is printed or written.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use yaml::Origin;

/// Shorter values would hide ordinary words.
const SHORTEST: usize = 6;
const MASK: &str = "******";

/// Knows the secret values of a run and replaces them, plain or base64, in any text. Clones share what they know.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<SecretString>>>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Learns a value. Each line of a longer text is hidden by itself, since lines are what gets printed.
    pub fn learn(&self, value: &SecretString) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let text = value.expose_secret();
        let encoded = STANDARD.encode(text);
        for part in text.lines().map(str::trim).chain([encoded.as_str()]) {
            let boundary = part.starts_with("-----");
            if part.len() >= SHORTEST && !boundary {
                known.push(part.to_owned().into());
            }
        }
        known.sort_by_key(|value| std::cmp::Reverse(value.expose_secret().len()));
        known.dedup_by(|a, b| a.expose_secret() == b.expose_secret());
    }

    /// Learns every value of a Secret, or of the Secrets in a list.
    pub fn learn_manifest(&self, manifest: &Value) {
        for item in manifest.get("items").and_then(Value::as_array).into_iter().flatten() {
            self.learn_manifest(item);
        }
        if manifest.get("kind").and_then(Value::as_str) != Some("Secret") {
            return;
        }
        let values = |field: &str| {
            let values = manifest.get(field).and_then(Value::as_object);
            let mut found = Vec::new();
            values.into_iter().flat_map(|values| values.values()).for_each(|value| leaves(value, &mut found));
            found
        };
        for text in values("stringData") {
            self.learn(&text.into());
        }
        for encoded in values("data") {
            // Binary values can only be printed encoded.
            let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            self.learn(&decoded.unwrap_or(encoded).into());
        }
    }

    /// Learns whatever differs between a document with placeholders and the same with its secrets.
    pub fn learn_filled(&self, placeholders: &str, filled: &str) {
        let origin = Origin::new("<filled>");
        let read = |text: &str| yaml::parse(&origin, text).unwrap_or_default();
        for (before, after) in read(placeholders).iter().zip(&read(filled)) {
            self.learn_changed(&before.to_json(), &after.to_json());
        }
    }

    fn learn_changed(&self, before: &Value, after: &Value) {
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => {
                for (key, after) in after {
                    self.learn_changed(before.get(key).unwrap_or(&Value::Null), after);
                }
            }
            (Value::Array(before), Value::Array(after)) => {
                before.iter().zip(after).for_each(|(before, after)| self.learn_changed(before, after));
            }
            _ if before != after => {
                let mut found = Vec::new();
                leaves(after, &mut found);
                found.into_iter().for_each(|text| self.learn(&text.into()));
            }
            _ => {}
        }
    }

    /// The text without any value that was learnt.
    pub fn redact(&self, text: &str) -> String {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(ExposeSecret::expose_secret)
            .fold(text.to_owned(), |text, value| if text.contains(value) { text.replace(value, MASK) } else { text })
    }
}

/// Every scalar of a value, as text: a secret without quotes may be parsed as a number and is a secret all the same.
fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(map) => map.values().for_each(|value| leaves(value, found)),
        Value::Number(number) => found.push(number.to_string()),
        Value::Bool(_) | Value::Null => {}
    }
}
