//! `machineconfig patch`: a base and patches in order of their names.

use std::path::{Path, PathBuf};

use talos_schema::Documents;
use yaml::Origin;

use super::compare::differences;
use super::{Kind, ended, read};
use crate::cases::name;
use crate::program::program;

pub(crate) const KIND: Kind = Kind { name: "patch", run, not_yet: &[] };

fn run(case: &Path) -> Result<(), String> {
    let quirk = case.join("quirk.txt").exists();
    let outcome = patched(case);
    let expected: Vec<PathBuf> = ["expected.yaml", "expected-1.14.yaml"]
        .iter()
        .map(|file| case.join(file))
        .filter(|path| path.exists())
        .collect();
    let refused = case.join("expected-error.txt").exists() || case.join("expected-error-1.14.txt").exists();
    match outcome {
        _ if quirk => Ok(()),
        Err(_) if refused => Ok(()),
        Err(error) => Err(error),
        Ok(_) if expected.is_empty() => Err("expected an error".to_owned()),
        Ok(ours) => {
            let differences: Vec<String> = expected.iter().map(|path| differences(&ours, &read(path))).collect();
            if differences.iter().any(String::is_empty) { Ok(()) } else { Err(differences.concat()) }
        }
    }
}

fn patched(case: &Path) -> Result<Documents, String> {
    let entries = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let mut patches: Vec<_> = entries.filter(|path| name(path).starts_with("patch")).collect();
    patches.sort();
    let mut command = program();
    command.args(["-C".as_ref(), case.as_os_str()]).args(["machineconfig", "patch", "base.yaml"]);
    for patch in &patches {
        command.arg("--patch").arg(format!("@{}", name(patch)));
    }
    let text = ended(command)?;
    let documents = yaml::parse(&Origin::new("stdout"), &text).map_err(|error| error.to_string())?;
    Ok(Documents(documents.iter().map(yaml::Node::to_json).collect()))
}
