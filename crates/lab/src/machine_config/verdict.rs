//! The verdict on a config, in the form in which Talos reports it (1.11 to 1.14: `configloader`, `container.Validate` and
//! go-multierror). The rules are the schema's.

use serde_json::Value;
use talos_schema::{RuntimeMode, ValidationFindings, parse_strictly, validate_text};
use yaml::{Diagnostic, Diagnostics, Origin};

use super::{ConfigReader, ConfigRejection, SystemState, document_kinds};

/// A document of a config and the line at which it begins.
struct WrittenDocument {
    line: usize,
    content: Value,
}

impl WrittenDocument {
    fn text(&self, key: &str) -> &str {
        self.content.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.text("kind")
    }

    /// As the decoder names it, since 1.12 with its line.
    fn decoded_as(&self) -> String {
        let kind = Some(self.kind()).filter(|kind| !kind.is_empty()).unwrap_or("v1alpha1");
        format!("{}/{kind}/{} (line {})", self.text("apiVersion"), self.text("name"), self.line)
    }

    /// As validation names it.
    fn id(&self) -> String {
        match (self.kind(), self.text("name")) {
            ("", _) => "v1alpha1.Config".to_owned(),
            (kind, "") => kind.to_owned(),
            (kind, name) => format!("{kind}/{name}"),
        }
    }
}

/// The documents of a config that Talos decodes.
pub(super) struct WrittenConfig {
    documents: Vec<WrittenDocument>,
    origin: Origin,
}

impl WrittenConfig {
    /// Decodes a config as Talos does: unknown kinds and keys are errors.
    pub(super) fn decode(text: &str, reader: &ConfigReader) -> Result<Self, ConfigRejection> {
        let origin = Origin::new("<machine config>");
        let nodes = yaml::parse(&origin, text)
            .map_err(|error| ConfigRejection::Parse(format!("decode error: yaml: {}", error.message)))?;
        let documents = nodes.iter().filter(|node| !node.is_null());
        let documents: Vec<WrittenDocument> =
            documents.map(|node| WrittenDocument { line: node.at.line, content: node.to_json() }).collect();
        if documents.is_empty() {
            return Err(ConfigRejection::Parse("config not found".to_owned()));
        }
        let config = Self { documents, origin };
        let fail = |document: Option<&WrittenDocument>, problem: &str| {
            let document = document.filter(|_| reader.talos.minor >= 12);
            let at = document.map_or_else(String::new, |at| format!("error decoding document {}: ", at.decoded_as()));
            Err(ConfigRejection::Parse(format!("{at}{problem}")))
        };
        if let Some(unknown) = config.documents.iter().find(|document| !is_known(document.kind(), reader)) {
            return fail(
                Some(unknown),
                &format!("{:?} {:?}: not registered", unknown.kind(), unknown.text("apiVersion")),
            );
        }
        if let Err(problems) = parse_strictly(&config.origin, text)
            && let Some(problem) = problems.iter().next()
        {
            return fail(config.document_of(problem), &problem.message);
        }
        Ok(config)
    }

    pub(super) fn contents(&self) -> Vec<Value> {
        self.documents.iter().map(|document| document.content.clone()).collect()
    }

    /// Validates the config, and returns Talos's warnings.
    pub(super) fn validate(&self, text: &str, reader: &ConfigReader) -> Result<Vec<String>, ConfigRejection> {
        // A machine with an installed system needs no install disk.
        let mode = match reader.system {
            SystemState::NotInstalled => RuntimeMode::Metal,
            SystemState::Installed => RuntimeMode::Cloud,
        };
        let ValidationFindings { errors, warnings } = validate_text(&self.origin, text, mode)
            .map_err(|errors| ConfigRejection::Parse(errors.iter().map(|error| error.message.clone()).collect()))?;
        if !errors.is_empty() {
            return Err(ConfigRejection::Invalid(self.nested(&errors)));
        }
        Ok(warnings.iter().map(|warning| warning.message.clone()).collect())
    }

    /// The document that a finding is about. Findings about the whole config have none.
    fn document_of(&self, finding: &Diagnostic) -> Option<&WrittenDocument> {
        let line = finding.location.as_ref()?.position.line;
        self.documents.iter().rev().find(|document| document.line <= line)
    }

    /// The findings of each document as one error, those of the `v1alpha1` document as a list of their own.
    fn nested(&self, errors: &Diagnostics) -> String {
        let mut points: Vec<String> = Vec::new();
        for document in &self.documents {
            let is_here = |error: &&Diagnostic| self.document_of(error).is_some_and(|at| at.line == document.line);
            let title = format!("{} {}", document.kind(), document.text("name"));
            let found: Vec<String> = errors
                .iter()
                .filter(is_here)
                .map(|error| error.message.trim_start_matches(&format!("{}: ", title.trim())).to_owned())
                .collect();
            if document.kind().is_empty() && !found.is_empty() {
                points.push(of_legacy(&found));
            } else if !found.is_empty() {
                points.push(format!("{}: {}", document.id(), found.join("\n")));
            }
        }
        points.extend(errors.iter().filter(|error| error.location.is_none()).map(|error| error.message.clone()));
        multierror(&points)
    }
}

fn is_known(kind: &str, reader: &ConfigReader) -> bool {
    kind.is_empty() || document_kinds::since(kind).is_some_and(|since| since <= reader.talos.minor)
}

fn of_legacy(problems: &[String]) -> String {
    format!("v1alpha1.Config: {}", multierror(problems))
}

/// Problems of the `v1alpha1` document as a whole error.
pub(super) fn legacy_error(problems: &[String]) -> String {
    multierror(&[of_legacy(problems)])
}

/// Several errors as one text (go-multierror, `ListFormatFunc`). A list inside a list is not indented.
fn multierror(points: &[String]) -> String {
    let lines: String = points.iter().map(|point| format!("\t* {point}\n")).collect();
    let errors = if points.len() == 1 { "1 error".to_owned() } else { format!("{} errors", points.len()) };
    format!("{errors} occurred:\n{lines}\n")
}
