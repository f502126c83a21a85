//! YAML, JSON, base64, hashes.

use std::cmp::Ordering;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use super::{Call, Entry, Failure, Outcome, string};
use yaml::{Dialect, Origin};

pub(super) const TABLE: &[Entry] = &[
    ("adler32sum", 1, 1, |_, a| Ok(Value::from(adler32(string(a, 0)?).to_string()))),
    ("b64dec", 1, 1, b64dec),
    ("b64enc", 1, 1, |_, a| Ok(Value::from(BASE64_STANDARD.encode(string(a, 0)?)))),
    ("fromJson", 1, 1, |call, a| Ok(from_json(call, a).unwrap_or_default())),
    ("fromYaml", 1, 1, from_yaml),
    ("mustFromJson", 1, 1, from_json),
    ("mustToJson", 1, 1, |_, a| json(serde_json::to_string(&sorted(&a[0])))),
    ("sha256sum", 1, 1, |_, a| Ok(Value::from(hex(Sha256::digest(string(a, 0)?))))),
    ("sha1sum", 1, 1, |_, a| {
        let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        Ok(Value::from(hex(aws_lc_rs::digest::digest(sha1, string(a, 0)?.as_bytes()))))
    }),
    ("sha512sum", 1, 1, |_, a| Ok(Value::from(hex(Sha512::digest(string(a, 0)?))))),
    ("toJson", 1, 1, |_, a| json(serde_json::to_string(&sorted(&a[0])))),
    ("toPrettyJson", 1, 1, |_, a| json(serde_json::to_string_pretty(&sorted(&a[0])))),
    ("toRawJson", 1, 1, |_, a| Ok(Value::from(sorted(&a[0]).to_string()))),
    ("toYaml", 1, 1, |_, a| Ok(Value::from(yaml::to_go_string(&naturally_sorted(&a[0]), 2)))),
];

fn b64dec(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    let bytes = BASE64_STANDARD.decode(string(arguments, 0)?).map_err(|error| format!("invalid base64: {error}"))?;
    String::from_utf8(bytes).map(Value::from).map_err(|_| Failure::new("the decoded bytes are not UTF-8"))
}

fn from_json(_: &Call<'_>, arguments: &[Value]) -> Outcome {
    serde_json::from_str(string(arguments, 0)?)
        .map(as_floats)
        .map_err(|error| Failure::new(format!("invalid JSON: {error}")))
}

/// Sorts maps by key, as Go prints them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        // Go writes a number without a fraction as an integer.
        #[allow(clippy::cast_possible_truncation, reason = "the bounds are those of 64 bits")]
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e18 => Value::from(float as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

/// Go decodes every JSON number as floating-point.
fn as_floats(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(items) => items.into_iter().map(as_floats).collect(),
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, as_floats(value))).collect()),
        other => other,
    }
}

fn json(text: serde_json::Result<String>) -> Outcome {
    let text = text.map_err(|error| format!("the value cannot be written as JSON: {error}"))?;
    Ok(Value::from(escaped(&text)))
}

/// The first document, as helmfile reads it: an unquoted `1.10` is the number 1.1.
fn from_yaml(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0)?;
    let origin = call.functions.origin_of(text);
    let name = origin.clone().unwrap_or_else(|| Origin::new("<text>"));
    let documents = yaml::parse_as(&name, text, Dialect::Untyped).map_err(|diagnostic| {
        let location = diagnostic.location.clone().filter(|_| origin.is_some());
        Failure { location, ..diagnostic.into() }
    })?;
    Ok(documents.first().map(yaml::Node::to_json).unwrap_or_default())
}

/// Sorts maps as go-yaml does: `a2` before `a10`.
fn naturally_sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.clone(), naturally_sorted(value))).collect();
            entries.sort_by(|a, b| natural(&a.0, &b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(naturally_sorted).collect(),
        other => other.clone(),
    }
}

/// The order of keys in go-yaml: digits by numeric value, letters last.
fn natural(left: &str, right: &str) -> Ordering {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let Some(at) = left.iter().zip(&right).position(|(a, b)| a != b) else { return left.len().cmp(&right.len()) };
    let (a, b) = (left[at], right[at]);
    let in_number = at > 0 && left[at - 1].is_numeric();
    match (a.is_alphabetic(), b.is_alphabetic()) {
        (true, true) => return a.cmp(&b),
        (true, false) => return if in_number { Ordering::Less } else { Ordering::Greater },
        (false, true) => return if in_number { Ordering::Greater } else { Ordering::Less },
        (false, false) => {}
    }
    let before = left[..at].iter().rev().take_while(|letter| letter.is_numeric());
    let led = u64::from((a == '0' || b == '0') && before.into_iter().any(|digit| *digit != '0'));
    let number = |letters: &[char]| {
        let digits = letters[at..].iter().map_while(|letter| letter.to_digit(10)).collect::<Vec<_>>();
        let value = digits.iter().fold(led, |sum, digit| sum.wrapping_mul(10).wrapping_add(u64::from(*digit)));
        (value, digits.len())
    };
    number(&left).cmp(&number(&right)).then(a.cmp(&b))
}

/// Escapes HTML's characters, as Go's JSON encoder does.
fn escaped(text: &str) -> String {
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adler-32 (RFC 1950).
fn adler32(text: &str) -> u32 {
    let (low, high) = text.bytes().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}
