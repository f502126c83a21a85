//! Visits all state files of a path: folders, sub-helmfiles, and what they inherit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::entries::Entries;
use super::environment::Environment;
use super::layers::{Loaded, Start};
use super::model::{Helmfile, ReleaseId};
use super::options::HelmfileOptions;
use super::selector;
use super::selector::Selector;
use super::state::{Nested, State, Strategy, Text, Values};
use super::{FileContext, Findings, layers, render};
use yaml::{Diagnostic, Diagnostics, Origin, Position, near};

/// Maximum nesting of sub-helmfiles.
const MAX_DEPTH: usize = 16;

/// Reads all state files of `path`.
pub(super) fn visit(
    root: &Path,
    path: &Path,
    variables: &BTreeMap<String, String>,
    options: &HelmfileOptions,
) -> (Helmfile, Diagnostics) {
    let mut reading = Reading {
        root,
        variables,
        options,
        findings: Findings::default(),
        helmfile: Helmfile { path: path.to_owned(), ..Helmfile::default() },
        without_environment: BTreeSet::new(),
        stack: vec![],
    };
    let overrides = reading.command_line(path);
    let start = Visit { selectors: &options.selectors, overrides, inherited: None, after: vec![] };
    reading.path(path, &start);
    if reading.helmfile.files.is_empty() && !reading.without_environment.is_empty() {
        reading.report_unknown_environment();
    }
    let Reading { mut helmfile, findings, .. } = reading;
    helmfile.notices = findings.notices;
    (helmfile, findings.found)
}

struct Reading<'r> {
    root: &'r Path,
    variables: &'r BTreeMap<String, String>,
    options: &'r HelmfileOptions,
    findings: Findings,
    helmfile: Helmfile,
    /// The environments of files that do not have the requested one.
    without_environment: BTreeSet<Option<String>>,
    /// The files being read, outermost first.
    stack: Vec<PathBuf>,
}

/// What the parent passes to a file.
struct Visit<'v> {
    selectors: &'v [Selector],
    overrides: Option<Environment>,
    inherited: Option<Inherited<'v>>,
    /// Releases to install before.
    after: Vec<ReleaseId>,
}

/// What a sub-helmfile inherits.
struct Inherited<'i> {
    keys: &'i [String],
    parent: &'i Loaded,
}

impl Inherited<'_> {
    fn includes(&self, key: &str) -> bool {
        self.keys.iter().any(|inherited| inherited == key)
    }

    /// Fills the child's gaps from its parent.
    fn fill(&self, child: &mut State) {
        let parent = self.parent.state.clone();
        if self.includes("repositories") {
            let own: BTreeSet<String> = child.repositories.iter().map(|one| one.name.clone()).collect();
            let more = parent.repositories.into_iter().filter(|one| !own.contains(&one.name));
            child.repositories.splice(0..0, more);
        }
        if self.includes("helmDefaults") {
            child.defaults.fill(&parent.defaults);
        }
        if self.includes("commonLabels") {
            child.labels = parent.labels.into_iter().chain(std::mem::take(&mut child.labels)).collect();
        }
        if self.includes("templates") {
            child.templates = parent.templates.into_iter().chain(std::mem::take(&mut child.templates)).collect();
        }
        if self.includes("apiVersions") {
            let mut all = parent.api_versions;
            let more: Vec<_> = child.api_versions.iter().filter(|one| !all.contains(one)).cloned().collect();
            all.extend(more);
            child.api_versions = all;
        }
        if self.includes("kubeVersion") {
            child.kube_version = child.kube_version.take().or(parent.kube_version);
        }
    }
}

