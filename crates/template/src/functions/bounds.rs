//! How large values may become: a few lines must not fill the memory, nor run for ever.

use serde_json::Value;

use super::Failure;

/// Bytes of text in one value, in the arguments of one call, and in what a template renders. Files have the same limit.
pub(crate) const MAX_TEXT: usize = 16 << 20;
/// Turns of loops, blocks and templates within each other, over everything that one set of functions renders.
pub(super) const MAX_TURNS: usize = 1_000_000;

/// Refuses a length before anything of it is there.
pub(crate) fn fits(length: usize) -> Result<(), Failure> {
    if length > MAX_TEXT {
        return Err(Failure::new(format!("a text of more than {} MiB", MAX_TEXT >> 20)));
    }
    Ok(())
}

/// The bytes of all texts in some values.
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
