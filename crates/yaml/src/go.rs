//! Writes YAML byte for byte as go-yaml does, for hashes and for `toYaml`.

use lazy_regex::regex;
use serde_json::{Map, Value};

use super::{Dialect, Origin, parse_as};

/// Writes a value with `indent` spaces per level; keys keep their order. helmfile configures go-yaml v3 with 2; v4 uses 4.
pub fn to_go_string(value: &Value, indent: usize) -> String {
    let writer = Writer { indent };
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => writer.mapping(&mut out, map, 0),
        Value::Array(items) if !items.is_empty() => writer.sequence(&mut out, items, 0),
        other => {
            out.push_str(&writer.scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

struct Writer {
    indent: usize,
}

impl Writer {
    /// Writes entries; the first one starts at the current position, in `column`.
    fn mapping(&self, out: &mut String, map: &Map<String, Value>, column: usize) {
        for (index, (key, value)) in map.iter().enumerate() {
            if index > 0 {
                out.push_str(&" ".repeat(column));
            }
            out.push_str(&self.key(key));
            out.push(':');
            match value {
                Value::Object(map) if !map.is_empty() => {
                    out.push('\n');
                    out.push_str(&" ".repeat(column + self.indent));
                    self.mapping(out, map, column + self.indent);
                }
                Value::Array(items) if !items.is_empty() => {
                    out.push('\n');
                    self.sequence(out, items, column + self.indent);
                }
                other => {
                    out.push(' ');
                    out.push_str(&self.scalar(other, column));
                    out.push('\n');
                }
            }
        }
    }

    fn sequence(&self, out: &mut String, items: &[Value], column: usize) {
        for item in items {
            out.push_str(&" ".repeat(column));
            out.push_str("- ");
            match item {
                Value::Object(map) if !map.is_empty() => self.mapping(out, map, column + 2),
                Value::Array(items) if !items.is_empty() => {
                    let mut inner = String::new();
                    self.sequence(&mut inner, items, column + 2);
                    out.push_str(inner.trim_start_matches(' '));
                }
                other => {
                    out.push_str(&self.scalar(other, column));
                    out.push('\n');
                }
            }
        }
    }

    /// Writes a key on one line.
    fn key(&self, key: &str) -> String {
        if key.contains('\n') { double_quoted(key) } else { self.string(key, 0) }
    }

    fn scalar(&self, value: &Value, column: usize) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => go_float(float),
                None => number.to_string(),
            },
            Value::String(text) => self.string(text, column),
            Value::Array(_) => "[]".to_owned(),
            Value::Object(_) => "{}".to_owned(),
        }
    }

    fn string(&self, text: &str, column: usize) -> String {
        let special = text.chars().any(is_special);
        if text.contains('\n') {
            let blanks = text.contains(" \n") || text.ends_with(' ');
            return if special || blanks { double_quoted(text) } else { self.literal(text, column) };
        }
        if special || text.is_empty() || text.contains('\t') || !is_string(text) {
            return double_quoted(text);
        }
        if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
    }

    fn literal(&self, text: &str, column: usize) -> String {
        let hint = if text.starts_with([' ', '\n']) { self.indent.to_string() } else { String::new() };
        let chomp = match text.strip_suffix('\n') {
            None => "-",
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => "+",
            Some(_) => "",
        };
        let body = text.strip_suffix('\n').unwrap_or(text);
        let margin = " ".repeat(column + self.indent);
        let line = |line: &str| if line.is_empty() { String::new() } else { format!("{margin}{line}") };
        format!("|{hint}{chomp}\n{}", body.split('\n').map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// A floating-point number as Go prints it (`strconv`, format `g`, shortest representation).
pub fn go_float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            ".nan"
        } else if number > 0.0 {
            ".inf"
        } else {
            "-.inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
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
            '\0' => out.push_str("\\0"),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c if is_special(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters that go-yaml always escapes: control characters, and those beyond the Basic Multilingual Plane.
fn is_special(letter: char) -> bool {
    (letter.is_control() && letter != '\n' && letter != '\t') || letter > '\u{FFFF}'
}

const OLD_BOOLEANS: [&str; 16] =
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"];

/// Whether the text, unquoted, is read back as a string.
fn is_string(text: &str) -> bool {
    // YAML 1.1's sexagesimal numbers, and dates.
    let other_types =
        regex!(r"^(?:[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|\d{4}-\d{1,2}-\d{1,2}(?:[Tt ].*)?)$");
    if OLD_BOOLEANS.contains(&text) || other_types.is_match(text) {
        return false;
    }
    if !is_plain(text) {
        return true;
    }
    let read = parse_as(&Origin::new("scalar"), text, Dialect::Typed);
    read.is_ok_and(|documents| documents.first().is_some_and(|node| node.as_str() == Some(text)))
}

/// Whether the text needs no quotes in a block mapping.
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
    fn matches_the_output_of_go_yaml() {
        let value = json!({
            "a": {"list": ["x", {"key": 12, "value": "x: y"}], "empty": {}},
            "text": "one\n\n  two\nthree",
            "keep": "end\n",
            "strings": ["", "yes", "12", "1:30", "2026-01-02", "-selinux", "a#b", "it's", "'q", "null", "~x", "trail "],
        });
        insta::assert_snapshot!(to_go_string(&value, 4), @r#"
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
