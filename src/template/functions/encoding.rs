//! YAML, JSON, base64, hashes.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Call, Entry, Failure, Outcome, string};
use crate::yaml::{self, Dialect, Origin};

pub(super) const TABLE: &[Entry] = &[
    ("b64dec", 1, 1, b64dec),
    ("b64enc", 1, 1, |_, a| Ok(Value::from(BASE64_STANDARD.encode(string(a, 0)?)))),
    ("fromJson", 1, 1, from_json),
    ("fromYaml", 1, 1, from_yaml),
    ("mustFromJson", 1, 1, from_json),
    ("mustToJson", 1, 1, |_, a| json(&sorted(&a[0]), false)),
    ("sha256sum", 1, 1, |_, a| Ok(Value::from(sha256(string(a, 0)?)))),
    ("toJson", 1, 1, |_, a| json(&sorted(&a[0]), false)),
    ("toPrettyJson", 1, 1, |_, a| json(&sorted(&a[0]), true)),
    ("toRawJson", 1, 1, |_, a| json(&sorted(&a[0]), false)),
    ("toYaml", 1, 1, to_yaml),
];

fn b64dec(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let bytes = BASE64_STANDARD.decode(string(arguments, 0)?).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map(Value::from).map_err(|_| Failure::new("what is encoded is no text"))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_json(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    serde_json::from_str(string(arguments, 0)?).map_err(|error| Failure::new(format!("this is no JSON: {error}")))
}

/// Go prints maps in the order of their keys.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn json(value: &Value, pretty: bool) -> Outcome {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map(Value::from).map_err(|error| Failure::new(error.to_string()))
}

/// The first document, as helmfile reads it. A number that YAML cannot tell from text stays what it looks like: `1.10`
/// is 1.1.
fn from_yaml(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0)?;
    let origin = call.functions.origin_of(text);
    let name = origin.clone().unwrap_or_else(|| Origin::new("<text>"));
    let documents = yaml::parse_as(&name, text, Dialect::Untyped).map_err(|diagnostic| {
        let location = diagnostic.location.filter(|_| origin.is_some());
        Failure { message: diagnostic.message, hint: diagnostic.hint, location }
    })?;
    Ok(documents.first().map(yaml::Node::to_json).unwrap_or_default())
}

fn to_yaml(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let text = yaml::to_string(&sorted(&arguments[0])).map_err(|error| error.to_string())?;
    Ok(Value::from(text))
}
