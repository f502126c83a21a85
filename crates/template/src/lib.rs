//! Go templates as helmfile runs them: `text/template` with sprig's and helmfile's functions and `missingkey=error`.
//!
//! [`render`] takes text and data and returns text or one diagnostic. `gotmpl` parses; execution is ours, since a
//! diagnostic names the location, the path of the missing value and the file that it came from
//! (`docs/adr/0006-go-templates.md`). Functions of helmfile that are not supported here are rejected by name before
//! anything runs; among them are those whose result differs from run to run (dates, random values).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod execute;
mod functions;
pub mod jinja;
mod parse;
mod place;
mod value;

use serde_json::Value;

pub use functions::{Functions, ProgramCall, ProgramRunner, clean, moved};

use yaml::{Diagnostic, Location, Origin, Position};

/// The text of a template, and where it is written.
#[derive(Debug, Clone)]
pub struct TemplateSource<'t> {
    pub origin: Origin,
    pub text: &'t str,
    /// The position of the first character.
    pub start: Position,
    /// Indentation of the later lines, as in a YAML block scalar.
    pub indent: usize,
}

impl<'t> TemplateSource<'t> {
    /// A file that is a template as a whole.
    pub fn file(origin: &Origin, text: &'t str) -> Self {
        Self { origin: origin.clone(), text, start: Position { line: 1, column: 1 }, indent: 0 }
    }

    /// The location of a byte of the text.
    fn at(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let column = column + if line == 0 { self.start.column } else { self.indent + 1 };
        self.origin.location(Position { line: self.start.line + line, column })
    }
}

/// Renders a template with `data` as its dot.
///
/// # Errors
///
/// The first mistake, with its location: syntax, an unknown function, a missing value, a function that fails.
pub fn render(source: &TemplateSource<'_>, data: &Value, functions: &Functions) -> Result<String, Diagnostic> {
    execute::render(source, data, functions, 0)
}

#[cfg(test)]
mod tests;
