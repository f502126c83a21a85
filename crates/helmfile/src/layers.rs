//! Loads a state file, its parts and its bases as one [`State`] in an environment.

use std::path::Path;

use super::entries::Entries;
use super::environment::Environment;
use super::reader;
use super::state::{Missing, State, Strategy, Text};
use super::{FileContext, Findings, environment};
use template::TemplateSource;
use yaml::{Diagnostic, Diagnostics, Origin, Position};

/// The context of loading a state file.
pub(super) struct Start<'s> {
    /// The requested environment.
    pub(super) name: &'s str,
    /// The parent's environment, if the file inherits it.
    pub(super) inherited: Option<Environment>,
    /// Overrides every part's environment.
    pub(super) overrides: Option<Environment>,
}

/// A state file and the environment in which its releases are rendered.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) environment: Environment,
    /// Whether the file has the requested environment; if not, its releases are skipped.
    pub(super) is_defined: bool,
}

/// Loads the state file at `path` with its bases; `None` if it cannot be read.
pub(super) fn load(files: &FileContext<'_>, path: &Path, start: &Start<'_>, findings: &mut Findings) -> Option<Loaded> {
    let origin = files.origin(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.found.push(Diagnostic::general(format!("helmfile not found: {origin}")));
            return None;
        }
        Err(error) => {
            findings.found.push(Diagnostic::general(format!("cannot read helmfile {origin}: {error}")));
            return None;
        }
    };
    let file = File { files, path, origin, is_base: false };
    Some(file.load(&text, start, findings))
}

/// A state file or a base being read.
struct File<'f> {
    files: &'f FileContext<'f>,
    path: &'f Path,
    origin: Origin,
    is_base: bool,
}

impl File<'_> {
    fn load(&self, text: &str, start: &Start<'_>, findings: &mut Findings) -> Loaded {
        let text = text.replace("\r\n", "\n");
        policy(&self.origin, &text, &mut findings.found);
        let mut loaded =
            Loaded { state: State::default(), environment: Environment::new(start.name), is_defined: true };
        let mut before = start.inherited.clone();
        let is_default = start.name == environment::DEFAULT;
        for part in parts(&text) {
            let context = match (&before, &start.overrides) {
                (Some(before), over) => before.under(over.as_ref()),
                (None, Some(over)) => over.clone(),
                (None, None) => Environment::new(start.name),
            };
            let Some(mut state) = self.part(&part, &context, findings) else { continue };
            self.expand(&mut state, findings);
            loaded.environment = self.enter(&state, start.name, &context, findings);
            loaded.state.replace(state);
            before = Some(loaded.environment.clone());
            let environments = &loaded.state.environments;
            let is_known = environments.is_empty() || environments.contains_key(&loaded.environment.name);
            if !self.is_base && !is_default && !is_known {
                loaded.is_defined = false;
                return loaded;
            }
        }
        let has_context = start.inherited.is_some() || start.overrides.is_some();
        loaded.is_defined = is_default || self.is_base || has_context || !loaded.state.environments.is_empty();
        loaded
    }

    /// Loads one part: its documents over the bases that they name.
    fn part(&self, part: &str, context: &Environment, findings: &mut Findings) -> Option<State> {
        let is_template = self.path.extension().is_some_and(|extension| extension == "gotmpl");
        let rendered = if is_template {
            let data = context.data(&context.merged(), "");
            let functions = self.files.functions(&self.files.folder);
            match template::render(&TemplateSource::file(&self.origin, part), &data, &functions) {
                Ok(rendered) => rendered,
                Err(diagnostic) => {
                    findings.found.push(diagnostic);
                    return None;
                }
            }
        } else {
            part.to_owned()
        };
        let documents = match reader::documents(&self.origin, &rendered, &mut findings.found) {
            Ok(documents) => documents,
            Err(diagnostic) => {
                let is_plain = is_template || !part.contains("{{");
                findings.found.push(if is_plain { diagnostic } else { with_template_hint(diagnostic) });
                return None;
            }
        };
        let (mut own, mut bases) = (State::default(), vec![]);
        for document in documents {
            own.append(document.state);
            bases.extend(document.bases);
        }
        let mut state = State::default();
        for base in &bases {
            if self.is_base {
                findings.error(&base.at, "a base cannot have bases");
            } else if let Some(base) = self.base(base, context, findings) {
                state.append_layer(base);
            }
        }
        state.append_layer(own);
        Some(state)
    }

    fn base(&self, base: &Text, context: &Environment, findings: &mut Findings) -> Option<State> {
        let path = self.files.path(&base.raw);
        let origin = self.files.origin(&path);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let found = Diagnostic::at_location(base.at.clone(), format!("cannot read base {origin}: {error}"));
                findings.found.push(if base.raw.contains("{{") { with_template_hint(found) } else { found });
                return None;
            }
        };
        let file = File { files: self.files, path: &path, origin, is_base: true };
        let start = Start { name: &context.name, inherited: Some(context.clone()), overrides: None };
        Some(file.load(&text, &start, findings).state)
    }

    /// The environment after a part: its `values` and `environments` over the previous ones.
    fn enter(&self, state: &State, name: &str, context: &Environment, findings: &mut Findings) -> Environment {
        let mut own = Environment::default();
        if let Some(spec) = state.environments.get(name) {
            let strategy = spec.strategy.unwrap_or_default();
            let entries = Entries { files: self.files, context, missing: spec.missing, strategy };
            own.values = entries.load(&spec.values, findings);
            own.kube_context = spec.kube_context.clone().unwrap_or_default();
        }
        let entries = Entries { files: self.files, context, missing: None, strategy: Strategy::Override };
        let defaults = entries.load(&state.values, findings);
        let mut environment = context.under(Some(&own));
        if !context.kube_context.is_empty() {
            environment.kube_context.clone_from(&context.kube_context);
        }
        super::merge_values(&mut environment.defaults, defaults);
        environment
    }

    /// Expands the paths of `helmfiles`.
    fn expand(&self, state: &mut State, findings: &mut Findings) {
        for nested in &mut state.helmfiles {
            nested.matches = self.files.expand(&nested.path.raw);
            if nested.matches.is_empty() {
                let origin = self.files.origin(&self.files.path(&nested.path.raw));
                let message = format!("helmfile not found: {origin}");
                match state.missing {
                    Some(Missing::Tolerated) => findings.notices.push(format!("{}: {message}", nested.path.at)),
                    _ => findings.error(&nested.path.at, message),
                }
            }
        }
    }
}

