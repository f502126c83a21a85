//! Machine configs against the results of the real tools.

mod compare;
mod gen_config;
mod patch;
mod secrets;
mod talconfig;
mod validate;

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use talos_schema::Documents;
use yaml::Origin;

use crate::cases::{self, Comparison, attempt, name};

/// One sort of cases.
struct Kind {
    /// The folder's name.
    name: &'static str,
    run: Comparison,
    /// Cases that do not agree yet, and why. A case that agrees must leave the list.
    not_yet: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 5] = [secrets::KIND, gen_config::KIND, patch::KIND, validate::KIND, talconfig::KIND];

pub(crate) fn trials() -> Vec<Trial> {
    KINDS.iter().flat_map(of_kind).collect()
}

fn of_kind(kind: &'static Kind) -> Vec<Trial> {
    match cases::list(&format!("talos/{}", kind.name)) {
        Ok(cases) => cases.into_iter().map(|case| trial(kind, &case)).collect(),
        Err(missing) => vec![missing],
    }
}

fn trial(kind: &'static Kind, case: &Path) -> Trial {
    let short = name(case);
    let short = short.trim_end_matches(".yaml");
    let title = format!("{}::{short}", kind.name);
    let case = case.to_owned();
    match kind.not_yet.iter().find(|(known, _)| *known == short) {
        Some((_, reason)) => Trial::test(title, move || match attempt(kind.run, &case) {
            Ok(()) => Err("this case agrees now: take it off the list of those that do not yet".into()),
            Err(_) => Ok(()),
        })
        .with_kind(format!("not yet: {reason}")),
        None => Trial::test(title, move || attempt(kind.run, &case).map_err(Failed::from)),
    }
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
