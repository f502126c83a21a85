//! Applies the patches of a talconfig: templates, then variables, then the merge.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::model::{Patch, Talconfig};
use super::substitute::substitute;
use super::types;
use crate::line_map::LineMap;
use crate::{LayerSource, RenderedConfig};
use talos_schema::{Documents, MergeError, parse_documents};
use template::{Functions, TemplateSource};
use yaml::{Diagnostic, Diagnostics, Node, Position};

impl Talconfig {
    /// Applies a list of patches. All their templates see the config before the first patch.
    pub(super) fn apply(&self, rendered: &mut RenderedConfig, patches: &[Patch]) -> Result<(), Diagnostics> {
        let texts: Vec<String> = self.texts(rendered, patches)?;
        for (patch, text) in patches.iter().zip(&texts) {
            let nodes = nodes(patch, text)?;
            let read =
                talos_schema::ConfigPatch::parse(&patch.origin, text).map_err(|found| moved_all(patch, found))?;
            if read.is_empty() && rendered.documents.0.len() > 1 {
                return Err(Diagnostic::at_location(patch.at.clone(), "the patch is empty")
                    .with_hint(
                        "talhelper treats it as a JSON patch, which cannot be applied to several documents; remove it",
                    )
                    .into());
            }
            let merged = read.apply(&rendered.documents).map_err(|error| apply_errors(patch, error))?;
            let written = LayerSource { origin: &patch.origin, documents: &nodes };
            rendered.patch("patch", &patch.at, written, merged);
        }
        Ok(())
    }

    /// Adds the documents of extra manifests unchanged.
    pub(super) fn add(&self, rendered: &mut RenderedConfig, extra: &[Patch]) -> Result<(), Diagnostics> {
        let view = template_data(&rendered.documents);
        for manifest in extra {
            let text = expand(manifest, &view, &self.variables)?;
            let nodes = nodes(manifest, &text)?;
            let more = parse_documents(&manifest.origin, &text).map_err(|diagnostic| moved(manifest, diagnostic))?;
            let documents = Documents([rendered.documents.0.clone(), more.0].concat());
            let written = LayerSource { origin: &manifest.origin, documents: &nodes };
            rendered.patch("extra manifest", &manifest.at, written, documents);
        }
        Ok(())
    }

    fn texts(&self, rendered: &RenderedConfig, patches: &[Patch]) -> Result<Vec<String>, Diagnostics> {
        let view = template_data(&rendered.documents);
        let mut found = Diagnostics::default();
        let lookup = |name: &str| self.variables.get(name).cloned();
        let mut texts = Vec::new();
        for patch in patches {
            match expand(patch, &view, &self.variables) {
                Ok(text) if patch.is_file() => texts.push(substitute(&patch.origin, &text, &lookup, &mut found)),
                Ok(text) => texts.push(text),
                Err(diagnostic) => found.push(diagnostic),
            }
        }
        found.into_result(texts)
    }
}

fn template_data(documents: &Documents) -> Value {
    types::view(documents.legacy().unwrap_or(&Value::Null))
}

fn expand(patch: &Patch, view: &Value, variables: &BTreeMap<String, String>) -> Result<String, Diagnostic> {
    if !patch.text.contains("{{") {
        return Ok(patch.text.clone());
    }
    let source =
        TemplateSource { origin: patch.origin.clone(), text: &patch.text, start: patch.start, indent: patch.indent };
    let functions = Functions::new(Path::new("."), Path::new("."), variables);
    template::render(&source, view, &functions)
}

/// The documents of the patch with their places in its file.
fn nodes(patch: &Patch, text: &str) -> Result<Vec<Node>, Diagnostic> {
    let lines = LineMap::new(&patch.text, text);
    let mut nodes = yaml::parse(&patch.origin, text).map_err(|diagnostic| moved(patch, diagnostic))?;
    for node in &mut nodes {
        node.relocate(&|at: Position| patch.place(Position { line: lines.source(at.line), ..at }));
    }
    Ok(nodes)
}

fn moved(patch: &Patch, mut diagnostic: Diagnostic) -> Diagnostic {
    if let Some(location) = &mut diagnostic.location {
        location.position = patch.place(location.position);
    }
    diagnostic
}

fn moved_all(patch: &Patch, found: Diagnostics) -> Diagnostics {
    let mut all = Diagnostics::default();
    all.extend(found.into_iter().map(|diagnostic| moved(patch, diagnostic)));
    all
}

/// Errors without a place get the place of the patch in the talconfig.
fn apply_errors(patch: &Patch, error: MergeError) -> Diagnostics {
    let mut all = Diagnostics::default();
    for diagnostic in error.0 {
        let diagnostic = moved(patch, diagnostic);
        let location = diagnostic.location.or_else(|| Some(patch.at.clone()));
        let message = format!("cannot apply the patch: {}", diagnostic.message);
        all.push(Diagnostic { location, message, hint: diagnostic.hint });
    }
    all
}
