//! The functions of templates, by name.

mod bounds;
mod collections;
mod encoding;
mod exec;
mod files;
mod numbers;
mod paths;
mod strings;
mod words;

pub(super) use bounds::check_length;
pub use exec::{ProgramCall, ProgramRunner};
pub use files::{clean, moved};

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use version_range::VersionError;

use super::parse::Tree;
use super::place::ValueRef;
use super::{TemplateSource, execute, value};
use yaml::{Diagnostic, Location, Origin, near};

/// What functions have access to: files, environment variables, programs.
pub struct Functions {
    root: PathBuf,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    programs: Option<Arc<dyn ProgramRunner>>,
    /// The files that were read, with their names.
    read: RefCell<Vec<(String, Origin)>>,
    turns: Cell<usize>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment and files may contain secrets.
        f.debug_struct("Functions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Functions {
    /// Relative paths are resolved against `folder`; messages name files relative to `root`.
    pub fn new(root: &Path, folder: &Path, environment: &BTreeMap<String, String>) -> Self {
        Self {
            root: root.to_owned(),
            folder: folder.to_owned(),
            environment: environment.clone(),
            programs: None,
            read: RefCell::default(),
            turns: Cell::default(),
        }
    }

    /// Lets templates run programs (`exec`, `envExec`).
    #[must_use]
    pub fn with_programs(self, programs: Option<Arc<dyn ProgramRunner>>) -> Self {
        Self { programs, ..self }
    }

    /// Counts an iteration of a loop, a block or a template.
    pub(super) fn turn(&self) -> Result<(), Failure> {
        self.turns.set(self.turns.get() + 1);
        if self.turns.get() > bounds::MAX_TURNS {
            return Err(Failure::new(format!(
                "more than {} iterations of loops, blocks and templates",
                bounds::MAX_TURNS
            )));
        }
        Ok(())
    }

    /// The helper files (`_*.tpl`) of the folder with their texts, sorted by name.
    pub(super) fn helpers(&self) -> Result<Vec<(Origin, String)>, Diagnostic> {
        let is_helper = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with('_') && name.ends_with(".tpl")
        };
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_helper).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let shown = self.shown(&path);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok((Origin::new(shown), text)),
                Err(error) => Err(Diagnostic::general(format!("{shown}: cannot read file: {error}"))),
            }
        };
        paths.into_iter().map(read).collect()
    }

    /// The file that was read last, and its number of YAML documents.
    pub(super) fn last_read(&self) -> Option<(Origin, usize)> {
        let read = self.read.borrow();
        let (text, origin) = read.last()?;
        // Comments and a leading `---` are not a document.
        let parts = text.split("\n---").filter(|part| part.lines().any(has_content));
        Some((origin.clone(), parts.count()))
    }

    /// The file among those read whose content is this text.
    fn origin_of(&self, text: &str) -> Option<Origin> {
        self.read.borrow().iter().rev().find(|(read, _)| read == text).map(|(_, origin)| origin.clone())
    }
}

fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#') && !line.trim_matches('-').is_empty()
}

/// Why a function failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    /// The location, if it is not that of the call.
    location: Option<Location>,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, location: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn did_you_mean(self, near: Option<&str>) -> Self {
        match near {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    pub(super) fn and(mut self, more: impl AsRef<str>) -> Self {
        self.message.push_str(more.as_ref());
        self
    }

    pub(super) fn at(self, location: Location) -> Diagnostic {
        Diagnostic { location: Some(self.location.unwrap_or(location)), message: self.message, hint: self.hint }
    }
}

impl From<VersionError> for Failure {
    fn from(error: VersionError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { message: diagnostic.message, hint: diagnostic.hint, location: diagnostic.location }
    }
}

type Outcome = Result<Value, Failure>;

/// The context of a call.
pub(super) struct Call<'c> {
    pub(super) functions: &'c Functions,
    pub(super) source: &'c TemplateSource<'c>,
    pub(super) tree: &'c Tree,
    pub(super) depth: usize,
}

/// Name, minimum and maximum number of arguments, implementation.
type Entry = (&'static str, usize, usize, fn(&Call<'_>, &[Value]) -> Outcome);

const ANY: usize = usize::MAX;

const TABLES: [&[Entry]; 9] = [
    TEMPLATES,
    collections::TABLE,
    paths::TABLE,
    encoding::TABLE,
    exec::TABLE,
    files::TABLE,
    numbers::TABLE,
    strings::TABLE,
    words::TABLE,
];

const TEMPLATES: &[Entry] = &[("include", 2, 2, include), ("tpl", 2, 2, tpl)];

/// Functions that modify the map that they return.
pub(super) const CHANGES: [&str; 7] =
    ["set", "unset", "merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite", "setValueAtPath"];

