//! `talhelper genconfig`: a talconfig with its secrets, patches and files.

use std::path::Path;

use talos_config::{FetchedInputs, InputRequest, InputsError, SecretsBundle, talconfig};
use talos_schema::{RuntimeMode, validate};
use tools::{Options, Tool, Toolbox};
use yaml::{Diagnostics, Origin};

use super::compare::differences;
use super::{Kind, read};

pub(crate) const KIND: Kind = Kind { name: "talconfig", run, not_yet: &[] };

fn run(case: &Path) -> Result<(), String> {
    let expects_error = case.join("expected-error.txt").exists();
    let quirk = std::fs::read_to_string(case.join("quirk.txt")).unwrap_or_default();
    let mut sources = FetchedInputs::default();
    match all(case, &mut sources) {
        Ok(_) if expects_error => Err("expected an error".to_owned()),
        Err(_) if expects_error => Ok(()),
        // The case shows a limit of talhelper: results may differ, and an error is expected where the case names one.
        Err(_) if quirk.contains("refusing") => Ok(()),
        Ok(_) if !quirk.is_empty() => Ok(()),
        Err(found) => Err(found.to_string()),
        Ok(differences) if differences.is_empty() => Ok(()),
        Ok(differences) => Err(differences),
    }
}

/// Renders every node; the error is the difference from talhelper's results.
fn all(case: &Path, sources: &mut FetchedInputs) -> Result<String, Diagnostics> {
    let config = opened(case, sources, &|sources| talconfig::read(case, case, &|_| None, sources))?;
    let name = if case.join("talsecret.yaml").exists() { "talsecret.yaml" } else { "talsecret.sops.yaml" };
    let path = case.join(name);
    let text = if name.contains(".sops.") { decrypt(case, &path) } else { std::fs::read_to_string(&path).unwrap() };
    let bundle = SecretsBundle::parse(&Origin::of_path(&path), &text)?;
    let mut different = String::new();
    for machine in &config.machines {
        let ours = config.render(&bundle, machine)?.documents;
        // talhelper validates what it made.
        validate(&ours, RuntimeMode::Metal).errors.into_result(())?;
        let expected = case.join("expected").join(&machine.file_name);
        if case.join("expected-error.txt").exists() {
            continue;
        }
        let difference = differences(&ours, &read(&expected));
        if !difference.is_empty() {
            different.push_str(&format!("{}\n{difference}", machine.hostname));
        }
    }
    Ok(different)
}

/// Reads until every sealed file that is met has been opened.
fn opened<T>(
    case: &Path,
    sources: &mut FetchedInputs,
    read: &dyn Fn(&FetchedInputs) -> Result<T, InputsError>,
) -> Result<T, Diagnostics> {
    loop {
        let needs = match read(sources) {
            Ok(value) => return Ok(value),
            Err(InputsError { mistakes, needs }) if needs.is_empty() => return Err(mistakes),
            Err(InputsError { needs, .. }) => needs,
        };
        for wanted in needs {
            let InputRequest::SopsFile(path) = &wanted else { panic!("unexpected: {wanted:?}") };
            let text = decrypt(case, path);
            sources.provide(wanted, text.into());
        }
    }
}

fn decrypt(case: &Path, path: &Path) -> String {
    let toolbox = Toolbox::new(Options::from_environment(None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sops = runtime.block_on(toolbox.find(Tool::Sops)).unwrap().path;
    let output = test_support::child(sops)
        .args(["--disable-version-check", "--decrypt"])
        .arg(path)
        .env("SOPS_AGE_KEY_FILE", case.join("age.key"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
