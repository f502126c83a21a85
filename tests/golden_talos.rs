//! Machine configs against the results of the real tools.
//!
//! The cases are read from `K8S_BOOTSTRAP_GOLDEN` (default `../shared/golden` beside the checkout); without them the
//! tests say so and pass. Cases that do not agree yet are listed by name below; one that agrees once must go on to.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use k8s_bootstrap::talos::config::{Documents, SecretsBundle, merge, parse_documents, talconfig};
use k8s_bootstrap::yaml::Origin;
use serde_json::{Value, json};

/// Fields that Talos always writes: empty and absent are the same there.
const EMPTY_IS_ABSENT: [&str; 13] = [
    "/machine/token",
    "/machine/certSANs",
    "/machine/ca/key",
    "/cluster/ca/key",
    "/machine/install/wipe",
    "/cluster/etcd/ca",
    "/cluster/network/dnsDomain",
    "/cluster/network/podSubnets",
    "/cluster/network/serviceSubnets",
    "/cluster/discovery/registries/kubernetes",
    "/cluster/discovery/registries/service",
    "/machine/network",
    "/machine/registries",
];

/// Issue 5.
const PATCHES_NOT_YET: [&str; 31] = [
    "06-nulls",
    "09-vlans",
    "11-wireguard-bridge-vip",
    "14-extra-args-lists",
    "16-kubelet-config-type-clash",
    "18-kernel-sysctl-sysfs",
    "19-registries",
    "20-disks-encryption",
    "22-time-logging-features",
    "24-audit-policy-replaced",
    "25-delete-keys",
    "28-delete-key-in-list-element",
    "30-delete-then-add",
    "34-delete-whole-section",
    "37-add-documents",
    "38-link-documents",
    "39-merge-named-documents",
    "41-json6902",
    "42-json6902-as-json",
    "48-json6902-then-merge-then-json6902",
    "54-unknown-field",
    "55-unknown-field-in-document",
    "56-wrong-types",
    "57-unknown-kind",
    "58-kind-without-apiversion",
    "59-duplicates-in-base",
    "60-duplicates-in-patch",
    "63-generated-control-plane",
    "64-generated-1.14",
    "65-newer-kinds",
    "66-size-as-percent-refused",
];

/// Issue 5.
const TALCONFIGS_NOT_YET: [&str; 15] = [
    "02-legacy-1.11",
    "03-defaults",
    "04-env-anchors",
    "05-patches-1.11",
    "06-images",
    "07-labels-templates",
    "08-documents",
    "09-network-1.12",
    "10-sops",
    "11-v1.13",
    "15-unknown-keys",
    "16-dollar-patch",
    "19-v1.13-more",
    "20-machine-file-folded",
    "21-lost-on-the-way",
];

fn cases(kind: &str) -> Vec<PathBuf> {
    let root = std::env::var_os("K8S_BOOTSTRAP_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden"), PathBuf::from);
    let folder = root.join("talos").join(kind);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no golden cases at {}", folder.display());
        return vec![];
    };
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn read(path: &Path) -> Documents {
    parse_documents(&Origin::of_path(path), &std::fs::read_to_string(path).unwrap()).unwrap()
}

fn comparable(documents: &Documents) -> Vec<Value> {
    let mut all: Vec<Value> = documents.0.iter().map(sorted).collect();
    for document in &mut all {
        for pointer in EMPTY_IS_ABSENT {
            drop_if_empty(document, pointer);
        }
    }
    all.sort_by_key(|document| {
        let text = |key: &str| document.get(key).map(ToString::to_string).unwrap_or_default();
        (text("kind"), text("name"))
    });
    all
}

fn drop_if_empty(document: &mut Value, pointer: &str) {
    let empty = [json!(null), json!(""), json!([]), json!({})];
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    if let Some(Value::Object(map)) = document.pointer_mut(parent)
        && map.get(key).is_some_and(|value| empty.contains(value))
    {
        map.shift_remove(key);
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn differences(ours: &Documents, theirs: &Documents) -> String {
    let text = |documents: &Documents| {
        comparable(documents).iter().map(|document| format!("{document:#}\n---\n")).collect::<String>()
    };
    let (ours, theirs) = (text(ours), text(theirs));
    similar::TextDiff::from_lines(&theirs, &ours).unified_diff().context_radius(1).to_string()
}

fn report(kind: &str, results: &[(String, Result<(), String>)], not_yet: &[&str]) {
    let passed = results.iter().filter(|(_, result)| result.is_ok()).count();
    eprintln!("{kind}: {passed} of {} golden cases agree", results.len());
    for (case, result) in results {
        if let Err(difference) = result {
            eprintln!("--- {kind}/{case}\n{difference}");
        }
    }
    let broken: Vec<&str> = results
        .iter()
        .filter(|(case, result)| result.is_err() && !not_yet.contains(&case.as_str()))
        .map(|(case, _)| case.as_str())
        .collect();
    assert!(broken.is_empty(), "{kind}: these cases differ: {broken:?}");
}

#[test]
fn talconfigs_render_as_talhelper_renders_them() {
    let results: Vec<_> = cases("talconfig").iter().map(|case| (name(case), talconfig_case(case))).collect();
    report("talconfig", &results, &TALCONFIGS_NOT_YET);
}

fn talconfig_case(case: &Path) -> Result<(), String> {
    let expects_error = case.join("expected-error.txt").exists();
    let config = match talconfig::read(case, case, &|_| None) {
        Ok(_) if expects_error => return Err("expected an error".to_owned()),
        Err(_) if expects_error => return Ok(()),
        Err(found) => return Err(found.to_string()),
        Ok(config) => config,
    };
    let secrets = case.join("talsecret.yaml");
    let text = std::fs::read_to_string(&secrets).map_err(|error| error.to_string())?;
    let bundle = SecretsBundle::parse(&Origin::of_path(&secrets), &text).map_err(|found| found.to_string())?;
    for node in &config.nodes {
        let ours = config.render(&bundle, node).map_err(|error| error.to_string())?;
        let expected = case.join("expected").join(format!("{}-{}.yaml", config.cluster_name, node.hostname));
        let difference = differences(&ours, &read(&expected));
        if !difference.is_empty() {
            return Err(format!("{}\n{difference}", node.hostname));
        }
    }
    Ok(())
}

#[test]
fn patches_apply_as_talos_applies_them() {
    let results: Vec<_> = cases("patch").iter().map(|case| (name(case), patch_case(case))).collect();
    report("patch", &results, &PATCHES_NOT_YET);
}

fn patch_case(case: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let mut patches: Vec<_> = entries.filter(|path| name(path).starts_with("patch")).collect();
    patches.sort();
    let expects_error = case.join("expected-error.txt").exists();
    let mut config = read(&case.join("base.yaml"));
    for patch in &patches {
        let text = std::fs::read_to_string(patch).unwrap();
        let merged = parse_documents(&Origin::of_path(patch), &text)
            .map_err(|error| error.to_string())
            .and_then(|patch| merge(&config, &patch).map_err(|error| error.to_string()));
        match merged {
            Ok(merged) => config = merged,
            Err(_) if expects_error || case.join("quirk.txt").exists() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if case.join("quirk.txt").exists() {
        return Ok(());
    }
    if expects_error {
        return Err("expected an error".to_owned());
    }
    let difference = differences(&config, &read(&case.join("expected.yaml")));
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
