//! Phases: named parts of a bootstrap, read from `phases/*.yaml`. Phases are data, steps are code.

use std::collections::BTreeSet;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::PhaseName;
use yaml::{Diagnostic, Diagnostics, Fields, Origin};

static BUILTIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../phases");

/// One phase as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseSpec {
    pub name: PhaseName,
    /// One sentence for `plan` and the progress display.
    pub summary: String,
    /// Phases that come before this one.
    pub after: Vec<PhaseName>,
    /// Names of the helmfile releases whose steps belong here.
    pub releases: Vec<String>,
}

/// Every phase, in an order in which each stands behind all that it comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases(Vec<PhaseSpec>);

impl Phases {
    pub fn iter(&self) -> std::slice::Iter<'_, PhaseSpec> {
        self.0.iter()
    }

    pub fn names(&self) -> Vec<PhaseName> {
        self.0.iter().map(|phase| phase.name.clone()).collect()
    }

    /// The phase that claims the release, `apps` when none does.
    pub fn of_release(&self, release: &str) -> PhaseName {
        self.0
            .iter()
            .find(|phase| phase.releases.iter().any(|name| name == release))
            .map_or_else(|| PhaseName::new("apps"), |phase| phase.name.clone())
    }

    fn ordered(specs: Vec<(Origin, PhaseSpec)>) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::default();
        let names: BTreeSet<_> = specs.iter().map(|(_, spec)| spec.name.clone()).collect();
        for (origin, spec) in &specs {
            for before in spec.after.iter().filter(|name| !names.contains(name)) {
                found.push(Diagnostic::general(format!("{origin}: comes after the unknown phase `{before}`")));
            }
        }
        found.into_result(())?;
        let mut rest: Vec<PhaseSpec> = specs.into_iter().map(|(_, spec)| spec).collect();
        let mut ordered: Vec<PhaseSpec> = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            let placed = |name: &PhaseName| ordered.iter().any(|phase| phase.name == *name);
            let Some(next) = rest.iter().position(|phase| phase.after.iter().all(placed)) else {
                let cycle: Vec<_> = rest.iter().map(|phase| phase.name.as_str()).collect();
                return Err(Diagnostic::general(format!("phases wait for each other: {}", cycle.join(", "))).into());
            };
            ordered.push(rest.remove(next));
        }
        Ok(Self(ordered))
    }
}

/// The phases that are built into the binary.
///
/// # Errors
///
/// Never for an unmodified binary; a test reads them.
pub fn builtin_phases() -> Result<Phases, Diagnostics> {
    let mut files: Vec<_> = BUILTIN.files().collect();
    files.sort_by_key(|file| file.path());
    parse_phases(files.into_iter().filter_map(|file| {
        Some((Origin::new(format!("<built in>/{}", file.path().display())), file.contents_utf8()?.to_owned()))
    }))
}

/// The phases of a repository: `phases/*.yaml` in file-name order, the built-in ones when that folder does not exist.
///
/// # Errors
///
/// Every mistake in the files, with its place.
pub fn read_phases(root: &Path) -> Result<Phases, Diagnostics> {
    let folder = root.join("phases");
    let Ok(entries) = std::fs::read_dir(&folder) else { return builtin_phases() };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"))
        .collect();
    paths.sort();
    let mut texts = Vec::with_capacity(paths.len());
    for path in paths {
        let origin = Origin::of_path(path.strip_prefix(root).unwrap_or(&path));
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push((origin, text)),
            Err(error) => return Err(Diagnostic::general(format!("cannot read {origin}: {error}")).into()),
        }
    }
    parse_phases(texts)
}

fn parse_phases(texts: impl IntoIterator<Item = (Origin, String)>) -> Result<Phases, Diagnostics> {
    let mut found = Diagnostics::default();
    let mut specs: Vec<(Origin, PhaseSpec)> = Vec::new();
    for (origin, text) in texts {
        match parse_phase(&origin, &text, &mut found) {
            Some(spec) if specs.iter().any(|(_, known)| known.name == spec.name) => {
                found.push(Diagnostic::general(format!("{origin}: a second phase `{}`", spec.name)));
            }
            Some(spec) => specs.push((origin, spec)),
            None => {}
        }
    }
    found.into_result(specs).and_then(Phases::ordered)
}

fn parse_phase(origin: &Origin, text: &str, found: &mut Diagnostics) -> Option<PhaseSpec> {
    let node = match yaml::parse_one(origin, text) {
        Ok(node) => node,
        Err(diagnostic) => {
            found.push(diagnostic);
            return None;
        }
    };
    let mut fields = Fields::from_node(origin, &node, "the phase", found);
    let name = fields.required_string("name", found);
    let summary = fields.required_string("summary", found);
    let after = fields.strings("after", found).iter().map(PhaseName::new).collect();
    let releases = fields.strings("releases", found);
    fields.finish(found);
    Some(PhaseSpec { name: PhaseName::new(name?), summary: summary?, after, releases })
}
