//! Helmfiles against the results of the real helmfile.
//!
//! A run of helmfile that failed must fail here too, before anything is touched. Of the others everything is compared
//! that a result shows: what is listed, the built state, the values of each release, the manifests that the real helm
//! renders, and the calls of Helm and of hooks in their order, which are really made, of a stand-in.

mod calls;
mod case;
mod compare;
mod template;

use std::path::Path;

use ::helmfile::{Helmfile, ReadDepth};
use case::{Case, Run};
use libtest_mimic::{Failed, Trial};

use crate::cases::{self, attempt, name};

/// Decided otherwise than helmfile on purpose. A run that agrees must leave the list.
const DIFFERENT: &[(&str, &str)] = &[
    ("05-needs-errors/dag-repeated.txt", "the same need twice makes helmfile panic; here it is a notice"),
    ("05-needs-errors/template-repeated.yaml", "the same need twice makes helmfile panic; here it is a notice"),
    ("09-template-leak/calls.jsonl", "a mistake of helmfile, not repeated but noticed"),
    ("13-exec-yq/values", "helm merges all documents, write-values takes the first; `template` is the truth"),
    ("15-repositories/calls-unknown.jsonl", "an undeclared repository is reported before helm is called"),
    ("19-functions/values", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("31-yaml-forms/values-duplicate-key", "helm takes the last of a repeated key; `template` is the truth"),
    ("31-yaml-forms/values-flow", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("32-yaml-scalars/values", "helm reads YAML 1.1, write-values does not; `template` is the truth"),
    ("32-yaml-scalars/build-colons.yaml", "our parser accepts `[::1]`"),
    ("33-helmfile-d/calls-across.jsonl", "needs cross files here: all releases are one graph"),
    ("37-state-errors/build-no-name.yaml", "a release without a name cannot be installed"),
];

/// Flags of helmfile's command line that have no counterpart, and why.
const WITHOUT_COUNTERPART: &[(&str, &str)] = &[("--set", "helmfile only passes --set on to helm")];

/// A test per case, and an ignored one per run that is not compared.
pub(crate) fn trials() -> Vec<Trial> {
    match cases::list("helmfile") {
        Ok(cases) => cases.iter().filter(|path| path.is_dir()).flat_map(|folder| of_case(folder)).collect(),
        Err(missing) => vec![missing],
    }
}

fn of_case(folder: &Path) -> Vec<Trial> {
    let title = format!("helmfile::{}", name(folder));
    let path = folder.to_owned();
    let mut trials = vec![Trial::test(title.clone(), move || attempt(case, &path).map_err(Failed::from))];
    for run in Case::read(folder).runs {
        if let Some(reason) = left_out(&run) {
            let not_compared = move || Err(Failed::from(reason));
            trials.push(
                Trial::test(format!("{title}::{}", run.result), not_compared).with_kind(reason).with_ignored_flag(true),
            );
        }
    }
    trials
}

fn case(folder: &Path) -> Result<(), String> {
    let case = Case::read(folder);
    let mut failures = vec![];
    for run in case.runs.iter().filter(|run| left_out(run).is_none()) {
        let name = format!("{}/{}", case.name, run.result);
        let known = DIFFERENT.iter().any(|(known, _)| *known == name);
        match (compare(&case, run), known) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                failures.push(format!("--- {name}\nit agrees now: remove it from the list of known differences"));
            }
            (Err(difference), false) => failures.push(format!("--- {name}\n{difference}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Why a run is not compared.
fn left_out(run: &Run) -> Option<&'static str> {
    let known = |word: &String| WITHOUT_COUNTERPART.iter().find(|(flag, _)| flag == word);
    run.other.iter().find_map(known).map(|(_, reason)| *reason)
}

fn compare(case: &Case, run: &Run) -> Result<(), String> {
    assert!(run.other.is_empty(), "{}: what do {:?} mean?", case.name, run.other);
    let ours = read(case, run);
    if let Some(error) = case.failed.get(&run.result) {
        // Messages of commands at run time are not in the files.
        let is_of_a_command = ["exited with non-zero status", "fork/exec"].iter().any(|words| error.contains(words));
        return match ours {
            Ok(_) if !is_of_a_command => Err(format!("helmfile fails, this does not: {error}")),
            _ => Ok(()),
        };
    }
    let ours = ours?;
    let result = case.folder.join(&run.result);
    match run.verb.as_str() {
        _ if result.extension().is_some_and(|extension| extension == "jsonl") => {
            calls::compare(case, run, &ours, &result)
        }
        "list" => compare::list(&ours, &result),
        "build" => compare::build(&ours, &result),
        "write-values" => compare::values(&ours, &result),
        "template" => template::compare(case, run, &ours, &result),
        "show-dag" => compare::dag(&ours, &result),
        verb => panic!("what does {verb} do?"),
    }
}

/// What `k8s-bootstrap releases` reads for the same command line.
fn read(case: &Case, run: &Run) -> Result<Helmfile, String> {
    let path = case.state_file(run)?;
    let helmfile = ::helmfile::read(&case.input(), &path, &case.variables, &case.options(run));
    let helmfile = helmfile.map_err(|found| found.to_string())?;
    let ordered = ["template", "sync", "show-dag"].contains(&run.verb.as_str());
    if ordered {
        ::helmfile::check_needs(&[&helmfile]).map_err(|found| found.to_string())?;
    }
    if !run.may_be_none && helmfile.files.iter().all(|file| file.releases.is_empty()) {
        return Err("no release is selected".to_owned());
    }
    Ok(helmfile)
}

/// How far a command of helmfile reads.
fn depth(verb: &str) -> ReadDepth {
    if ["list", "build"].contains(&verb) { ReadDepth::Fields } else { ReadDepth::Everything }
}
