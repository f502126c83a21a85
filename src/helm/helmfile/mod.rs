//! Helmfiles: what an operator wrote, as releases with their needs and hooks.
//!
//! [`read()`] takes one state file with its bases, templates and values files to [`Release`]s that are ready to install;
//! [`check`] looks at several as one graph. Every mistake is found at once, before anything is touched. The semantics are
//! those of helmfile 1.7; a key that it has and this room has not is refused by name. Nothing here runs Helm.

mod chart;
mod graph;
mod hooks;
mod inherit;
mod layers;
mod merge;
mod model;
mod read;
mod render;
mod state;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use graph::check;
pub use merge::merge_values;
pub use model::{Chart, Flags, Helmfile, Hook, HookEvent, OnFailure, Release, ReleaseId, Wait};

use crate::template::{Functions, clean};
use crate::yaml::{Diagnostics, Origin};

/// Reads the state file at `path` with everything that it pulls in. Messages name files relative to `root`;
/// `environment` is what `env` and `requiredEnv` see.
///
/// # Errors
///
/// Everything that is wrong, all at once.
pub fn read(root: &Path, path: &Path, environment: &BTreeMap<String, String>) -> Result<Helmfile, Diagnostics> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (root, path) = (clean(&absolute(root)), clean(&absolute(path)));
    let folder = path.parent().map_or_else(|| root.clone(), Path::to_owned);
    let site = Site { root, folder, environment };
    let mut found = Diagnostics::default();
    let state = layers::load(&site, &path, &mut found);
    let mut helmfile = Helmfile { path, ..Helmfile::default() };
    for draft in inherit::resolve(&state, &mut helmfile.notices, &mut found) {
        if draft.installed == Some(false) {
            continue;
        }
        if let Some(release) = render::release(&site, &state, &draft, &mut helmfile.notices, &mut found) {
            helmfile.releases.push(release);
        }
    }
    let mut sorted: Vec<_> = found.into_iter().collect();
    sorted.sort_by(|a, b| a.location.cmp(&b.location));
    let mut found = Diagnostics::default();
    found.extend(sorted);
    found.into_result(helmfile)
}

/// Where a state file lives and what its templates see.
struct Site<'s> {
    root: PathBuf,
    /// The state file's; what it names relatively is meant from here, and so is what its bases name.
    folder: PathBuf,
    environment: &'s BTreeMap<String, String>,
}

impl Site<'_> {
    fn path(&self, written: &str) -> PathBuf {
        clean(&self.folder.join(written))
    }

    fn origin(&self, path: &Path) -> Origin {
        Origin::of_path(path.strip_prefix(&self.root).unwrap_or(path))
    }

    /// The functions of templates that read relative to `folder`.
    fn functions(&self, folder: &Path) -> Functions {
        Functions::new(&self.root, folder, self.environment)
    }
}

#[cfg(test)]
mod tests;
