//! Limits on text and loops: a few lines of template must not exhaust memory or run forever.

use serde_json::Value;

use super::Failure;

/// Maximum bytes of text in one value, in the arguments of one call, and in the output of a template; also of a file.
pub(crate) const MAX_TEXT: usize = 16 << 20;
/// Maximum iterations of loops, blocks and templates, over everything that one [`Functions`](super::Functions) renders.
pub(super) const MAX_TURNS: usize = 1_000_000;

/// Rejects a length before the text is allocated.
pub(crate) fn check_length(length: usize) -> Result<(), Failure> {
    if length > MAX_TEXT {
        return Err(Failure::new(format!("the text exceeds {} MiB", MAX_TEXT >> 20)));
    }
    Ok(())
}

/// The bytes of all texts in `values`.
pub(super) fn length(values: &[Value]) -> usize {
    values.iter().map(length_of).sum()
}

fn length_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 1 + length_of(item)).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + length_of(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}
