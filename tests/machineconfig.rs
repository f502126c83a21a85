//! `machineconfig gen|patch|validate`: exit codes, files, messages.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

fn machineconfig(folder: &Path, arguments: &[&str]) -> Output {
    common::program().arg("-C").arg(folder).arg("machineconfig").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn generated_files_are_private_valid_and_never_overwritten_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let generate = ["gen", "blue", "https://10.0.0.10:6443", "--talos-version", "v1.14"];
    let output = machineconfig(folder.path(), &generate);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for file in ["controlplane.yaml", "worker.yaml", "talosconfig"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for file in ["controlplane.yaml", "worker.yaml"] {
        let output = machineconfig(folder.path(), &["validate", "--config", file, "--mode", "metal", "--strict"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let again = machineconfig(folder.path(), &generate);
    assert_eq!(again.status.code(), Some(3));
    assert!(stderr(&again).contains("already exists; nothing was changed"), "{}", stderr(&again));
}

#[test]
fn an_endpoint_without_a_scheme_is_rejected_with_a_correction() {
    let folder = tempfile::tempdir().unwrap();
    let output = machineconfig(folder.path(), &["gen", "blue", "10.0.0.10"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("did you mean https://10.0.0.10:6443?"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn patches_are_files_or_inline_and_errors_have_their_places() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.yaml"), "machine: {type: worker}\n").unwrap();
    std::fs::write(folder.path().join("typo.yaml"), "machine:\n  kubelets: {}\n").unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
    let inline = r#"{"machine": {"nodeLabels": {"a": "b"}}}"#;
    let output = machineconfig(folder.path(), &["patch", "base.yaml", "-p", inline, "-p", "empty.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("a: b"));
    assert!(stderr(&output).contains("warning: the patch empty.yaml is empty"), "{}", stderr(&output));
    let output = machineconfig(folder.path(), &["patch", "base.yaml", "-p", "@typo.yaml", "--out", "new.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("typo.yaml:2:3: unknown field `machine.kubelets`"), "{}", stderr(&output));
    assert!(!folder.path().join("new.yaml").exists());
}

#[test]
fn an_invalid_config_is_rejected_with_all_findings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), "machine:\n  type: master\npersist: false\n").unwrap();
    let output = machineconfig(folder.path(), &["validate", "--config", "config.yaml", "--mode", "metal"]);
    assert_eq!(output.status.code(), Some(2));
    for named in ["config.yaml:2:9: `machine.type`", "`cluster`", "`machine.ca`", "config.yaml:3:10: `persist`"] {
        assert!(stderr(&output).contains(named), "{named} is not named in\n{}", stderr(&output));
    }
}

#[test]
fn a_document_of_a_newer_talos_version_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let patch = "machine: {env: {A: b}}\n---\napiVersion: v1alpha1\nkind: KubeletConfig\nimage: x:1\n";
    std::fs::write(folder.path().join("kubelet.yaml"), patch).unwrap();
    let generate = |version: &str, flag: &str| {
        let arguments = ["gen", "blue", "https://10.0.0.10:6443", "--talos-version", version, flag, "@kubelet.yaml"];
        machineconfig(folder.path(), &[&arguments[..], &["--force"]].concat())
    };
    for flag in ["--config-patch", "--config-patch-control-plane", "--config-patch-worker"] {
        let output = generate("v1.11.6", flag);
        assert_eq!(output.status.code(), Some(2), "{flag}: {}", stderr(&output));
        let expected =
            "kubelet.yaml:3:1: document KubeletConfig requires Talos v1.14 or later, the config is for Talos v1.11";
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(!folder.path().join("worker.yaml").exists());
    }
    let output = generate("v1.14", "--config-patch");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn strict_validation_rejects_warnings_about_any_document() {
    let folder = tempfile::tempdir().unwrap();
    let config = "machine: {type: worker, ca: {crt: YQ==}}\ncluster: {controlPlane: {endpoint: 'https://a:6443'}}\n---\n\
                  apiVersion: v1alpha1\nkind: BondConfig\nname: bond0\nlinks: [a]\nbondMode: 802.3ad\n";
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let validate = ["validate", "--config", "config.yaml", "--mode", "metal"];
    let output = machineconfig(folder.path(), &validate);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: config.yaml:4:1: BondConfig bond0: `miimon`"), "{}", stderr(&output));
    let output = machineconfig(folder.path(), &[&validate[..], &["--strict"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--strict treats warnings as errors"), "{}", stderr(&output));
}
