//! When two machine configs are equal: as data, ignoring the differences that Talos's own encoder makes.

use serde_json::{Map, Value, json};
use talos_schema::Documents;

/// Fields that Talos always writes: empty and absent are the same there, and nowhere else. `*` is any list element.
const EMPTY_IS_ABSENT: [&str; 14] = [
    "machine.token",
    "machine.certSANs",
    "machine.ca.key",
    "machine.install.wipe",
    "machine.network.interfaces.*.vlans.*.routes",
    "machine.network.interfaces.*.bond.interfaces",
    "cluster.ca.key",
    "cluster.etcd.ca",
    "cluster.network.dnsDomain",
    "cluster.network.podSubnets",
    "cluster.network.serviceSubnets",
    "cluster.discovery.registries.kubernetes",
    "cluster.discovery.registries.service",
    "cluster.discovery.registries",
];
/// The same in the documents of 1.14.
const EMPTY_IS_ABSENT_IN_DOCUMENTS: [&str; 3] = ["nodeIP", "config", "image"];

/// What differs, as a diff from theirs to ours; empty when nothing does.
pub(crate) fn differences(ours: &Documents, theirs: &Documents) -> String {
    let text = |documents: &Documents| {
        documents.0.iter().map(|document| format!("{:#}\n---\n", comparable(document))).collect::<String>()
    };
    let (ours, theirs) = (text(ours), text(theirs));
    similar::TextDiff::from_lines(&theirs, &ours).unified_diff().context_radius(2).to_string()
}

fn comparable(document: &Value) -> Value {
    let mut document = canonical("", document);
    let fields: &[&str] = if document.get("kind").is_none() { &EMPTY_IS_ABSENT } else { &EMPTY_IS_ABSENT_IN_DOCUMENTS };
    for field in fields {
        drop_if_empty(&mut document, &field.split('.').collect::<Vec<_>>());
    }
    document
}

fn drop_if_empty(value: &mut Value, path: &[&str]) {
    let empty = [json!(null), json!(""), json!([]), json!({})];
    match (path, value) {
        ([key], Value::Object(map)) if map.get(*key).is_some_and(|value| empty.contains(value)) => {
            map.shift_remove(*key);
        }
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|item| drop_if_empty(item, rest)),
        ([key, rest @ ..], Value::Object(map)) => {
            if let Some(inner) = map.get_mut(*key) {
                drop_if_empty(inner, rest);
            }
        }
        _ => {}
    }
}

/// Keys sorted, and texts that mean the same written the same.
fn canonical(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            let entries = entries.into_iter().map(|(key, value)| (key.clone(), canonical(key, value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| canonical(key, item)).collect()),
        Value::String(text) => {
            let same = duration(text)
                .or_else(|| (key == "size").then(|| size(text)).flatten())
                .or_else(|| matches!(key, "permissions" | "mode").then(|| octal(text)).flatten())
                .or_else(|| (key == "table").then(|| text.parse().ok()).flatten());
            same.map_or_else(|| value.clone(), |number| json!(number))
        }
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

/// A Go duration in seconds.
fn duration(text: &str) -> Option<f64> {
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    (!text.is_empty()).then_some(seconds)
}

/// A size as `1.0 GB`, `5GiB` or a number of bytes, to the two digits that Talos writes.
fn size(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let power = ["", "k", "m", "g", "t", "p"];
    let unit = unit.trim().to_lowercase();
    let (base, prefix) = match unit.strip_suffix("ib") {
        Some(prefix) => (1024_f64, prefix),
        None => (1000_f64, unit.strip_suffix('b').unwrap_or(&unit)),
    };
    let exponent = power.iter().position(|known| *known == prefix)?;
    Some(number.parse::<f64>().ok()? * base.powi(i32::try_from(exponent).ok()?))
}

fn octal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'))?;
    u32::from_str_radix(digits, 8).ok().map(f64::from)
}
