//! Values: files, templates and inline mappings, merged as Helm merges them.

use serde_json::{Map, Value as Json};

use super::Site;
use super::merge::merge_values;
use super::state::{Draft, Text, Values};
use crate::template::{self, Source};
use crate::yaml::{self, Diagnostic, Diagnostics, Dialect, Node, Value};

pub(super) const NOT_FINITE: &str = "values cannot hold this number: JSON, and so Helm, has no infinity and no NaN";

/// Refuses `.inf` and `.nan`.
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

/// The values of a release being put together.
pub(super) struct Merging<'m> {
    pub(super) site: &'m Site<'m>,
    pub(super) what: String,
    /// What its templates see.
    pub(super) data: &'m Json,
    pub(super) notices: &'m mut Vec<String>,
    pub(super) found: &'m mut Diagnostics,
}

impl Merging<'_> {
    /// `valuesTemplate` first, then `values`, each in order.
    pub(super) fn run(mut self, draft: &Draft) -> Json {
        let mut merged = Map::new();
        for item in &draft.values_template {
            match item {
                Values::Path(path) => self.file(draft, path, &mut merged),
                Values::Inline(value, at) => self.inline_template(value, at, &mut merged),
            }
        }
        for item in &draft.values {
            match item {
                Values::Path(path) => self.file(draft, path, &mut merged),
                Values::Inline(Json::Object(value), _) => merge_values(&mut merged, value.clone()),
                Values::Inline(..) => {}
            }
        }
        Json::Object(merged)
    }

    fn inline_template(&mut self, value: &Json, at: &yaml::Location, merged: &mut Map<String, Json>) {
        let functions = self.site.functions(&self.site.folder);
        let rendered = yaml::to_string(value).map_err(|error| Diagnostic::at(at.clone(), error.to_string()));
        let rendered = rendered.and_then(|text| {
            let source = Source { origin: at.origin.clone(), text: &text, start: at.position, indent: 0 };
            let text = template::render(&source, self.data, &functions)?;
            yaml::parse_as(&at.origin, &text, Dialect::Untyped)
        });
        match rendered {
            Ok(documents) => {
                let values = documents.iter().filter_map(|node| node.to_json().as_object().cloned());
                values.for_each(|value| merge_values(merged, value));
            }
            Err(diagnostic) => self.found.push(diagnostic),
        }
    }

    fn file(&mut self, draft: &Draft, written: &Text, merged: &mut Map<String, Json>) {
        let site = self.site;
        let name = match template::render(&written.source(), self.data, &site.functions(&site.folder)) {
            Ok(name) => name,
            Err(diagnostic) => return self.found.push(diagnostic),
        };
        let prefix = draft.values_path_prefix.as_deref().unwrap_or_default();
        let path = site.path(&format!("{prefix}{name}"));
        let origin = site.origin(&path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && draft.tolerates_missing => {
                self.notices.push(format!("{}: {} does without {origin}, which is not there", written.at, self.what));
                return;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.found.error(written.at.clone(), format!("there is no values file {origin}"));
            }
            Err(error) => {
                return self
                    .found
                    .error(written.at.clone(), format!("the values file {origin} cannot be read: {error}"));
            }
        };
        let is_template = path.extension().is_some_and(|extension| extension == "gotmpl");
        let text = if is_template {
            let folder = path.parent().unwrap_or(&site.folder);
            match template::render(&Source::file(&origin, &text), self.data, &site.functions(folder)) {
                Ok(text) => text,
                Err(diagnostic) => {
                    let message = format!("values of {}: {}", self.what, diagnostic.message);
                    return self.found.push(Diagnostic { message, ..diagnostic });
                }
            }
        } else {
            text
        };
        let shown = if is_template { yaml::Origin::new(format!("<{origin} for {}>", self.what)) } else { origin };
        match yaml::parse_as(&shown, &text, Dialect::Kubernetes) {
            Ok(documents) => documents.iter().for_each(|node| self.document(&shown, node, merged)),
            Err(diagnostic) => self.found.push(diagnostic),
        }
    }

    fn document(&mut self, origin: &yaml::Origin, node: &Node, merged: &mut Map<String, Json>) {
        if let Err(bad) = finite(node) {
            return self.found.error(origin.at(bad.at), NOT_FINITE);
        }
        match node.to_json() {
            Json::Object(values) => merge_values(merged, values),
            Json::Null => self.notices.push(format!(
                "{origin} gives {} no values at all (null): the chart's defaults are installed",
                self.what
            )),
            _ => self.found.error(
                origin.at(node.at),
                format!("values of {} must be a mapping, this is {}", self.what, node.value.kind()),
            ),
        }
    }
}
