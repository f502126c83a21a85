//! `machineconfig patch`: a base and patches in order of their names.

use std::path::{Path, PathBuf};

use k8s_bootstrap::talos::config::{Documents, merge, parse_documents};
use k8s_bootstrap::yaml::Origin;

use crate::compare::differences;
use crate::{Kind, name, read};

const SCHEMA: &str = "the merge does not know Talos's types yet";

pub(crate) const KIND: Kind = Kind {
    name: "patch",
    run,
    not_yet: &[
        ("06-nulls", SCHEMA),
        ("16-kubelet-config-type-clash", SCHEMA),
        ("18-kernel-sysctl-sysfs", SCHEMA),
        ("19-registries", SCHEMA),
        ("24-audit-policy-replaced", SCHEMA),
        ("28-delete-key-in-list-element", SCHEMA),
        ("30-delete-then-add", SCHEMA),
        ("34-delete-whole-section", SCHEMA),
        ("38-link-documents", SCHEMA),
        ("39-merge-named-documents", SCHEMA),
        ("54-unknown-field", SCHEMA),
        ("55-unknown-field-in-document", SCHEMA),
        ("56-wrong-types", SCHEMA),
        ("57-unknown-kind", SCHEMA),
        ("58-kind-without-apiversion", SCHEMA),
        ("59-duplicates-in-base", SCHEMA),
        ("60-duplicates-in-patch", SCHEMA),
        ("63-generated-control-plane", SCHEMA),
        ("64-generated-1.14", SCHEMA),
        ("65-newer-kinds", SCHEMA),
        ("66-size-as-percent-refused", SCHEMA),
        ("41-json6902", "JSON6902 is not there yet"),
        ("42-json6902-as-json", "JSON6902 is not there yet"),
        ("48-json6902-then-merge-then-json6902", "JSON6902 is not there yet"),
    ],
};

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
    let mut config = read(&case.join("base.yaml"));
    for patch in &patches {
        let text = std::fs::read_to_string(patch).unwrap();
        let patch = parse_documents(&Origin::of_path(patch), &text).map_err(|error| error.to_string())?;
        config = merge(&config, &patch).map_err(|error| error.to_string())?;
    }
    Ok(config)
}
