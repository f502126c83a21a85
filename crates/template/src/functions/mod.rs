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

pub(super) use bounds::fits;
pub use files::{clean, moved};

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::parse::Tree;
use super::place::Place;
use super::{Source, execute, value};
use yaml::{Diagnostic, Location, Origin, near};

/// What functions may reach: files below a folder, the environment, programs.
pub struct Functions {
    root: PathBuf,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    /// Texts that were read, with where they came from.
    read: RefCell<Vec<(String, Origin)>>,
    turns: Cell<usize>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The environment and what was read may hold secrets.
        f.debug_struct("Functions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Functions {
    /// Relative paths are meant from `folder`; messages name files relative to `root`.
    pub fn new(root: &Path, folder: &Path, environment: &BTreeMap<String, String>) -> Self {
        Self {
            root: root.to_owned(),
            folder: folder.to_owned(),
            environment: environment.clone(),
            read: RefCell::default(),
            turns: Cell::default(),
        }
    }

    /// Counts a turn of a loop, a block or a template.
    pub(super) fn turn(&self) -> Result<(), Failure> {
        self.turns.set(self.turns.get() + 1);
        if self.turns.get() > bounds::MAX_TURNS {
            return Err(Failure::new(format!("more than {} turns of loops, blocks and templates", bounds::MAX_TURNS)));
        }
        Ok(())
    }

    /// Files with templates that every template of this folder can call, and their texts, sorted by name.
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
                Err(error) => Err(Diagnostic::general(format!("{shown} cannot be read: {error}"))),
            }
        };
        paths.into_iter().map(read).collect()
    }

    /// The file that was read last, and how many documents it holds.
    pub(super) fn last_read(&self) -> Option<(Origin, usize)> {
        let read = self.read.borrow();
        let (text, origin) = read.last()?;
        // A line of dashes before anything is said ends nothing.
        let parts = text.split("\n---").filter(|part| part.lines().any(says_something));
        Some((origin.clone(), parts.count()))
    }

    /// The file that holds exactly this text, among those that were read.
    fn origin_of(&self, text: &str) -> Option<Origin> {
        self.read.borrow().iter().rev().find(|(read, _)| read == text).map(|(_, origin)| origin.clone())
    }
}

fn says_something(line: &str) -> bool {
    let line = line.trim();
    !line.starts_with('#') && !line.trim_matches('-').is_empty()
}

/// Why a function failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    /// Where, when that is not the place of the call.
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

impl<T: Into<String>> From<T> for Failure {
    fn from(message: T) -> Self {
        Self::new(message)
    }
}

type Outcome = Result<Value, Failure>;

/// A call being made: what it may reach and from which template.
pub(super) struct Call<'c> {
    pub(super) functions: &'c Functions,
    pub(super) source: &'c Source<'c>,
    pub(super) tree: &'c Tree,
    pub(super) depth: usize,
}

/// A name, the least and most arguments, and what it does.
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

/// Functions that change the map that they return.
pub(super) const CHANGES: [&str; 7] =
    ["set", "unset", "merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite", "setValueAtPath"];

/// Functions of helmfile and sprig that this room has not, so that the message is not about a typing mistake.
const UNSUPPORTED: &str = "ago buildCustomCert bcrypt date dateInZone dateModify date_in_zone date_modify decryptAES \
    derivePassword duration durationRound encryptAES expandSecretRefs fetchSecretValue genCA genCAWithKey genPrivateKey \
    genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey getHostByName htmlDate htmlDateInZone \
    htpasswd mustDateModify mustToDate now randAlpha randAlphaNum randAscii randBytes randInt randNumeric \
    secretsAsFileOnly shuffle toDate unixEpoch urlJoin urlParse uuidv4";

fn find(name: &str) -> Option<&'static Entry> {
    TABLES.iter().flat_map(|table| table.iter()).find(|entry| entry.0 == name)
}

/// Refuses a name that no function has.
pub(super) fn known(name: &str) -> Result<(), Failure> {
    if find(name).is_some() || ["and", "or"].contains(&name) {
        return Ok(());
    }
    if UNSUPPORTED.split_whitespace().any(|known| known == name) {
        let refused = Failure::new(format!("the function `{name}` is not supported here"));
        return Err(match name {
            "fetchSecretValue" | "expandSecretRefs" => refused.hint(
                "no value of a chart is a secret here: put the reference into a manifest of a Secret beside the helmfile, and \
                 have the chart name that Secret",
            ),
            _ => refused.hint("what it gives is another thing at each run, or asks the network: write the value itself"),
        });
    }
    let names = TABLES.iter().flat_map(|table| table.iter()).map(|entry| entry.0);
    Err(Failure::new(format!("there is no function `{name}`")).did_you_mean(near(name, names)))
}

/// Calls a function with its arguments, the piped one last.
pub(super) fn run(call: &Call<'_>, name: &str, arguments: &[Value]) -> Outcome {
    if let ("and" | "or", Some(last)) = (name, arguments.last()) {
        return Ok(last.clone());
    }
    let Some((_, least, most, function)) = find(name) else {
        return Err(Failure::new(format!("`{name}` needs at least 1 argument, this is 0")));
    };
    if arguments.len() < *least || arguments.len() > *most {
        let wants = match (*least, *most) {
            (least, most) if least == most => format!("{least}"),
            (least, ANY) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        let (plural, got) = (if wants == "1" || wants.ends_with(" 1") { "" } else { "s" }, arguments.len());
        return Err(Failure::new(format!("`{name}` takes {wants} argument{plural}, here it gets {got}")));
    }
    let bounded = || {
        fits(bounds::length(arguments))?;
        let result = function(call, arguments)?;
        fits(bounds::length(std::slice::from_ref(&result)))?;
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
    let inner = Source::file(origin.as_ref().unwrap_or(&Origin::new("<text>")), text);
    execute::render(&inner, &arguments[1], call.functions, call.depth).map(Value::from).map_err(|diagnostic| {
        let location = diagnostic.location.filter(|_| origin.is_some());
        Failure { message: diagnostic.message, hint: diagnostic.hint, location }
    })
}

fn include(call: &Call<'_>, arguments: &[Value]) -> Outcome {
    let name = string(arguments, 0)?;
    let text =
        execute::include(call.source, call.tree, call.functions, name, &Place::of(arguments[1].clone()), call.depth);
    text.map(Value::from).map_err(|diagnostic| Failure {
        message: diagnostic.message,
        hint: diagnostic.hint,
        location: diagnostic.location,
    })
}

/// An argument that must be text.
fn string(arguments: &[Value], index: usize) -> Result<&str, Failure> {
    match arguments.get(index) {
        Some(Value::String(text)) => Ok(text),
        other => Err(wrong(index, "a string", other)),
    }
}

/// An argument that must be a list; nil is an empty one.
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

/// An argument that must be a whole number.
fn integer(arguments: &[Value], index: usize) -> Result<i64, Failure> {
    let number = arguments.get(index).and_then(Value::as_i64);
    number.ok_or_else(|| wrong(index, "a whole number", arguments.get(index)))
}

fn wrong(index: usize, wanted: &str, got: Option<&Value>) -> Failure {
    Failure::new(format!("argument {} must be {wanted}, this is {}", index + 1, got.map_or("nothing", value::kind)))
}
