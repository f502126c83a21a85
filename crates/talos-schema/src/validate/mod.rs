//! What Talos would say about a config, without a node.
//!
//! The rules are those of `talosctl validate` of Talos 1.14 (`pkg/machinery/config/container/validate.go`,
//! `types/*/…: Validate`). A config that passes may still be refused by the node, which also looks at its disks and
//! links.

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
use super::typed::{Content, Written, title};
use yaml::{Diagnostic, Diagnostics, Location, Origin};

/// What a node runs on, as far as it matters for its config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Metal,
    Cloud,
    Container,
    MetalAgent,
}

const MODES: [(&str, Mode); 4] =
    [("metal", Mode::Metal), ("cloud", Mode::Cloud), ("container", Mode::Container), ("metal-agent", Mode::MetalAgent)];

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = MODES.iter().find(|(name, _)| *name == text);
        known.map(|(_, mode)| *mode).ok_or_else(|| "there are metal, cloud, container and metal-agent".to_owned())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = MODES.iter().find(|(_, mode)| mode == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What was found in a config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    pub errors: Diagnostics,
    /// What Talos takes but advises against.
    pub warnings: Diagnostics,
    /// Whether a warning is about the legacy document, which is what `--strict` is about.
    pub strict: bool,
}

/// Checks a config.
///
/// # Errors
///
/// When it cannot be read at all; that is told before anything else.
pub fn validate_text(origin: &Origin, text: &str, mode: Mode) -> Result<Findings, Diagnostics> {
    let documents = parse_strictly(origin, text)?;
    let written = Written::parse(origin, text)?;
    let mut findings = Findings::default();
    for finding in check(&documents, mode) {
        let document = finding.document.and_then(|index| written.get(index));
        let legacy = document.is_some_and(|document| title(document).is_empty());
        findings.strict |= finding.warning && legacy;
        let sink = if finding.warning { &mut findings.warnings } else { &mut findings.errors };
        sink.push(diagnostic(document, &finding));
    }
    Ok(findings)
}

/// Checks the documents of a config, whatever text they came from.
pub fn validate(documents: &Documents, mode: Mode) -> Findings {
    validate_at(documents, mode, &|_, _| None)
}

/// As [`validate`], for documents whose fields were written elsewhere: `place` answers where, for a document by its
/// place in the config and a field of it.
pub fn validate_at(documents: &Documents, mode: Mode, place: &dyn Fn(usize, &str) -> Option<Location>) -> Findings {
    let mut findings = Findings::default();
    for finding in check(documents, mode) {
        let value = finding.document.and_then(|index| documents.0.get(index));
        findings.strict |= finding.warning && value.is_some_and(|value| value.get("kind").is_none());
        let written = value.map(Written::from);
        let sink = if finding.warning { &mut findings.warnings } else { &mut findings.errors };
        let mut told = diagnostic(written.as_ref(), &finding);
        told.location = finding.document.and_then(|index| place(index, &finding.path)).or(told.location);
        sink.push(told);
    }
    findings
}

fn check(documents: &Documents, mode: Mode) -> Vec<Finding> {
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

/// The finding as an operator reads it: document, field, what is wrong, and where the field or its nearest parent is.
fn diagnostic(document: Option<&Written>, finding: &Finding) -> Diagnostic {
    let title = document.map(title).unwrap_or_default();
    let prefix = if title.is_empty() { String::new() } else { format!("{title}: ") };
    let field = if finding.path.is_empty() { String::new() } else { format!("`{}` ", finding.path) };
    let message = format!("{prefix}{field}{}", finding.message);
    match document.and_then(|document| nearest(document, &finding.path)) {
        Some(at) => Diagnostic::at(at, message),
        None => Diagnostic::general(message),
    }
}

fn nearest(document: &Written, path: &str) -> Option<Location> {
    let mut at = document.at.clone();
    let mut current = document;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match (&current.content, step.strip_suffix(']').and_then(|index| index.parse::<usize>().ok())) {
            (Content::List(items), Some(index)) => items.get(index),
            _ => current.get(step),
        };
        let Some(next) = next else { break };
        at.clone_from(&next.at);
        current = next;
    }
    at
}