/// Adds a hint to an error in a file that is not rendered, but looks like a template.
fn with_template_hint(diagnostic: Diagnostic) -> Diagnostic {
    if diagnostic.hint.is_some() {
        return diagnostic;
    }
    diagnostic.with_hint("a state file is rendered as a template only if its name ends in `.gotmpl`")
}

/// Splits a file at lines that are `---`; each part is padded so that line numbers stay the same.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        match parts.last_mut() {
            Some(part) if line != "---" => {
                part.push_str(line);
                part.push('\n');
            }
            _ => parts.push("\n".repeat(number + 1)),
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// A key in the first column, which is how helmfile finds keys in the text.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic())).then_some(key)
}

/// Checks helmfile's rules about a file's text: it has a key, `bases` and `environments` are before `releases`, and
/// `environments` and `releases` are in different parts.
fn policy(origin: &Origin, text: &str, found: &mut Diagnostics) {
    let (mut any, mut releases) = (false, false);
    let mut last = None;
    for (index, line) in text.lines().enumerate() {
        let at = || origin.location(Position { line: index + 1, column: 1 });
        let line = line.trim_end();
        if line == "---" {
            last = None;
            continue;
        }
        let Some(key) = key(line) else { continue };
        any = true;
        match key {
            "bases" | "environments" if releases => {
                found.error(at(), format!("`{key}` must be before `releases`"));
            }
            "releases" if last == Some("environments") => {
                let message = "`environments` and `releases` must be in different parts of the file";
                found.push(
                    Diagnostic::at_location(at(), message).with_hint("separate them by a line `---` before `releases`"),
                );
            }
            _ => {}
        }
        releases |= key == "releases";
        if ["environments", "releases"].contains(&key) {
            last = Some(key);
        }
    }
    if !any {
        let first = origin.location(Position { line: 1, column: 1 });
        let message = "invalid state file: no line begins with a key";
        found.push(
            Diagnostic::at_location(first, message)
                .with_hint("write `releases:` in the first column, also in flow style"),
        );
    }
}
