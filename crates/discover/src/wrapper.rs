//! Programs that recipes start other tools with, so that these see secrets as variables: `infisical run -- minijinja-cli`.

use std::path::Path;

use lazy_regex::regex;
use yaml::{Location, Origin, Position};

use crate::recipes;

/// A program that recipes start a template tool with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    /// The program with its arguments, as the recipe has them.
    pub command: String,
    pub at: Location,
}

impl Wrapper {
    /// The first one in the repository's recipes.
    pub fn find(root: &Path) -> Option<Self> {
        let wrapper = regex!(
            r"\b((?:infisical run|envconsul|op run|doppler run|bws run|vals exec|sops exec-env|secretspec run|chamber exec|teller run)\b.*?)\s+(?:minijinja-cli|minijinja|talhelper|makejinja)\b"
        );
        recipes::files(root).iter().find_map(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(path));
            text.lines().enumerate().find_map(|(index, line)| {
                let command = wrapper.captures(line)?[1].to_owned();
                Some(Self { command, at: origin.location(Position { line: index + 1, column: 1 }) })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_with_its_arguments() {
        let root = tempfile::tempdir().unwrap();
        let recipe = "login:\n    infisical run --path=/x -- true\ntemplate file:\n    \
                      infisical run --env=prod -- minijinja-cli \"{{ file }}\"\n";
        std::fs::write(root.path().join(".justfile"), recipe).unwrap();
        let found = Wrapper::find(root.path()).unwrap();
        assert_eq!(
            (found.command.as_str(), found.at.to_string().as_str()),
            ("infisical run --env=prod --", ".justfile:4:1")
        );
        std::fs::write(root.path().join(".justfile"), "template file:\n    minijinja-cli \"{{ file }}\"\n").unwrap();
        assert_eq!(Wrapper::find(root.path()), None);
    }
}