impl<'r> Reading<'r> {
    fn files(&self, path: &Path) -> FileContext<'r> {
        let folder = path.parent().unwrap_or(self.root).to_owned();
        let programs = self.options.programs.as_ref();
        FileContext { root: self.root.to_owned(), folder, variables: self.variables, programs }
    }

    /// The command line's overrides of every environment.
    fn command_line(&mut self, path: &Path) -> Option<Environment> {
        let options = self.options;
        if options.state_values.is_empty() && options.state_values_files.is_empty() {
            return None;
        }
        let at = Origin::new("the command line").location(Position { line: 1, column: 1 });
        let file = |path: &PathBuf| {
            let raw = std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
            Values::Path(Text { raw, at: at.clone(), indent: 0 })
        };
        let files: Vec<Values> = options.state_values_files.iter().map(file).collect();
        let mut over = self.given(&self.files(path), &files);
        match options.overrides() {
            Ok(overrides) => over.overrides = overrides,
            Err(error) => self.findings.found.push(Diagnostic::general(error.to_string())),
        }
        Some(over)
    }

    /// Loads values from the command line or a parent; their templates see no other values.
    fn given(&mut self, files: &FileContext<'_>, values: &[Values]) -> Environment {
        let mut given = Environment::new(self.options.environment());
        let context = given.clone();
        let entries = Entries { files, context: &context, missing: None, strategy: Strategy::Override };
        given.values = entries.load(values, &mut self.findings);
        given
    }

    /// Reads a state file, or every one in a folder; returns their releases.
    fn path(&mut self, path: &Path, visit: &Visit<'_>) -> Vec<ReleaseId> {
        let mut releases = vec![];
        for file in files(path) {
            releases.extend(self.file(&file, visit));
        }
        releases
    }

    fn file(&mut self, path: &Path, visit: &Visit<'_>) -> Vec<ReleaseId> {
        let files = self.files(path);
        if self.stack.iter().any(|open| open == path) || self.stack.len() >= MAX_DEPTH {
            let names: Vec<_> = self.stack.iter().map(|open| files.origin(open).to_string()).collect();
            let chain = format!("{} -> {}", names.join(" -> "), files.origin(path));
            self.findings.found.push(Diagnostic::general(format!("circular helmfiles: {chain}")));
            return vec![];
        }
        let inherited = visit.inherited.as_ref().filter(|inherited| inherited.includes("environments"));
        let inherited = inherited.map(|inherited| inherited.parent.environment.clone());
        let start = Start { name: self.options.environment(), inherited, overrides: visit.overrides.clone() };
        let Some(mut loaded) = layers::load(&files, path, &start, &mut self.findings) else { return vec![] };
        if let Some(inherited) = &visit.inherited {
            inherited.fill(&mut loaded.state);
        }
        self.lock(&files, path);
        if !loaded.is_defined {
            let names = loaded.state.environments.into_keys().map(Some);
            self.without_environment.extend(names.chain([None]));
            let name = self.options.environment();
            let message = format!("{} is skipped: it has no environment `{name}`", files.origin(path));
            self.findings.notices.push(message);
            return vec![];
        }
        self.stack.push(path.to_owned());
        let (mut before, mut all) = (visit.after.clone(), vec![]);
        for nested in &loaded.state.helmfiles {
            let inside = self.nested(&files, nested, &loaded, visit, &before);
            if !inside.is_empty() {
                all.extend_from_slice(&inside);
                before = inside;
            }
        }
        self.stack.pop();
        let request = render::Request { selectors: visit.selectors, options: self.options, after: &before };
        let (file, releases) = render::file(&files, path, &loaded, &request, &mut self.findings);
        all.extend(releases.iter().map(|release| release.id.clone()));
        self.helmfile.files.push(file);
        self.helmfile.releases.extend(releases);
        all
    }

    /// Rejects a lock file beside the state file, which helmfile would silently use.
    fn lock(&mut self, files: &FileContext<'_>, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock = path.with_file_name(format!("{}.lock", name.split('.').next().unwrap_or_default()));
        if lock.exists() {
            let message = format!("lock file {} is not supported", files.origin(&lock));
            let found =
                Diagnostic::general(message).with_hint("write the versions into the helmfile and remove the lock file");
            self.findings.found.push(found);
        }
    }

    fn nested(
        &mut self,
        files: &FileContext<'_>,
        nested: &Nested,
        parent: &Loaded,
        visit: &Visit<'_>,
        before: &[ReleaseId],
    ) -> Vec<ReleaseId> {
        let selectors = nested.selectors.as_deref();
        if selectors.is_some_and(|own| selector::exclude_each_other(own, &self.options.selectors)) {
            return vec![];
        }
        let overrides = (!nested.values.is_empty()).then(|| self.given(files, &nested.values));
        let inherited = (!nested.inherits.is_empty()).then_some(Inherited { keys: &nested.inherits, parent });
        let mut inside = vec![];
        let mut after = before.to_vec();
        let mut child =
            Visit { selectors: selectors.unwrap_or(visit.selectors), overrides, inherited, after: after.clone() };
        for path in &nested.matches {
            child.after.clone_from(&after);
            let found = self.path(path, &child);
            if !found.is_empty() {
                after.clone_from(&found);
                inside.extend(found);
            }
        }
        inside
    }

    /// Reports that no file has the requested environment.
    fn report_unknown_environment(&mut self) {
        let known: Vec<&str> = self.without_environment.iter().flatten().map(String::as_str).collect();
        let name = self.options.environment();
        let files = self.files(&self.helmfile.path);
        let origin = files.origin(&self.helmfile.path);
        let has = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        let found = Diagnostic::general(format!("{origin} has no environment `{name}`; {has}"));
        self.findings.found.push(found.did_you_mean(near(name, known)));
    }
}

/// A state file itself, or those of a folder, sorted as text.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_state_file(path)).collect();
    files.sort();
    files
}

/// Whether a file in a folder is a state file by its name.
fn is_state_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.strip_suffix(".gotmpl").unwrap_or(&name);
    path.is_file() && [".yaml", ".yml"].iter().any(|end| plain.ends_with(end))
}
