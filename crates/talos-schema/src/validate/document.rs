//! A document under validation, and its findings.

use serde_json::Value;

use super::super::typed::duration;

/// A problem of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The index of the document, if the problem is in a single one.
    pub(super) document: Option<usize>,
    /// The field, `a.b[0].c`; empty for the document as a whole.
    pub(super) path: String,
    pub(super) message: String,
    pub(super) warning: bool,
}

/// A document, and the list of findings.
pub(super) struct Document<'v, 'f> {
    pub(super) index: usize,
    pub(super) value: &'v Value,
    pub(super) found: &'f mut Vec<Finding>,
}

impl<'v> Document<'v, '_> {
    pub(super) fn get(&self, path: &str) -> Option<&'v Value> {
        get(self.value, path)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// A string; empty when absent.
    pub(super) fn text(&self, path: &str) -> &'v str {
        text(self.value, path)
    }

    /// Whether a boolean is set to true.
    pub(super) fn is_true(&self, path: &str) -> bool {
        self.get(path) == Some(&Value::Bool(true))
    }

    pub(super) fn number(&self, path: &str) -> i64 {
        number(self.value, path)
    }

    /// The items of a list; empty when absent.
    pub(super) fn list(&self, path: &str) -> &'v [Value] {
        list(self.value, path)
    }

    pub(super) fn entries(&self, path: &str) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
        self.get(path).and_then(Value::as_object).into_iter().flatten()
    }

    pub(super) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Finding {
            document: Some(self.index),
            path: path.into(),
            message: message.into(),
            warning: false,
        });
    }

    pub(super) fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Finding {
            document: Some(self.index),
            path: path.into(),
            message: message.into(),
            warning: true,
        });
    }

    /// Reports every one of these fields that is empty.
    pub(super) fn require(&mut self, fields: &[&str]) {
        for field in fields {
            let empty = match self.get(field) {
                None => true,
                Some(Value::String(text)) => text.is_empty(),
                Some(Value::Array(items)) => items.is_empty(),
                Some(Value::Object(map)) => map.is_empty(),
                Some(Value::Number(number)) => number.as_i64() == Some(0),
                Some(_) => false,
            };
            if empty {
                self.error(*field, "is required");
            }
        }
    }

    /// Reports every one of these durations that is negative.
    pub(super) fn reject_negative(&mut self, fields: &[&str]) {
        for field in fields {
            if duration::parse(self.text(field)).is_some_and(|nanoseconds| nanoseconds < 0) {
                self.error(*field, "cannot be negative");
            }
        }
    }
}

pub(super) fn get<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

pub(super) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    get(value, path).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn number(value: &Value, path: &str) -> i64 {
    get(value, path).and_then(Value::as_i64).unwrap_or_default()
}

pub(super) fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
