//! Plain scalars as go-yaml v3 resolves them.

use super::Value;

/// How unquoted scalars are resolved; the tools that read the same files disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// go-yaml v3 into the fields of a struct: a date is a string.
    Typed,
    /// go-yaml v3 into a map: a date becomes a timestamp.
    Untyped,
    /// sigs.k8s.io/yaml, which Helm uses for values: YAML 1.1's booleans, as keys too; a date is a string.
    Kubernetes,
    /// Every scalar is the string that is written.
    Verbatim,
}

/// The value of an unquoted scalar.
///
/// go-yaml v3 follows YAML 1.2 (`yes` and `on` are strings) but keeps 1.1's octals (`0755`), underscores in integers
/// (`1_000`) and binary numbers, see its `resolve.go`.
pub(super) fn plain(text: &str, dialect: Dialect) -> Value {
    match dialect {
        Dialect::Verbatim => Value::String(text.to_owned()),
        Dialect::Typed => core(text),
        Dialect::Untyped => timestamp(text).map_or_else(|| core(text), Value::String),
        Dialect::Kubernetes => match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
            _ => core(text),
        },
    }
}

/// A date, or a time with a space for `T`, in RFC 3339 format.
fn timestamp(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    date.parse::<jiff::civil::Date>().ok().filter(|_| date.len() == 10)?;
    time.parse::<jiff::civil::Time>().ok()?;
    Some(format!("{date}T{time}Z"))
}

fn core(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::String(text.to_owned());
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(head) if head.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    match (negative, i64::try_from(magnitude)) {
        (false, Ok(value)) => Some(Value::Int(value)),
        (false, Err(_)) => Some(Value::Unsigned(magnitude)),
        (true, Ok(value)) => Some(Value::Int(-value)),
        (true, Err(_)) => None,
    }
}

fn float(text: &str) -> Option<Value> {
    let body = text.trim_start_matches(['+', '-']);
    let numeric = body.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && body.chars().any(|c| c.is_ascii_digit());
    numeric.then(|| text.parse().ok().map(Value::Float)).flatten()
}
