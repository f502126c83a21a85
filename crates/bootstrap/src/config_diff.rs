//! How a machine config differs from the one that a node runs. The diff holds secrets until the redactor masks them.

use secrecy::SecretString;
use secrets::Redactor;
use serde_json::{Map, Value};
use talos_schema::{Documents, parse_documents};
use yaml::Origin;

/// Fields of machine configs that hold secrets, whatever document they are in.
const SECRET_FIELDS: [&str; 12] = [
    "aescbcEncryptionSecret",
    "apiToken",
    "auth",
    "identityToken",
    "key",
    "passphrase",
    "password",
    "presharedKey",
    "privateKey",
    "secret",
    "secretboxEncryptionSecret",
    "token",
];

/// Teaches the redactor the secrets of a config.
pub(crate) fn learn_secrets(redactor: &Redactor, documents: &Documents) {
    documents.0.iter().for_each(|document| learn_value(redactor, document));
}

fn learn_value(redactor: &Redactor, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if SECRET_FIELDS.contains(&key.as_str()) => {
                        redactor.learn(&SecretString::from(text.as_str()));
                    }
                    other => learn_value(redactor, other),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| learn_value(redactor, item)),
        _ => {}
    }
}

/// A unified diff from the running to the rendered config, empty if they are equal. Keys are sorted and documents matched by
/// kind and name.
pub(crate) fn config_diff(hostname: &str, running: &Documents, ours: &Documents) -> String {
    let ours = parse_documents(&Origin::new("<rendered>"), &ours.to_yaml()).unwrap_or_else(|_| ours.clone());
    let (before, after) = (comparable(running), comparable(&ours));
    let diff = similar::TextDiff::from_lines(&before, &after);
    if before == after {
        return String::new();
    }
    let (from, to) = (format!("{hostname} (running)"), format!("{hostname} (rendered)"));
    diff.unified_diff().context_radius(3).header(&from, &to).to_string()
}

fn comparable(documents: &Documents) -> String {
    let mut documents: Vec<Value> = documents.0.iter().map(sorted).collect();
    let name = |document: &Value| {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("kind"), text("name"))
    };
    documents.sort_by_key(name);
    let texts: Vec<String> = documents.iter().map(|document| yaml::to_string(document).unwrap_or_default()).collect();
    texts.join("---\n")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
