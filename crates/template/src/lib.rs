//! Go templates as helmfile runs them: `text/template` with sprig's and helmfile's functions and `missingkey=error`.
//!
//! [`render`] is the whole of it: text and data in, text or one finding with its place out. `gotmpl` parses; execution is
//! ours, since a finding needs the place, the path of the missing value and the file that it came from
//! (`docs/adr/0006-go-templates.md`). A function that helmfile has and this room has not is refused by name before
//! anything runs. What varies from run to run (dates, random values) is left out on purpose.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod execute;
mod functions;
pub mod jinja;
mod parse;
mod place;
mod value;

use serde_json::Value;

pub use functions::{Functions, clean, moved};

use yaml::{Diagnostic, Location, Origin, Position};

/// A template and where it was written.
#[derive(Debug, Clone)]
pub struct Source<'t> {
    pub origin: Origin,
    pub text: &'t str,
    /// Where the first character stands.
    pub start: Position,
    /// Columns before each later line, as in a YAML block scalar.
    pub indent: usize,
}

impl<'t> Source<'t> {
    /// A file that is a template from its first character on.
    pub fn file(origin: &Origin, text: &'t str) -> Self {
        Self { origin: origin.clone(), text, start: Position { line: 1, column: 1 }, indent: 0 }
    }

    /// The place of a byte of the text.
    fn at(&self, offset: usize) -> Location {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let column = column + if line == 0 { self.start.column } else { self.indent + 1 };
        self.origin.at(Position { line: self.start.line + line, column })
    }
}

/// Renders a template with `data` as its dot.
///
/// # Errors
///
/// The first thing that is wrong, with its place: syntax, a function that is not known, a value that is missing, a
/// function that fails.
pub fn render(source: &Source<'_>, data: &Value, functions: &Functions) -> Result<String, Diagnostic> {
    execute::render(source, data, functions, 0)
}

#[cfg(test)]
mod tests;
