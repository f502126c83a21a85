//! Offline validation of machine configs.
//!
//! The rules are those of `talosctl validate` of Talos 1.14 (`pkg/machinery/config/container/validate.go`,
//! `types/*/…: Validate`). A node may still reject a valid config, since it also checks its disks and links.

mod conflicts;
mod document;
mod interfaces;
mod kubernetes;
mod legacy;
mod links;
mod runtime;
mod syntax;
#[cfg(test)]
mod tests;
mod volumes;
mod whole;

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use self::document::{Document, Finding};
use super::document::{Documents, parse_strictly};
use super::typed::{RawContent, RawValue, title};
use yaml::{Diagnostic, Diagnostics, Location, Origin};

/// The platform type that a config is validated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeMode {
    Metal,
    Cloud,
    Container,
    MetalAgent,
}

const MODES: [(&str, RuntimeMode); 4] = [
    ("metal", RuntimeMode::Metal),
    ("cloud", RuntimeMode::Cloud),
    ("container", RuntimeMode::Container),
    ("metal-agent", RuntimeMode::MetalAgent),
];

/// An unknown [`RuntimeMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode `{0}`: expected metal, cloud, container or metal-agent")]
pub struct UnknownRuntimeMode(String);

impl FromStr for RuntimeMode {
    type Err = UnknownRuntimeMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = MODES.iter().find(|(name, _)| *name == text);
        known.map(|(_, mode)| *mode).ok_or_else(|| UnknownRuntimeMode(text.to_owned()))
    }
}

impl fmt::Display for RuntimeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = MODES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The result of validating a config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidationFindings {
    pub errors: Diagnostics,
    /// Settings that Talos accepts but advises against.
    pub warnings: Diagnostics,
}

/// Parses and validates a config.
///
/// # Errors
///
/// The config cannot be parsed.
pub fn validate_text(origin: &Origin, text: &str, mode: RuntimeMode) -> Result<ValidationFindings, Diagnostics> {
    let documents = parse_strictly(origin, text)?;
    let written = RawValue::parse(origin, text)?;
    let mut findings = ValidationFindings::default();
    for finding in check(&documents, mode) {
        let document = finding.document.and_then(|index| written.get(index));
        let sink = if finding.warning { &mut findings.warnings } else { &mut findings.errors };
        sink.push(diagnostic(document, &finding));
    }
    Ok(findings)
}

/// Validates the documents of a config.
pub fn validate(documents: &Documents, mode: RuntimeMode) -> ValidationFindings {
    validate_at(documents, mode, &|_, _| None)
}

/// Like [`validate`], for documents whose fields come from several files: `place` returns the location of a field, by the
/// index of the document and the path of the field.
pub fn validate_at(
    documents: &Documents,
    mode: RuntimeMode,
    place: &dyn Fn(usize, &str) -> Option<Location>,
) -> ValidationFindings {
    let mut findings = ValidationFindings::default();
    for finding in check(documents, mode) {
        let value = finding.document.and_then(|index| documents.0.get(index));
        let written = value.map(RawValue::from);
        let sink = if finding.warning { &mut findings.warnings } else { &mut findings.errors };
        let mut diagnostic = diagnostic(written.as_ref(), &finding);
        diagnostic.location = finding.document.and_then(|index| place(index, &finding.path)).or(diagnostic.location);
        sink.push(diagnostic);
    }
    findings
}

fn check(documents: &Documents, mode: RuntimeMode) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, value) in documents.0.iter().enumerate() {
        let mut document = Document { index, value, found: &mut found };
        match value.get("kind").and_then(Value::as_str) {
            None => legacy::check(&mut document, mode),
            Some(kind) => {
                links::check(&mut document, kind);
                volumes::check(&mut document, kind);
                kubernetes::check(&mut document, kind);
                runtime::check(&mut document, kind);
            }
        }
    }
    conflicts::check(&documents.0, &mut found);
    whole::check(&documents.0, mode, &mut found);
    found
}

/// The message of a finding: document, field and problem, with the location of the field or its nearest parent.
fn diagnostic(document: Option<&RawValue>, finding: &Finding) -> Diagnostic {
    let title = document.map(title).unwrap_or_default();
    let prefix = if title.is_empty() { String::new() } else { format!("{title}: ") };
    let field = if finding.path.is_empty() { String::new() } else { format!("`{}` ", finding.path) };
    let message = format!("{prefix}{field}{}", finding.message);
    match document.and_then(|document| nearest(document, &finding.path)) {
        Some(at) => Diagnostic::at_location(at, message),
        None => Diagnostic::general(message),
    }
}

fn nearest(document: &RawValue, path: &str) -> Option<Location> {
    let mut at = document.at.clone();
    let mut current = document;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match (&current.content, step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())) {
            (RawContent::List(items), Some(index)) => items.get(index),
            _ => current.get(step),
        };
        let Some(next) = next else { break };
        at.clone_from(&next.at);
        current = next;
    }
    at
}
