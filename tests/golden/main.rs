//! Machine configs against the results of the real tools, one test per case.
//!
//! The cases are read from `K8S_BOOTSTRAP_GOLDEN` (default `tests/golden`): every folder below
//! `talos/<kind>/` is a test called `<kind>::<folder>`, so that further cases only have to be put there. A kind
//! without cases fails.
#![allow(clippy::unwrap_used)]

mod compare;
mod gen_config;
mod patch;
mod secrets;
mod talconfig;
mod validate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use talos_schema::Documents;
use yaml::Origin;

/// One sort of cases.
struct Kind {
    /// The folder's name.
    name: &'static str,
    run: fn(&Path) -> Result<(), String>,
    /// Cases that do not agree yet, and why. A case that agrees must leave the list.
    not_yet: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 5] = [secrets::KIND, gen_config::KIND, patch::KIND, validate::KIND, talconfig::KIND];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = KINDS.iter().flat_map(trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials(kind: &'static Kind) -> Vec<Trial> {
    let root = std::env::var_os("K8S_BOOTSTRAP_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let folder = root.join("talos").join(kind.name);
    let mut cases: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => vec![],
    };
    cases.sort();
    if cases.is_empty() {
        let missing = format!("no golden cases in {}", folder.display());
        return vec![Trial::test(kind.name, || Err(Failed::from(missing)))];
    }
    cases.into_iter().map(|case| trial(kind, case)).collect()
}

fn trial(kind: &'static Kind, case: PathBuf) -> Trial {
    let short = name(&case);
    let short = short.trim_end_matches(".yaml");
    let title = format!("{}::{short}", kind.name);
    match kind.not_yet.iter().find(|(known, _)| *known == short) {
        Some((_, reason)) => Trial::test(title, move || match attempt(kind, &case) {
            Ok(()) => Err("this case agrees now: take it off the list of those that do not yet".into()),
            Err(_) => Ok(()),
        })
        .with_kind(format!("not yet: {reason}")),
        None => Trial::test(title, move || attempt(kind, &case).map_err(Failed::from)),
    }
}

fn attempt(kind: &Kind, case: &Path) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (kind.run)(case))).unwrap_or_else(|_| Err("panicked".to_owned()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The program itself.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8s-bootstrap"));
    command.env_clear();
    command
}

/// What a program printed; what it complained about when it failed.
fn ended(mut command: Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The documents of a file as plain YAML, whatever our own reading of configs would make of them.
fn read(path: &Path) -> Documents {
    let text = std::fs::read_to_string(path).unwrap();
    let documents = yaml::parse(&Origin::of_path(path), &text).unwrap();
    Documents(documents.iter().filter(|node| !node.is_null()).map(yaml::Node::to_json).collect())
}
