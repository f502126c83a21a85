//! Bad input and trouble before anything is dialled: exit code, what, where, why, next command.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::path::Path;

use common::{TestEnvironment, failures};
use test_support::CommandOutput;

const TALCONFIG: &str = "talos/infra/talconfig.yaml";
const RELEASES: &str = "bootstrap/infra/helmfile.d/01-apps.yaml";

/// The plan of a copy of the reference repository in which a text of a file is replaced.
fn plan_with(file: &str, from: &str, to: &str) -> CommandOutput {
    let environment = TestEnvironment::copy();
    environment.edit(file, from, to);
    environment.run(&["plan", "infra"])
}

#[test]
fn an_unknown_cluster_is_exit_2_with_those_that_exist() {
    insta::assert_snapshot!(TestEnvironment::reference().run(&["plan", "nowhere"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    cluster `nowhere` not found: no folder of that name holds Talos inputs
      hint: this repository describes: apps, infra
    hint: correct the files, then run the command again
    ");
}

#[test]
fn an_error_is_also_an_object_for_programs() {
    let run = TestEnvironment::reference().run(&["-o", "json", "plan", "nowhere"]);
    let printed: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.code, &printed["error"]["code"]), (2, &"I01".into()), "{run}");
    assert!(printed["error"]["message"].as_str().unwrap().contains("cluster `nowhere` not found"), "{run}");
    assert_eq!(printed["error"]["next"], "correct the files, then run the command again");
    assert!(run.stderr.starts_with("error[I01]: 1 mistake in the inputs"), "{run}");
}

#[test]
fn mistakes_in_the_files_are_exit_2_all_at_once() {
    let environment = TestEnvironment::copy();
    let network = environment.network();
    environment.edit(TALCONFIG, &format!("{network}.12\n"), &format!("{network}.11\n"));
    environment.edit(TALCONFIG, &format!("https://{network}.10:6443"), &format!("https://{network}.10"));
    environment.edit(TALCONFIG, "cniConfig:", "cniConfgi:");
    insta::assert_snapshot!(environment.run(&["plan", "infra"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 3 mistakes in the inputs; nothing was changed
    talos/infra/talconfig.yaml:5:11: invalid endpoint `https://10.25.11.10`: expected https://HOST:PORT
      hint: the Kubernetes API usually listens on port 6443
    talos/infra/talconfig.yaml:47:16: node `infra-cp-02` has the same address 10.25.11.11 as node `infra-cp-01` (talos/infra/talconfig.yaml:23:16)
    talos/infra/talconfig.yaml:17:1: unknown field `cniConfgi` is ignored, like in talhelper
      hint: did you mean `cniConfig`?
    hint: correct the files, then run the command again
    ");
}

#[test]
fn a_file_that_is_no_yaml_is_exit_2_with_its_place() {
    let environment = TestEnvironment::copy();
    std::fs::write(environment.repository.join(TALCONFIG), "clusterName: [infra\n").unwrap();
    insta::assert_snapshot!(environment.run(&["plan", "infra"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    talos/infra/talconfig.yaml:2:1: invalid YAML: while parsing a flow sequence, expected ',' or ']'
    hint: correct the files, then run the command again
    ");
}

#[test]
fn a_sops_file_whose_key_is_absent_is_exit_3() {
    let environment = TestEnvironment::copy();
    let mut plan = environment.command(&["plan", "infra"]);
    plan.env_remove("SOPS_AGE_KEY_FILE").env("HOME", "/nowhere");
    let output = environment.output(&mut plan);
    // The reason is worded by sops.
    insta::with_settings!({filters => [("cannot be decrypted: .*", "cannot be decrypted: [REASON]")]}, {
        insta::assert_snapshot!(output, @"
        exit code: 3
        ----- stderr -----
        error[O03]: [REPOSITORY]/talos/infra/talsecret.sops.yaml cannot be decrypted: [REASON]
        hint: make the key available to sops, for example SOPS_AGE_KEY_FILE=~/.config/sops/age/keys.txt
        ");
    });
}

#[test]
fn a_read_only_state_directory_is_exit_3() {
    let environment = TestEnvironment::copy();
    let mut run = environment.command_with_state(Path::new("/proc/nowhere"), &["infra"]);
    insta::assert_snapshot!(environment.output(&mut run), @"
    exit code: 3
    ----- stderr -----
    error[P02]: cannot create the state folder /proc/nowhere/infra: No such file or directory (os error 2)
    hint: set a folder with --state-dir
    ");
}

#[test]
fn a_lab_that_is_not_there_is_exit_3_with_the_command_that_starts_it() {
    insta::assert_snapshot!(TestEnvironment::reference().run(&["infra", "--lab"]), @"
    exit code: 3
    ----- stderr -----
    error[P04]: no lab of `infra` in [STATE]/labs/infra: No such file or directory (os error 2)
    hint: start it in another terminal: k8s-bootstrap lab up infra
    ");
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    insta::assert_snapshot!(TestEnvironment::reference().run(&["plan"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: the following required arguments were not provided:
      <CLUSTER>

    Usage: k8s-bootstrap plan <CLUSTER>

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_scenario_is_exit_2_with_the_known_ones() {
    insta::assert_snapshot!(TestEnvironment::reference().run(&["rehearse", "infra", "--scenario", "none"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: scenario `none` not found: it is neither built in (default, fast) nor a file
    hint: `k8s-bootstrap <command> --help` lists the arguments
    ");
}

#[test]
fn rendered_configs_hide_every_secret() {
    let output = TestEnvironment::reference().run(&["render", "infra", "infra-cp-01"]);
    assert_eq!(output.code, 0, "{output}");
    let is_shown = |line: &&str| line.contains("******") || line.contains("type: ");
    insta::assert_snapshot!(output.stdout.lines().filter(is_shown).collect::<Vec<_>>().join("\n"), @"
    type: controlplane
    token: ******
        ******
        type: nvme
    secret: ******
    token: ******
    secretboxEncryptionSecret: ******
        ******
        ******
        ******
          ******
    ");
    assert!(!output.stdout.contains("PRIVATE KEY"), "{output}");
}

#[test]
fn a_helmfile_that_is_missing_is_exit_2_with_the_key_that_names_another() {
    let environment = TestEnvironment::copy();
    std::fs::remove_file(environment.repository.join(RELEASES)).unwrap();
    insta::assert_snapshot!(environment.run(&["infra"]), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    no helmfile found for `infra`: no state file below bootstrap/ has `releases:`
      hint: name one in k8s-bootstrap.yaml: clusters.infra.releases
    hint: correct the files, then run the command again
    ");
}

#[test]
fn a_need_to_nothing_and_a_cycle_are_exit_2_with_their_places() {
    insta::assert_snapshot!(plan_with(RELEASES, "kube-system/cilium", "kube-system/silium"), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    bootstrap/infra/helmfile.d/01-apps.yaml:34:5: kube-system/coredns needs unknown release kube-system/silium
      hint: did you mean `kube-system/cilium`?
    hint: correct the files, then run the command again
    ");
    let cyclic = "name: cilium\n    needs: [kube-system/coredns]\n";
    insta::assert_snapshot!(plan_with(RELEASES, "name: cilium\n", cyclic), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    bootstrap/infra/helmfile.d/01-apps.yaml:35:5: circular needs: kube-system/coredns -> kube-system/cilium -> kube-system/coredns
    hint: correct the files, then run the command again
    ");
}

#[test]
fn an_unknown_helmfile_key_is_exit_2_with_the_likely_one() {
    insta::assert_snapshot!(plan_with(RELEASES, "namespace: kube-system", "namespce: kube-system"), @r#"
    exit code: 2
    ----- stderr -----
    error[I01]: 3 mistakes in the inputs; nothing was changed
    bootstrap/infra/helmfile.d/01-apps.yaml:7:5: release "cilium" has an unknown key `namespce`
      hint: did you mean `namespace`?
    bootstrap/infra/helmfile.d/01-apps.yaml:35:5: release "coredns" has an unknown key `namespce`
      hint: did you mean `namespace`?
    bootstrap/infra/helmfile.d/01-apps.yaml:44:5: release "spegel" has an unknown key `namespce`
      hint: did you mean `namespace`?
    hint: correct the files, then run the command again
    "#);
}

#[test]
fn a_cluster_without_a_control_plane_is_exit_2() {
    insta::assert_snapshot!(plan_with(TALCONFIG, "controlPlane: true", "controlPlane: false"), @"
    exit code: 2
    ----- stderr -----
    error[I01]: 1 mistake in the inputs; nothing was changed
    talos/infra/talconfig.yaml:21:1: no node is a control plane
      hint: set `controlPlane: true` on one, three or five nodes
    hint: correct the files, then run the command again
    ");
}

/// A folder with a program `name` that runs `script`.
fn program(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// A run whose only tools are in `tools`, and the sops of the cache: the secrets bundle is opened before helm is looked
/// for.
fn run_with_tools(tools: &tempfile::TempDir) -> CommandOutput {
    let environment = TestEnvironment::copy();
    std::os::unix::fs::symlink(common::tool("sops"), tools.path().join("sops")).unwrap();
    let mut run = environment.command(&["infra"]);
    run.env("PATH", tools.path()).env("XDG_CACHE_HOME", tools.path());
    environment.output(run.arg("--tools-dir").arg(tools.path()))
}

#[test]
fn a_helm_that_is_too_old_is_exit_3_with_both_versions() {
    insta::assert_snapshot!(run_with_tools(&program("helm", "echo v3.10.2+g50f003e")), @"
    exit code: 3
    ----- stderr -----
    error[P01]: helm 3.10.2 at [TEMP]/helm is too old; 3.18.0 or newer is required; nothing was changed
    hint: install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir
    ");
}

#[test]
fn a_helm_that_is_missing_is_exit_3_with_the_command_that_provides_it() {
    insta::assert_snapshot!(run_with_tools(&tempfile::tempdir().unwrap()), @"
    exit code: 3
    ----- stderr -----
    error[P01]: helm was not found (searched: [TEMP], PATH, [TEMP]/k8s-bootstrap/tools); nothing was changed
    hint: install helm 4, provide it with `k8s-bootstrap tools install`, or name its folder with --tools-dir
    ");
}

#[test]
fn a_full_disk_is_exit_3_before_anything_is_changed() {
    let environment = TestEnvironment::copy();
    let _lab = environment.lab("infra");
    let inner = environment.command(&["infra", "--lab"]);
    // A limit on file sizes fails a write just as a full disk does.
    let mut limited = test_support::child("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    insta::assert_snapshot!(environment.output(&mut limited), @"
    exit code: 3
    ----- stderr -----
    error[O05]: cannot lock [STATE]/labs/infra/run/lock: File too large (os error 27); nothing was changed
    hint: set another folder with --state-dir
    ");
    assert!(environment.status("infra")["record"]["calls"].as_object().unwrap().is_empty(), "a node was called");
}

/// Fails when a node was sent a config.
fn assert_nothing_is_applied(environment: &TestEnvironment) {
    let calls = &environment.status("infra")["record"]["calls"];
    let applied = calls.as_object().unwrap().values().any(|calls| calls.get("ApplyConfiguration").is_some());
    assert!(!applied, "a config was applied: {calls}");
}

#[test]
fn a_node_that_does_not_answer_is_exit_3_and_nothing_is_applied() {
    let environment = TestEnvironment::copy();
    let _lab = environment.lab("infra");
    let network = environment.network();
    environment.edit(TALCONFIG, &format!("{network}.16\n"), &format!("{network}.99\n"));
    insta::assert_snapshot!(failures(&environment.run(&["infra", "--lab"])), @"
    exit code: 3
    preflight/infra-worker-03: error[T11]: the node does not respond
        where: node infra-worker-03 (10.25.11.99)
        why: transport error: 10.25.11.99:50000 is not a loopback address; a rehearsal rejects it
        page: docs/errors/T11.md
        next: check that the node is powered on, booted from the Talos image, and reachable on port 50000
    ");
    assert_nothing_is_applied(&environment);
}

#[test]
fn a_reference_that_1password_does_not_know_is_exit_3_and_nothing_is_applied() {
    let environment = TestEnvironment::copy();
    let template = "bootstrap/infra/secrets.yaml.tpl";
    environment.edit(template, "op://k8s-ops/", "op://k8s-ops/no-such-item-");
    let _lab = environment.lab("infra");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let path = format!("{}:{}", fixtures.display(), std::env::var("PATH").unwrap());
    let mut run = environment.command(&["infra", "--lab", "--secrets", "real"]);
    insta::assert_snapshot!(failures(&environment.output(run.env("PATH", path))), @r#"
    exit code: 3
    preflight/secrets: error[O15]: a secret reference cannot be resolved
        where: bootstrap/infra/secrets.yaml.tpl:22:5
        why: cannot resolve op://k8s-ops/no-such-item-1password-connect-infra/credentials (line 22, column 5): could not resolve secret reference: "no-such-item-1password-connect-infra" isn't an item in the "k8s-ops" vault. Specify the item with its UUID, name, or domain.
        page: docs/errors/O15.md
        next: correct the reference, or create the item: `op item list` shows the existing ones
    "#);
    assert_nothing_is_applied(&environment);
}
