//! The lists of values that make up `.Values`: of state files, of environments, and of sub-helmfiles.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::environment::Environment;
use super::merge::{Lists, merge_layer, merge_values};
use super::state::{Missing, Strategy, Text, Values};
use super::{FileContext, Findings, values};
use template::TemplateSource;
use yaml::{Dialect, Origin};

/// How a list of values is read.
pub(super) struct Entries<'e> {
    pub(super) files: &'e FileContext<'e>,
    /// The environment that its templates see.
    pub(super) context: &'e Environment,
    pub(super) missing: Option<Missing>,
    pub(super) strategy: Strategy,
}

impl Entries<'_> {
    /// Merges all items; the files that a pattern matches in order of their names.
    pub(super) fn load(&self, entries: &[Values], findings: &mut Findings) -> Map<String, Json> {
        let mut merged = Map::new();
        for entry in entries {
            match entry {
                Values::Path(written) => {
                    for path in self.paths(written, findings) {
                        if let Some(values) = self.file(&path, &merged, findings) {
                            self.merge(&mut merged, values);
                        }
                    }
                }
                Values::Inline(Json::Object(values), _) => self.merge(&mut merged, values.clone()),
                Values::Inline(..) => {}
                Values::Other(kind, at) => findings.error(at, Values::invalid(kind)),
            }
        }
        merged
    }

    fn merge(&self, merged: &mut Map<String, Json>, over: Map<String, Json>) {
        match self.strategy {
            Strategy::Override => merge_values(merged, over),
            Strategy::Fallback => {
                let first = std::mem::replace(merged, over);
                merge_layer(merged, &first, Lists::Replace);
            }
        }
    }

    fn paths(&self, written: &Text, findings: &mut Findings) -> Vec<PathBuf> {
        let paths = self.files.expand(&written.raw);
        if paths.is_empty() {
            let origin = self.files.origin(&self.files.path(&written.raw));
            match self.missing {
                Some(Missing::Tolerated) => {
                    findings.notices.push(format!("{}: values file {origin} not found, skipped", written.at));
                }
                _ => findings.error(&written.at, format!("values file not found: {origin}")),
            }
        }
        paths
    }

    /// Reads the first document of a file, which may be a template.
    fn file(&self, path: &Path, so_far: &Map<String, Json>, findings: &mut Findings) -> Option<Map<String, Json>> {
        let origin = self.files.origin(path);
        let text = match self.text(path, &origin, so_far) {
            Ok(text) => text,
            Err(diagnostic) => {
                findings.found.push(diagnostic);
                return None;
            }
        };
        let documents = match yaml::parse_as(&origin, &text, Dialect::Untyped) {
            Ok(documents) => documents,
            Err(diagnostic) => {
                findings.found.push(diagnostic);
                return None;
            }
        };
        let first = documents.first()?;
        if let Err(bad) = values::finite(first) {
            findings.error(&origin.location(bad.at), values::NOT_FINITE);
            return None;
        }
        match first.to_json() {
            Json::Object(values) => Some(values),
            Json::Null => None,
            _ => {
                let message = format!("values must be a mapping, not {}", first.value.kind());
                findings.error(&origin.location(first.at), message);
                None
            }
        }
    }

    fn text(&self, path: &Path, origin: &Origin, so_far: &Map<String, Json>) -> Result<String, yaml::Diagnostic> {
        let general = |message: String| yaml::Diagnostic::general(message);
        if path.extension().is_some_and(|extension| extension == "hcl") {
            return Err(general(format!("values file {origin}: HCL is not supported")));
        }
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| general(format!("cannot read values file {origin}: {error}")))?;
        if path.extension().is_none_or(|extension| extension != "gotmpl") {
            return Ok(text);
        }
        // A file sees the files before it only with `fallback`.
        let mut visible = Map::new();
        if self.strategy == Strategy::Fallback {
            visible.clone_from(so_far);
        }
        merge_values(&mut visible, self.context.merged());
        let folder = path.parent().unwrap_or(&self.files.folder);
        template::render(
            &TemplateSource::file(origin, &text),
            &self.context.data(&visible, ""),
            &self.files.functions(folder),
        )
    }
}
