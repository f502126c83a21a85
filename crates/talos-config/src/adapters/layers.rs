//! Layers of patch files.

use std::path::{Path, PathBuf};

use crate::line_map::LineMap;
use crate::{LayerSource, RenderedConfig};
use talos_schema::{ConfigPatch, parse_documents};
use yaml::{Diagnostic, Diagnostics, Location, Node, Origin, Position};

/// The text of a layer and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) origin: Origin,
    pub(super) text: String,
    /// Maps lines of the text to lines of the template.
    pub(super) lines: LineMap,
}

impl Layer {
    /// A layer without a template.
    pub(super) fn plain(origin: Origin, text: String) -> Self {
        Self { origin, text, lines: LineMap::default() }
    }

    /// The documents of the layer, with their places in its file.
    fn nodes(&self) -> Result<Vec<Node>, Diagnostic> {
        let mut nodes = yaml::parse(&self.origin, &self.text).map_err(|mut diagnostic| {
            if let Some(location) = &mut diagnostic.location {
                location.position.line = self.lines.source(location.position.line);
            }
            diagnostic
        })?;
        for node in &mut nodes {
            node.relocate(&|at: Position| Position { line: self.lines.source(at.line), ..at });
        }
        Ok(nodes)
    }

    fn start(&self) -> Location {
        self.origin.location(Position { line: 1, column: 1 })
    }

    /// Parses the layer as a config.
    ///
    /// # Errors
    ///
    /// The text is invalid YAML or empty.
    pub(super) fn parse_config(&self) -> Result<RenderedConfig, Diagnostics> {
        let nodes = self.nodes()?;
        let documents = parse_documents(&self.origin, &self.text)?;
        if documents.0.is_empty() {
            return Err(self.empty().into());
        }
        let written = LayerSource { origin: &self.origin, documents: &nodes };
        Ok(RenderedConfig::new(self.origin.as_str(), Some(written), documents))
    }

    /// Applies the layer as a patch.
    ///
    /// # Errors
    ///
    /// The text is invalid YAML or empty, or the patch cannot be applied.
    pub(super) fn apply_to(&self, rendered: &mut RenderedConfig) -> Result<(), Diagnostics> {
        let nodes = self.nodes()?;
        let patch = ConfigPatch::parse(&self.origin, &self.text).map_err(|found| self.located(found))?;
        if patch.is_empty() {
            return Err(self.empty().into());
        }
        let merged = patch.apply(&rendered.documents).map_err(|error| self.located(error.0))?;
        let written = LayerSource { origin: &self.origin, documents: &nodes };
        rendered.patch(self.origin.as_str(), &self.start(), written, merged);
        Ok(())
    }

    /// Maps findings to lines of the layer's file.
    fn located(&self, found: Diagnostics) -> Diagnostics {
        let mut all = Diagnostics::default();
        for mut diagnostic in found {
            let mut location = diagnostic.location.unwrap_or_else(|| self.start());
            if location.origin == self.origin {
                location.position.line = self.lines.source(location.position.line);
            }
            diagnostic.location = Some(location);
            all.push(diagnostic);
        }
        all
    }

    fn empty(&self) -> Diagnostic {
        Diagnostic::at_location(self.start(), "this layer is empty")
            .with_hint("remove the file; if it is a template, check its conditions")
    }
}

/// A path relative to the repository, for messages.
pub(super) fn origin(root: &Path, path: &Path) -> Origin {
    Origin::of_path(path.strip_prefix(root).unwrap_or(path))
}

/// The files below a directory with one of the extensions, sorted by path.
pub(super) fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found
}
