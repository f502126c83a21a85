//! A state file, its parts and its bases, as one [`State`].

use std::path::Path;

use serde_json::json;

use super::Site;
use super::read;
use super::state::{State, Text};
use crate::template::{self, Source};
use crate::yaml::{Diagnostic, Diagnostics, Position};

/// Reads the state file at `path` with its bases.
pub(super) fn load(site: &Site<'_>, path: &Path, found: &mut Diagnostics) -> State {
    let origin = site.origin(path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.push(Diagnostic::general(format!("there is no helmfile {origin}")));
            return State::default();
        }
        Err(error) => {
            found.push(Diagnostic::general(format!("the helmfile {origin} cannot be read: {error}")));
            return State::default();
        }
    };
    let is_template = path.extension().is_some_and(|extension| extension == "gotmpl");
    let mut state = State::default();
    for part in parts(&text) {
        let part = if is_template {
            match template::render(&Source::file(&origin, &part), &data(), &site.functions(&site.folder)) {
                Ok(rendered) => rendered,
                Err(diagnostic) => {
                    found.push(diagnostic);
                    continue;
                }
            }
        } else {
            part
        };
        ordered(&origin, &part, found);
        match read::documents(&origin, &part, found) {
            Ok(documents) => state.replace(with_bases(site, documents, found)),
            Err(diagnostic) => found.push(hinted(diagnostic, is_template || !part.contains("{{"))),
        }
    }
    if !text.lines().any(|line| key(line).is_some()) {
        let first = origin.at(Position { line: 1, column: 1 });
        found.push(
            Diagnostic::at(
                first,
                "no line of this file begins with a key, so helmfile does not take it for a state file",
            )
            .with_hint("`releases:` begins in the first column, also in flow style"),
        );
    }
    state
}

/// What a state file that is a template sees.
fn data() -> serde_json::Value {
    json!({"Environment": {"Name": "default", "KubeContext": ""}, "Namespace": "", "Values": {}, "StateValues": {}})
}

fn hinted(diagnostic: Diagnostic, is_plain: bool) -> Diagnostic {
    if is_plain || diagnostic.hint.is_some() {
        return diagnostic;
    }
    diagnostic.with_hint("a state file is a template as a whole only when its name ends in `.gotmpl`")
}

/// The parts of a file between lines that are `---`, each padded so that its lines keep their numbers.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        match parts.last_mut() {
            Some(part) if line.trim_end_matches('\r') != "---" => {
                part.push_str(line);
                part.push('\n');
            }
            _ => parts.push("\n".repeat(number + 1)),
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// helmfile looks for keys in the text, not in the YAML: whatever begins in the first column.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic())).then_some(key)
}

/// Bases and environments stand before releases.
fn ordered(origin: &crate::yaml::Origin, text: &str, found: &mut Diagnostics) {
    let mut releases = false;
    for (index, line) in text.lines().enumerate() {
        match key(line) {
            Some("releases") => releases = true,
            Some(late @ ("bases" | "environments")) if releases => {
                let at = origin.at(Position { line: index + 1, column: 1 });
                found.error(at, format!("`{late}` must stand before `releases`"));
            }
            _ => {}
        }
    }
}

/// The documents of one part over the bases that they name.
fn with_bases(site: &Site<'_>, documents: Vec<read::Document>, found: &mut Diagnostics) -> State {
    let mut state = State::default();
    for document in documents {
        for base in &document.bases {
            state.append(load_base(site, base, found));
        }
        state.append(document.state);
    }
    state
}

fn load_base(site: &Site<'_>, base: &Text, found: &mut Diagnostics) -> State {
    let functions = site.functions(&site.folder);
    let mut fail = |diagnostic: Diagnostic| {
        found.push(diagnostic);
        State::default()
    };
    let name = match template::render(&base.source(), &data(), &functions) {
        Ok(name) => name,
        Err(diagnostic) => return fail(diagnostic),
    };
    let path = site.path(&name);
    let origin = site.origin(&path);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            return fail(Diagnostic::at(base.at.clone(), format!("the base {origin} cannot be read: {error}")));
        }
    };
    let text = if path.extension().is_some_and(|extension| extension == "gotmpl") {
        match template::render(&Source::file(&origin, &text), &data(), &functions) {
            Ok(text) => text,
            Err(diagnostic) => return fail(diagnostic),
        }
    } else {
        text
    };
    let mut state = State::default();
    match read::documents(&origin, &text, found) {
        Ok(documents) => {
            for document in documents {
                if let Some(nested) = document.bases.first() {
                    found.error(nested.at.clone(), "a base cannot name bases of its own");
                }
                state.append(document.state);
            }
        }
        Err(diagnostic) => found.push(diagnostic),
    }
    state
}
