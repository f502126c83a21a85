//! Merges the values of a release: files, templates and inline mappings.

use serde_json::{Map, Value as Json};

use super::merge::merge_values;
use super::state::{Draft, Missing, Text, Values};
use super::{FileContext, Findings};
use template::TemplateSource;
use yaml::{Diagnostic, Dialect, Location, Node, Value};

pub(super) const NOT_FINITE: &str = "infinity and NaN are not supported in values";

/// Rejects `.inf` and `.nan`, which JSON and so Helm cannot express.
///
/// # Errors
///
/// The first such number.
pub(super) fn finite(node: &Node) -> Result<(), &Node> {
    match &node.value {
        Value::Float(number) if !number.is_finite() => Err(node),
        Value::Sequence(items) => items.iter().try_for_each(finite),
        Value::Mapping(mapping) => mapping.iter().try_for_each(|entry| finite(&entry.value)),
        _ => Ok(()),
    }
}

/// A secret reference of vals, if there is one.
fn reference(value: &Json) -> Option<&str> {
    match value {
        Json::String(text) => {
            let (_, rest) = text.split_once("ref+")?;
            let scheme = rest.split_once("://")?.0;
            (!scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')).then_some(text)
        }
        Json::Array(items) => items.iter().find_map(reference),
        Json::Object(map) => map.values().find_map(reference),
        _ => None,
    }
}

/// Rejects secret references of vals, since the chart would get the reference instead of the secret.
pub(super) fn without_references(value: &Json, at: &Location, findings: &mut Findings) {
    if let Some(text) = reference(value) {
        let scheme = text.split_once("://").map_or(text, |(scheme, _)| scheme);
        let message = format!("secret references of vals (`{scheme}://…`) are not supported in values");
        findings.error(at, message);
    }
}

/// Merges the values of a release.
pub(super) struct Merging<'m> {
    pub(super) files: &'m FileContext<'m>,
    pub(super) what: String,
    /// The data of templates.
    pub(super) data: &'m Json,
    /// The state file's default.
    pub(super) missing: Option<Missing>,
    pub(super) findings: &'m mut Findings,
}

impl Merging<'_> {
    /// `valuesTemplate` first, then `values`, each in order.
    pub(super) fn run(mut self, draft: &Draft) -> Map<String, Json> {
        let mut merged = Map::new();
        for item in &draft.values_template {
            match item {
                Values::Path(path) => self.file(draft, path, &mut merged),
                Values::Inline(value, at) => self.inline_template(value, at, &mut merged),
                Values::Other(kind, at) => self.findings.error(at, Values::invalid(kind)),
            }
        }
        for item in &draft.values {
            match item {
                Values::Path(path) => self.file(draft, path, &mut merged),
                Values::Inline(value, at) => self.inline(value, at, &mut merged),
                Values::Other(kind, at) => self.findings.error(at, Values::invalid(kind)),
            }
        }
        merged
    }

    fn inline(&mut self, value: &Json, at: &Location, merged: &mut Map<String, Json>) {
        without_references(value, at, self.findings);
        if let Json::Object(value) = value {
            merge_values(merged, value.clone());
        }
    }

    fn inline_template(&mut self, value: &Json, at: &Location, merged: &mut Map<String, Json>) {
        match rendered_inline(self.files, value, at, self.data) {
            Ok(values) => values.iter().for_each(|value| self.inline(value, at, merged)),
            Err(diagnostic) => self.findings.found.push(diagnostic),
        }
    }

    fn file(&mut self, draft: &Draft, written: &Text, merged: &mut Map<String, Json>) {
        let prefix = draft.values_path_prefix.as_deref().unwrap_or_default();
        let missing = draft.missing.or(self.missing);
        let file = ValuesFile { files: self.files, what: &self.what, noun: "values file", data: self.data, missing };
        let Some((origin, text)) = file.read(prefix, written, self.findings) else { return };
        match yaml::parse_as(&origin, &text, Dialect::Kubernetes) {
            Ok(documents) => documents.iter().for_each(|node| self.document(&origin, node, merged)),
            Err(diagnostic) => self.findings.found.push(diagnostic),
        }
    }

    fn document(&mut self, origin: &yaml::Origin, node: &Node, merged: &mut Map<String, Json>) {
        if let Err(bad) = finite(node) {
            return self.findings.error(&origin.location(bad.at), NOT_FINITE);
        }
        let values = node.to_json();
        without_references(&values, &origin.location(node.at), self.findings);
        match values {
            Json::Object(values) => merge_values(merged, values),
            Json::Null => self
                .findings
                .notices
                .push(format!("{origin}: the values of {} are null; the chart's defaults apply", self.what)),
            _ => self.findings.error(
                &origin.location(node.at),
                format!("values of {} must be a mapping, not {}", self.what, node.value.kind()),
            ),
        }
    }
}

