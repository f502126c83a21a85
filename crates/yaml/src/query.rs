//! The part of `yq` (4.x) that templates and recipes use: selecting a value from a multi-document file.
//!
//! `select(.kind == "HelmRelease").spec.values`, and its spelling with a pipe, are what public repositories write. The
//! results are printed as yq prints them: text bare, everything else as YAML, `null` for what is not there, `---` between
//! the results of several documents.

use serde_json::Value;

use crate::{Diagnostic, Dialect, Origin, parse_as};

/// An expression over a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    steps: Vec<Step>,
    file: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Element(usize),
    /// `select(.path == "text")`.
    Select(Vec<String>, String),
}

impl Query {
    /// Reads the arguments of `yq`; `None` when they use more of yq than is supported here.
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let plain = |argument: &&String| !["-r", "--unwrapScalar", "e", "eval"].contains(&argument.as_str());
        let [expression, file] = arguments.iter().filter(plain).collect::<Vec<_>>()[..] else { return None };
        if file.starts_with('-') {
            return None;
        }
        let mut rest = expression.trim();
        let mut steps = vec![];
        while !rest.is_empty() {
            rest = rest.trim_start().trim_start_matches('|').trim_start();
            if let Some(inner) = rest.strip_prefix("select(") {
                let (condition, after) = inner.split_once(')')?;
                let (path, text) = condition.split_once("==")?;
                let text = text.trim().strip_prefix('"')?.strip_suffix('"')?;
                let path = path.trim().strip_prefix('.')?.split('.').map(str::to_owned).collect::<Vec<_>>();
                if text.contains(['"', '\\', '*']) || !path.iter().all(|key| is_key(key)) {
                    return None;
                }
                steps.push(Step::Select(path, text.to_owned()));
                rest = after.trim_start();
            } else if let Some(inner) = rest.strip_prefix('[') {
                let (index, after) = inner.split_once(']')?;
                steps.push(Step::Element(index.parse().ok()?));
                rest = after.trim_start();
            } else {
                let inner = rest.strip_prefix('.')?;
                let end = inner.find(|c| !is_key_character(c)).unwrap_or(inner.len());
                if end > 0 {
                    steps.push(Step::Field(inner[..end].to_owned()));
                } else if !inner.is_empty() && !inner.trim_start().starts_with(['|', '[']) {
                    return None;
                }
                rest = inner[end..].trim_start();
            }
        }
        Some(Self { steps, file: file.clone() })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// What yq would print.
    ///
    /// # Errors
    ///
    /// A file that is not YAML.
    pub fn run(&self, origin: &Origin, text: &str) -> Result<String, Diagnostic> {
        let mut printed = vec![];
        for document in parse_as(origin, text, Dialect::Kubernetes)? {
            let document = document.to_json();
            if let Some(value) = self.steps.iter().try_fold(document, step) {
                printed.push(print(&value)?);
            }
        }
        Ok(printed.join("---\n"))
    }
}

fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(is_key_character)
}

/// One step; `None` when `select` leaves the document out.
fn step(value: Value, step: &Step) -> Option<Value> {
    match step {
        Step::Field(key) => Some(value.get(key).cloned().unwrap_or_default()),
        Step::Element(index) => Some(value.get(index).cloned().unwrap_or_default()),
        Step::Select(path, text) => {
            let found = path.iter().try_fold(&value, |value, key| value.get(key));
            (found.and_then(Value::as_str) == Some(text)).then_some(value)
        }
    }
}

fn print(value: &Value) -> Result<String, Diagnostic> {
    match value {
        Value::Null => Ok("null\n".to_owned()),
        Value::String(text) => Ok(format!("{text}\n")),
        other => crate::to_string(other).map_err(|error| Diagnostic::general(error.to_string())),
    }
}
