//! Reads helmfiles: releases with their values, needs, hooks and patches.
//!
//! [`read()`] reads a state file, or a folder of them, with bases, environments, templates, values files and
//! sub-helmfiles, to [`Release`]s that can be installed; [`check_needs`] checks several as one graph; [`patch`] patches
//! what charts render. All mistakes are reported at once. The semantics are helmfile 1.7's; a key that is not supported is
//! rejected by name. Nothing here runs Helm.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod chart;
mod entries;
mod environment;
mod fields;
mod graph;
mod hooks;
mod inherit;
mod layers;
mod merge;
mod model;
mod options;
pub mod patch;
mod patches;
mod reader;
mod render;
mod selector;
pub mod set;
mod sets;
mod settings;
mod state;
mod values;
mod visit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use environment::DEFAULT as DEFAULT_ENVIRONMENT;
pub use graph::{check_duplicates, check_needs};
pub use merge::merge_values;
pub use model::{
    Chart, Credentials, FetchOptions, Helmfile, Hook, HookEvent, HookSide, InstallFlags, ListedRelease, OnFailure,
    Patch, PatchTarget, Release, ReleaseId, StateFile, Wait,
};
pub use options::{HelmfileOptions, ReadDepth, StateValue, StateValueError};
pub use selector::{Selector, SelectorError};

use template::{Functions, ProgramRunner, clean};
use yaml::{Diagnostics, Location, Origin};

/// Reads the state file at `path`, or every one in that folder, with all files that it names. Messages name files relative
/// to `root`; `variables` are the environment variables of `env` and `requiredEnv`.
///
/// # Errors
///
/// All mistakes.
pub fn read(
    root: &Path,
    path: &Path,
    variables: &BTreeMap<String, String>,
    options: &HelmfileOptions,
) -> Result<Helmfile, Diagnostics> {
    let absolute = |path: &Path| clean(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let (helmfile, found) = visit::visit(&absolute(root), &absolute(path), variables, options);
    let mut sorted: Vec<_> = found.into_iter().collect();
    sorted.sort_by(|a, b| a.location.cmp(&b.location));
    let mut found = Diagnostics::default();
    found.extend(sorted);
    found.into_result(helmfile)
}

/// Errors and notices.
#[derive(Debug, Default)]
struct Findings {
    found: Diagnostics,
    notices: Vec<String>,
}

impl Findings {
    fn error(&mut self, at: &Location, message: impl Into<String>) {
        self.found.error(at.clone(), message);
    }
}

/// The location of a state file, and the environment variables of its templates.
struct FileContext<'s> {
    root: PathBuf,
    /// The state file's folder; relative paths in it and in its bases are resolved here.
    folder: PathBuf,
    variables: &'s BTreeMap<String, String>,
    programs: Option<&'s Arc<dyn ProgramRunner>>,
}

impl FileContext<'_> {
    fn path(&self, written: &str) -> PathBuf {
        clean(&self.folder.join(written))
    }

    /// The files and folders that a path or a pattern matches, sorted by name.
    fn expand(&self, written: &str) -> Vec<PathBuf> {
        let path = self.path(written);
        if !written.contains(['*', '?', '[']) {
            return if path.exists() { vec![path] } else { vec![] };
        }
        let pattern = match path.strip_prefix(&self.folder) {
            Ok(rest) => {
                let folder = glob::Pattern::escape(&self.folder.to_string_lossy());
                format!("{folder}/{}", rest.to_string_lossy())
            }
            Err(_) => path.to_string_lossy().into_owned(),
        };
        // In Go's patterns, `**` means `*`.
        let found = glob::glob(&pattern.replace("**", "*"));
        let mut paths: Vec<_> = found.into_iter().flatten().filter_map(Result::ok).collect();
        paths.sort();
        paths
    }

    fn origin(&self, path: &Path) -> Origin {
        Origin::of_path(path.strip_prefix(&self.root).unwrap_or(path))
    }

    /// Template functions that resolve paths against `folder`.
    fn functions(&self, folder: &Path) -> Functions {
        Functions::new(&self.root, folder, self.variables).with_programs(self.programs.cloned())
    }
}

#[cfg(test)]
mod tests;
