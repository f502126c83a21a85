//! YAML in the very bytes that go-yaml v4 writes, for what is hashed.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::yaml::{self, Dialect, Origin};

const INDENT: usize = 4;

/// A mapping as a document.
pub(super) fn to_string(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut out, map, 0),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

/// Writes entries from the current column on, which is `indent`.
fn mapping(out: &mut String, map: &Map<String, Value>, indent: usize) {
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&scalar(&Value::String(key.clone()), indent));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent + INDENT));
                mapping(out, map, indent + INDENT);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(out, items, indent + INDENT);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other, indent));
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, items: &[Value], indent: usize) {
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(out, map, indent + 2),
            Value::Array(items) if !items.is_empty() => {
                let mut inner = String::new();
                sequence(&mut inner, items, indent + 2);
                out.push_str(inner.trim_start_matches(' '));
            }
            other => {
                out.push_str(&scalar(other, indent));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, indent: usize) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text, indent),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

fn string(text: &str, indent: usize) -> String {
    let special = text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    if text.contains('\n') {
        let blanks = text.contains(" \n") || text.ends_with(' ');
        return if special || blanks { double_quoted(text) } else { literal(text, indent) };
    }
    if special || text.is_empty() || !is_string(text) {
        return double_quoted(text);
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn literal(text: &str, indent: usize) -> String {
    let hint = if text.starts_with([' ', '\n']) { INDENT.to_string() } else { String::new() };
    let chomp = match text.strip_suffix('\n') {
        None => "-",
        Some(rest) if rest.is_empty() || rest.ends_with('\n') => "+",
        Some(_) => "",
    };
    let body = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<String> = body
        .split('\n')
        .map(|line| if line.is_empty() { String::new() } else { format!("{}{line}", " ".repeat(indent + INDENT)) })
        .collect();
    format!("|{hint}{chomp}\n{}", lines.join("\n"))
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Dates and YAML 1.1's sexagesimal numbers.
static OTHER_TYPES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^(?:[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|\d{4}-\d{1,2}-\d{1,2}(?:[Tt ].*)?)$").ok()
});
const OLD_BOOLEANS: [&str; 16] =
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];

/// Whether the text, unquoted, would be read back as a string.
fn is_string(text: &str) -> bool {
    if OLD_BOOLEANS.contains(&text) || OTHER_TYPES.as_ref().is_some_and(|pattern| pattern.is_match(text)) {
        return false;
    }
    if !is_plain(text) {
        return true;
    }
    let read = yaml::parse_as(&Origin::new("scalar"), text, Dialect::Typed);
    read.is_ok_and(|documents| documents.first().is_some_and(|node| node.as_str() == Some(text)))
}

/// Whether a block mapping can hold the text without quotes.
fn is_plain(text: &str) -> bool {
    let leading = text
        .starts_with(['#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ', '\t'])
        || ["- ", "? ", ": "].iter().any(|indicator| text.starts_with(indicator))
        || matches!(text, "-" | "?" | ":")
        || text.starts_with("---")
        || text.starts_with("...");
    !leading && !text.contains(": ") && !text.contains(" #") && !text.ends_with([':', ' ', '\t'])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_layout_is_go_yamls() {
        let value = json!({
            "a": {"list": ["x", {"key": 12, "value": "x: y"}], "empty": {}},
            "text": "one\n\n  two\nthree",
            "keep": "end\n",
            "strings": ["", "yes", "12", "1:30", "2026-01-02", "-selinux", "a#b", "it's", "'q", "null", "~x", "trail "],
        });
        insta::assert_snapshot!(to_string(&value), @r#"
        a:
            list:
                - x
                - key: 12
                  value: 'x: y'
            empty: {}
        text: |-
            one

              two
            three
        keep: |
            end
        strings:
            - ""
            - "yes"
            - "12"
            - "1:30"
            - "2026-01-02"
            - -selinux
            - a#b
            - it's
            - '''q'
            - "null"
            - ~x
            - 'trail '
        "#);
    }
}
