//! `machineconfig gen|patch|validate` as a user meets them: exit codes, files, messages.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn machineconfig(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8s-bootstrap"));
    command.arg("-C").arg(folder).arg("machineconfig").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_generated_is_private_valid_and_never_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let generate = ["gen", "blue", "https://10.0.0.10:6443", "--talos-version", "v1.14"];
    let output = machineconfig(folder.path(), &generate);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for file in ["controlplane.yaml", "worker.yaml", "talosconfig"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for file in ["controlplane.yaml", "worker.yaml"] {
        let output = machineconfig(folder.path(), &["validate", "--config", file, "--mode", "metal", "--strict"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let again = machineconfig(folder.path(), &generate);
    assert_eq!(again.status.code(), Some(3));
    assert!(said(&again).contains("is there already; nothing was changed"), "{}", said(&again));
}

#[test]
fn an_endpoint_without_a_scheme_is_refused_with_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = machineconfig(folder.path(), &["gen", "blue", "10.0.0.10"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("did you mean https://10.0.0.10:6443?"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn patches_are_files_or_texts_and_every_mistake_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("base.yaml"), "machine: {type: worker}\n").unwrap();
    std::fs::write(folder.path().join("typo.yaml"), "machine:\n  kubelets: {}\n").unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "# nothing\n").unwrap();
    let inline = r#"{"machine": {"nodeLabels": {"a": "b"}}}"#;
    let output = machineconfig(folder.path(), &["patch", "base.yaml", "-p", inline, "-p", "empty.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("a: b"));
    assert!(said(&output).contains("warning: the patch empty.yaml is empty"), "{}", said(&output));
    let output = machineconfig(folder.path(), &["patch", "base.yaml", "-p", "@typo.yaml", "--out", "new.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("typo.yaml:2:3: Talos knows no field `machine.kubelets`"), "{}", said(&output));
    assert!(!folder.path().join("new.yaml").exists());
}

#[test]
fn a_config_that_talos_would_refuse_is_refused_with_every_finding() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), "machine:\n  type: master\npersist: false\n").unwrap();
    let output = machineconfig(folder.path(), &["validate", "--config", "config.yaml", "--mode", "metal"]);
    assert_eq!(output.status.code(), Some(2));
    for named in ["config.yaml:2:9: `machine.type`", "`cluster`", "`machine.ca`", "config.yaml:3:10: `persist`"] {
        assert!(said(&output).contains(named), "{named} is not named in\n{}", said(&output));
    }
}
