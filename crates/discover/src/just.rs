//! just: `export NAME := justfile_directory() / "x"`, or a text alone (just 1.4x "Export").

use lazy_regex::regex;

use crate::recipe_environment::RecipeEnvironment;

const FILES: [&str; 3] = ["justfile", "Justfile", ".justfile"];

pub(crate) fn read(environment: &mut RecipeEnvironment<'_>) {
    for file in FILES {
        let Some(text) = environment.text(file) else { continue };
        for line in text.lines() {
            if let Some(Assignment { name, value, is_exported: true }) = Assignment::parse(line) {
                let value = match value {
                    Value::BelowRoot(path) => format!("{}/{path}", environment.folder()),
                    Value::Text(text) => text.to_owned(),
                };
                environment.set(name, value);
            }
        }
    }
}

/// A line that gives a variable a value which needs no evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment<'t> {
    pub(crate) name: &'t str,
    pub(crate) value: Value<'t>,
    is_exported: bool,
}

/// What just makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'t> {
    Text(&'t str),
    /// `justfile_directory() / "x"`: a path below the repository's root.
    BelowRoot(&'t str),
}

impl<'t> Assignment<'t> {
    pub(crate) fn parse(line: &'t str) -> Option<Self> {
        let assignment = regex!(
            r#"^(export\s+)?([A-Za-z_]\w*)\s*:=\s*(justfile_dir(?:ectory)?\(\)\s*[+/]\s*)?["']([^"'{]*)["']\s*$"#
        );
        let found = assignment.captures(line)?;
        let text = found.get(4)?.as_str();
        let value = match found.get(3) {
            Some(_) => Value::BelowRoot(text.trim_start_matches('/')),
            None => Value::Text(text),
        };
        Some(Self { name: found.get(2)?.as_str(), value, is_exported: found.get(1).is_some() })
    }
}
