//! The variables that are read from the recipes of a repository, file by file.

use std::path::Path;

use crate::expand::expand;
use crate::{Variables, dotenv};

/// What the readers of the formats fill, one after the other: a later one counts more.
pub(crate) struct RecipeEnvironment<'r> {
    pub(crate) root: &'r Path,
    pub(crate) own: &'r Variables,
    set: Variables,
}

impl<'r> RecipeEnvironment<'r> {
    pub(crate) fn new(root: &'r Path, own: &'r Variables) -> Self {
        Self { root, own, set: Variables::new() }
    }

    /// What the files set.
    pub(crate) fn into_set(self) -> Variables {
        self.set
    }

    /// The text of a file of the repository, where it exists.
    pub(crate) fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.set.insert(name.to_owned(), value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.own.get(name).or_else(|| self.set.get(name)).cloned()
    }

    /// The repository's folder as tools give it to recipes: without a slash at its end.
    pub(crate) fn folder(&self) -> String {
        self.root.to_string_lossy().trim_end_matches('/').to_owned()
    }

    /// Expands `{{ … }}` with the tools' own names for the folder, `local` variables, and what is set so far.
    pub(crate) fn expand(&self, text: &str, local: &Variables) -> Option<String> {
        expand(text, &|name| match name {
            "config_root" | "ROOT_DIR" | "TASKFILE_DIR" | "USER_WORKING_DIR" | "cwd" => Some(self.folder()),
            name => local.get(name).cloned().or_else(|| self.get(name)),
        })
    }

    /// Sets the variables of a dotenv file; a file that does not exist sets none.
    pub(crate) fn dotenv_file(&mut self, name: &str) {
        let Some(text) = self.text(name) else { return };
        let outer = |name: &str| self.get(name);
        if let Some(variables) = dotenv::parse(&text, &outer) {
            self.set.extend(variables);
        }
    }
}