/// Functions of helmfile and sprig that are not supported, so that the message does not suggest a typo.
const UNSUPPORTED: &str = "ago buildCustomCert bcrypt date dateInZone dateModify date_in_zone date_modify decryptAES \
    derivePassword duration durationRound encryptAES expandSecretRefs fetchSecretValue genCA genCAWithKey genPrivateKey \
    genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey getHostByName htmlDate htmlDateInZone \
    htpasswd mustDateModify mustToDate now randAlpha randAlphaNum randAscii randBytes randInt randNumeric \
    secretsAsFileOnly shuffle toDate unixEpoch urlJoin urlParse uuidv4";

fn find(name: &str) -> Option<&'static Entry> {
    TABLES.iter().flat_map(|table| table.iter()).find(|entry| entry.0 == name)
}

/// Rejects an unknown function.
pub(super) fn check_known(name: &str) -> Result<(), Failure> {
    if find(name).is_some() || ["and", "or"].contains(&name) {
        return Ok(());
    }
    if UNSUPPORTED.split_whitespace().any(|known| known == name) {
        let unsupported = Failure::new(format!("function `{name}` is not supported"));
        return Err(match name {
            "fetchSecretValue" | "expandSecretRefs" => unsupported.hint(
                "chart values cannot contain secrets: put the reference into a Secret manifest beside the helmfile and \
                 let the chart refer to that Secret",
            ),
            _ => unsupported.hint("its result differs from run to run or needs the network: write the value itself"),
        });
    }
    let names = TABLES.iter().flat_map(|table| table.iter()).map(|entry| entry.0);
    Err(Failure::new(format!("unknown function `{name}`")).did_you_mean(near(name, names)))
}

/// Calls a function; a piped argument is the last one.
pub(super) fn run(call: &Call<'_>, name: &str, arguments: &[Value]) -> Outcome {
    if let ("and" | "or", Some(last)) = (name, arguments.last()) {
        return Ok(last.clone());
    }
    let Some((_, least, most, function)) = find(name) else {
        return Err(Failure::new(format!("`{name}` expects at least 1 argument, got 0")));
    };
    if arguments.len() < *least || arguments.len() > *most {
        let expected = match (*least, *most) {
            (least, most) if least == most => format!("{least}"),
            (least, ANY) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let (plural, got) = (if expected == "1" || expected.ends_with(" 1") { "" } else { "s" }, arguments.len());
        return Err(Failure::new(format!("`{name}` expects {expected} argument{plural}, got {got}")));
    }
    let bounded = || {
        check_length(bounds::length(arguments))?;
        let result = function(call, arguments)?;
        check_length(bounds::length(std::slice::from_ref(&result)))?;
        Ok(result)
    };
    bounded().map_err(|failure: Failure| match failure.location {
        Some(_) => failure,
        None => Failure { message: format!("`{name}`: {}", failure.message), ..failure },
    })
}

fn tpl(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let text = string(arguments, 0)?;
    let origin = call.functions.origin_of(text);
    let inner = TemplateSource::file(origin.as_ref().unwrap_or(&Origin::new("<text>")), text);
    execute::render(&inner, &arguments[1], call.functions, call.depth).map(Value::from).map_err(|diagnostic| {
        let location = diagnostic.location.clone().filter(|_| origin.is_some());
        Failure { location, ..diagnostic.into() }
    })
}

fn include(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let name = string(arguments, 0)?;
    let text =
        execute::include(call.source, call.tree, call.functions, name, &ValueRef::of(arguments[1].clone()), call.depth);
    Ok(Value::from(text?))
}

/// An argument that must be a string.
fn string(arguments: &[Value], index: usize) -> Result<&str, Failure> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(index, "a string", other)),
    }
}

/// An argument that must be a list; nil counts as an empty list.
fn list(arguments: &[Value], index: usize) -> Result<&[Value], Failure> {
    match arguments.get(index) {
        Some(Value::Array(items)) => Ok(items),
        Some(Value::Null) => Ok(&[]),
        other => Err(wrong(index, "a list", other)),
    }
}

/// An argument that must be a map.
fn map(arguments: &[Value], index: usize) -> Result<&serde_json::Map<String, Value>, Failure> {
    match arguments.get(index) {
        Some(Value::Object(map)) => Ok(map),
        other => Err(wrong(index, "a map", other)),
    }
}

/// An argument that must be an integer.
fn integer(arguments: &[Value], index: usize) -> Result<i64, Failure> {
    let number = arguments.get(index).and_then(Value::as_i64);
    number.ok_or_else(|| wrong(index, "an integer", arguments.get(index)))
}

fn wrong(index: usize, wanted: &str, got: Option<&Value>) -> Failure {
    Failure::new(format!("argument {} must be {wanted}, not {}", index + 1, got.map_or("nothing", value::kind)))
}
