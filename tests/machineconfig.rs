//! `machineconfig gen|patch|validate`: exit codes, files, messages.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::TestEnvironment;
use test_support::CommandOutput;

const GENERATE: [&str; 3] = ["gen", "blue", "https://10.0.0.10:6443"];

fn machineconfig(environment: &TestEnvironment, arguments: &[&str]) -> CommandOutput {
    environment.run(&[&["machineconfig"], arguments].concat())
}

/// An environment with these files.
fn with_files(files: &[(&str, &str)]) -> TestEnvironment {
    let environment = TestEnvironment::empty();
    for (name, text) in files {
        std::fs::write(environment.repository.join(name), text).unwrap();
    }
    environment
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn generated_files_are_private_valid_and_never_overwritten_without_force() {
    let environment = TestEnvironment::empty();
    let generate = [&GENERATE[..], &["--talos-version", "v1.14"]].concat();
    insta::assert_snapshot!(machineconfig(&environment, &generate), @"
    exit code: 0
    ----- stderr -----
    [REPOSITORY]/./controlplane.yaml written
    [REPOSITORY]/./worker.yaml written
    [REPOSITORY]/./talosconfig written
    ");
    for file in ["controlplane.yaml", "worker.yaml", "talosconfig"] {
        let mode = std::fs::metadata(environment.repository.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let strict = ["--mode", "metal", "--strict"];
    let control_plane = [&["validate", "--config", "controlplane.yaml"], &strict[..]].concat();
    insta::assert_snapshot!(machineconfig(&environment, &control_plane), @"
    exit code: 0
    ----- stdout -----
    controlplane.yaml is valid for metal mode
    ");
    let worker = [&["validate", "--config", "worker.yaml"], &strict[..]].concat();
    insta::assert_snapshot!(machineconfig(&environment, &worker), @"
    exit code: 0
    ----- stdout -----
    worker.yaml is valid for metal mode
    ");
    insta::assert_snapshot!(machineconfig(&environment, &generate), @"
    exit code: 3
    ----- stderr -----
    error[P02]: [REPOSITORY]/./controlplane.yaml already exists; nothing was changed
    hint: overwrite it with --force, or set another path with --out
    ");
}

#[test]
fn an_endpoint_without_a_scheme_is_rejected_with_a_correction() {
    let environment = TestEnvironment::empty();
    insta::assert_snapshot!(machineconfig(&environment, &["gen", "blue", "10.0.0.10"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: invalid endpoint `10.0.0.10`: expected https://HOST:PORT
    hint: did you mean https://10.0.0.10:6443?
    ");
    assert_eq!(names(&environment.repository), Vec::<String>::new());
}

#[test]
fn patches_are_files_or_inline_and_errors_have_their_places() {
    let environment = with_files(&[
        ("base.yaml", "machine: {type: worker}\n"),
        ("typo.yaml", "machine:\n  kubelets: {}\n"),
        ("empty.yaml", "# nothing\n"),
    ]);
    let inline = r#"{"machine": {"nodeLabels": {"a": "b"}}}"#;
    insta::assert_snapshot!(machineconfig(&environment, &["patch", "base.yaml", "-p", inline, "-p", "empty.yaml"]), @r#"
    exit code: 0
    ----- stdout -----
    version: ""
    machine:
      type: worker
      token: ""
      certSANs: []
      nodeLabels:
        a: b
    cluster: null
    ----- stderr -----
    warning: the patch empty.yaml is empty
    "#);
    insta::assert_snapshot!(machineconfig(&environment, &["patch", "base.yaml", "-p", "@typo.yaml", "--out", "new.yaml"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    typo.yaml:2:3: unknown field `machine.kubelets`
      hint: did you mean `kubelet`?
    hint: correct the files, then run the command again
    ");
    assert_eq!(names(&environment.repository), ["base.yaml", "empty.yaml", "typo.yaml"]);
}

#[test]
fn an_invalid_config_is_rejected_with_all_findings() {
    let environment = with_files(&[("config.yaml", "machine:\n  type: master\npersist: false\n")]);
    insta::assert_snapshot!(machineconfig(&environment, &["validate", "--config", "config.yaml", "--mode", "metal"]), @r#"
    exit code: 2
    ----- stderr -----
    error[I01]: 4 mistakes in the inputs; nothing was changed
    config.yaml:1:1: `cluster` cluster instructions are required
    config.yaml:2:9: `machine.type` unknown machine type "master"
    config.yaml:2:3: `machine.ca` an issuing CA or some accepted CAs (machine.acceptedCAs) are required
    config.yaml:3:10: `persist` should be enabled
    hint: correct the files, then run the command again
    "#);
}

#[test]
fn a_document_of_a_newer_talos_version_is_rejected() {
    let patch = "machine: {env: {A: b}}\n---\napiVersion: v1alpha1\nkind: KubeletConfig\nimage: x:1\n";
    let environment = with_files(&[("kubelet.yaml", patch)]);
    let generate = |version: &str, flag: &str| {
        let more = ["--talos-version", version, flag, "@kubelet.yaml", "--force"];
        machineconfig(&environment, &[&GENERATE[..], &more].concat())
    };
    let rejected = generate("v1.11.6", "--config-patch");
    insta::assert_snapshot!(rejected, @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    kubelet.yaml:3:1: document KubeletConfig requires Talos v1.14 or later, the config is for Talos v1.11
    hint: correct the files, then run the command again
    ");
    for flag in ["--config-patch-control-plane", "--config-patch-worker"] {
        assert_eq!(generate("v1.11.6", flag), rejected, "{flag}");
    }
    assert_eq!(names(&environment.repository), ["kubelet.yaml"]);
    insta::assert_snapshot!(generate("v1.14", "--config-patch"), @"
    exit code: 0
    ----- stderr -----
    [REPOSITORY]/./controlplane.yaml written
    [REPOSITORY]/./worker.yaml written
    [REPOSITORY]/./talosconfig written
    ");
}

#[test]
fn strict_validation_rejects_warnings_about_any_document() {
    let config = "machine: {type: worker, ca: {crt: YQ==}}\ncluster: {controlPlane: {endpoint: 'https://a:6443'}}\n---\n\
                  apiVersion: v1alpha1\nkind: BondConfig\nname: bond0\nlinks: [a]\nbondMode: 802.3ad\n";
    let environment = with_files(&[("config.yaml", config)]);
    let validate = ["validate", "--config", "config.yaml", "--mode", "metal"];
    insta::assert_snapshot!(machineconfig(&environment, &validate), @"
    exit code: 0
    ----- stdout -----
    config.yaml is valid for metal mode
    ----- stderr -----
    warning: config.yaml:4:1: BondConfig bond0: `miimon` miimon is not set, which is recommended for a bond in 802.3ad mode
    warning: config.yaml:4:1: BondConfig bond0: `updelay` updelay is not set, which is recommended for a bond in 802.3ad mode
    warning: config.yaml:4:1: BondConfig bond0: `downdelay` downdelay is not set, which is recommended for a bond in 802.3ad mode
    ");
    insta::assert_snapshot!(machineconfig(&environment, &[&validate[..], &["--strict"]].concat()), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 3 mistakes in the inputs; nothing was changed
    config.yaml:4:1: BondConfig bond0: `miimon` miimon is not set, which is recommended for a bond in 802.3ad mode
    config.yaml:4:1: BondConfig bond0: `updelay` updelay is not set, which is recommended for a bond in 802.3ad mode
    config.yaml:4:1: BondConfig bond0: `downdelay` downdelay is not set, which is recommended for a bond in 802.3ad mode
    hint: --strict treats warnings as errors
    ");
}