/// Renders an inline mapping as a template: written as YAML, rendered, parsed again.
fn rendered_inline(files: &FileContext<'_>, value: &Json, at: &Location, data: &Json) -> Result<Vec<Json>, Diagnostic> {
    let not_yaml = |error| Diagnostic::at_location(at.clone(), format!("cannot write the values as YAML: {error}"));
    let text = yaml::to_string(value).map_err(not_yaml)?;
    let source = TemplateSource { origin: at.origin.clone(), text: &text, start: at.position, indent: 0 };
    let text = template::render(&source, data, &files.functions(&files.folder))?;
    let documents = yaml::parse_as(&at.origin, &text, Dialect::Untyped)?;
    Ok(documents.iter().map(Node::to_json).collect())
}

/// A values file or patch file of a release.
pub(super) struct ValuesFile<'f> {
    pub(super) files: &'f FileContext<'f>,
    pub(super) what: &'f str,
    /// The kind of file in messages.
    pub(super) noun: &'f str,
    pub(super) data: &'f Json,
    pub(super) missing: Option<Missing>,
}

impl ValuesFile<'_> {
    /// Reads the file, renders it if it is a template, and returns the text with its origin.
    pub(super) fn read(&self, prefix: &str, written: &Text, findings: &mut Findings) -> Option<(yaml::Origin, String)> {
        let name = match template::render(&written.source(), self.data, &self.files.functions(&self.files.folder)) {
            Ok(name) => name,
            Err(diagnostic) => {
                findings.found.push(diagnostic);
                return None;
            }
        };
        let name = format!("{prefix}{name}");
        let origin = self.files.origin(&self.files.path(&name));
        let paths = self.files.expand(&name);
        let [path] = paths.as_slice() else {
            let message = match (paths.len(), self.missing) {
                (0, Some(Missing::Tolerated)) => {
                    let notice = format!("{}: {} {origin} of {} not found, skipped", written.at, self.noun, self.what);
                    findings.notices.push(notice);
                    return None;
                }
                (0, _) => format!("{} not found: {origin}", self.noun),
                (count, _) => format!("{origin} matches {count} files, expected one {}", self.noun),
            };
            findings.error(&written.at, message);
            return None;
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                findings.error(&written.at, format!("cannot read {} {origin}: {error}", self.noun));
                return None;
            }
        };
        if path.extension().is_none_or(|extension| extension != "gotmpl") {
            return Some((self.files.origin(path), text));
        }
        let folder = path.parent().unwrap_or(&self.files.folder);
        let origin = self.files.origin(path);
        match template::render(&TemplateSource::file(&origin, &text), self.data, &self.files.functions(folder)) {
            Ok(text) => Some((yaml::Origin::new(format!("<{origin} for {}>", self.what)), text)),
            Err(diagnostic) => {
                let noun = if self.noun == "values file" { "values" } else { self.noun };
                let message = format!("{noun} of {}: {}", self.what, diagnostic.message);
                findings.found.push(Diagnostic { message, ..diagnostic });
                None
            }
        }
    }
}
