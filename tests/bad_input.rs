//! Invalid input and failed preconditions before any connection: exit code, what, where, why, next command.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::path::Path;

use common::TestEnvironment;

#[test]
fn an_unknown_cluster_is_exit_2_with_those_that_exist() {
    let (code, _, err) = TestEnvironment::reference().run(&["plan", "nowhere"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @r#"
    error: 1 mistake in the inputs; nothing was changed
    cluster `nowhere` not found: no folder of that name holds Talos inputs
      hint: this repository describes: apps, infra
    "#);
}

#[test]
fn mistakes_in_the_files_are_exit_2_all_at_once() {
    let environment = TestEnvironment::copy("10.62.1");
    let path = environment.repository.join("talos/infra/talconfig.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("10.62.1.12\n", "10.62.1.11\n").replace("https://10.62.1.10:6443", "https://10.62.1.10");
    std::fs::write(&path, text.replace("cniConfig:", "cniConfgi:")).unwrap();
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @"
    error: 3 mistakes in the inputs; nothing was changed
    talos/infra/talconfig.yaml:5:11: invalid endpoint `https://10.62.1.10`: expected https://HOST:PORT
      hint: the Kubernetes API usually listens on port 6443
    talos/infra/talconfig.yaml:47:16: node `infra-cp-02` has the same address 10.62.1.11 as node `infra-cp-01` (talos/infra/talconfig.yaml:23:16)
    talos/infra/talconfig.yaml:17:1: unknown field `cniConfgi` is ignored, like in talhelper
      hint: did you mean `cniConfig`?
    ");
}

#[test]
fn a_file_with_invalid_yaml_is_exit_2_with_its_position() {
    let environment = TestEnvironment::copy("10.62.2");
    std::fs::write(environment.repository.join("talos/infra/talconfig.yaml"), "clusterName: [infra\n").unwrap();
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2);
    assert!(err.contains("talos/infra/talconfig.yaml:2:1: invalid YAML"), "{err}");
}

#[test]
fn a_sops_file_whose_key_is_absent_is_exit_3() {
    let environment = TestEnvironment::copy("10.62.3");
    let output =
        environment.command(&["plan", "infra"]).env_remove("SOPS_AGE_KEY_FILE").env("HOME", "/nowhere").output();
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("talsecret.sops.yaml cannot be decrypted") && err.contains("SOPS_AGE_KEY_FILE"), "{err}");
}

#[test]
fn a_read_only_state_directory_is_exit_3() {
    let environment = TestEnvironment::copy("10.62.4");
    let output = environment.command_with_state(Path::new("/proc/nowhere"), &["infra"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("cannot create the state folder") && err.contains("--state-dir"), "{err}");
}

#[test]
fn a_lab_that_is_not_there_is_exit_3_with_the_command_that_starts_it() {
    let (code, _, err) = TestEnvironment::reference().run(&["infra", "--lab"]);
    assert_eq!(code, 3);
    assert!(err.contains("k8s-bootstrap lab up infra"), "{err}");
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let (code, _, err) = TestEnvironment::reference().run(&["plan"]);
    assert_eq!(code, 2);
    assert!(err.contains("<CLUSTER>"), "{err}");
}

#[test]
fn an_unknown_scenario_is_exit_2_with_the_known_ones() {
    let (code, _, err) = TestEnvironment::reference().run(&["rehearse", "infra", "--scenario", "none"]);
    assert_eq!(code, 2);
    assert!(err.contains("scenario `none` not found") && err.contains("default"), "{err}");
}

#[test]
fn rendered_configs_hide_every_secret() {
    let (code, out, err) = TestEnvironment::reference().run(&["render", "infra", "infra-cp-01"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("type: controlplane") && out.contains("token: ******"), "{out}");
    assert!(!out.contains("PRIVATE KEY"), "{out}");
}

/// A copy of the reference repository in which one text of a file is replaced.
fn edited(network: &str, file: &str, from: &str, to: &str) -> TestEnvironment {
    let environment = TestEnvironment::copy(network);
    let path = environment.repository.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} does not contain {from}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    environment
}

const RELEASES: &str = "bootstrap/infra/helmfile.d/01-apps.yaml";

#[test]
fn a_helmfile_that_is_missing_is_exit_2_with_the_key_that_names_another() {
    let environment = TestEnvironment::copy("10.62.5");
    std::fs::remove_file(environment.repository.join(RELEASES)).unwrap();
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2, "{err}");
    insta::assert_snapshot!(err, @"
    error: 1 mistake in the inputs; nothing was changed
    no helmfile found for `infra`: no state file below bootstrap/ has `releases:`
      hint: name one in k8s-bootstrap.yaml: clusters.infra.releases
    ");
}

#[test]
fn a_need_to_nothing_and_a_cycle_are_exit_2_with_their_places() {
    let environment = edited("10.62.6", RELEASES, "kube-system/cilium", "kube-system/silium");
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains(RELEASES) && err.contains("silium") && err.contains("cilium"), "{err}");
    let environment = TestEnvironment::copy("10.62.7");
    let path = environment.repository.join(RELEASES);
    let text = std::fs::read_to_string(&path).unwrap();
    let cilium = text.find("name: cilium").unwrap();
    let (head, tail) = text.split_at(cilium);
    let cyclic = tail.replacen("name: cilium\n", "name: cilium\n    needs: [kube-system/coredns]\n", 1);
    std::fs::write(&path, format!("{head}{cyclic}")).unwrap();
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2, "{err}");
    assert!(
        err.contains("kube-system/cilium -> kube-system/coredns -> kube-system/cilium")
            || err.contains("kube-system/coredns -> kube-system/cilium -> kube-system/coredns"),
        "{err}"
    );
}

#[test]
fn an_unknown_helmfile_key_is_exit_2_with_the_likely_one() {
    let environment = edited("10.62.8", RELEASES, "namespace:", "namespce:");
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains(RELEASES) && err.contains("namespce") && err.contains("`namespace`"), "{err}");
}

#[test]
fn a_cluster_without_a_control_plane_is_exit_2() {
    let environment = TestEnvironment::copy("10.62.9");
    let path = environment.repository.join("talos/infra/talconfig.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("controlPlane: true", "controlPlane: false")).unwrap();
    let (code, _, err) = environment.run(&["plan", "infra"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("control plane"), "{err}");
}

/// A folder with a program `name` that runs `script`.
fn program(name: &str, script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_helm_that_is_too_old_is_exit_3_with_both_versions() {
    let environment = TestEnvironment::copy("10.62.10");
    let old = program("helm", "echo v3.10.2+g50f003e");
    let mut command = environment.command(&["infra"]);
    command.env("PATH", old.path()).env("XDG_CACHE_HOME", old.path()).arg("--tools-dir").arg(old.path());
    // The bundle is opened before helm is looked for, by the sops that the cache has.
    std::os::unix::fs::symlink(common::tool("sops"), old.path().join("sops")).unwrap();
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("3.10.2") && err.contains("3.18.0") && err.contains("nothing was changed"), "{err}");
}

#[test]
fn a_helm_that_is_missing_is_exit_3_with_the_command_that_provides_it() {
    let environment = TestEnvironment::copy("10.62.11");
    let empty = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(common::tool("sops"), empty.path().join("sops")).unwrap();
    let mut command = environment.command(&["infra"]);
    command.env("PATH", empty.path()).env("XDG_CACHE_HOME", empty.path());
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("helm") && err.contains("k8s-bootstrap tools install"), "{err}");
}

#[test]
fn a_full_disk_is_exit_3_before_anything_is_changed() {
    let environment = TestEnvironment::copy("10.62.12");
    let _lab = environment.lab("infra");
    let inner = environment.command(&["infra", "--lab"]);
    // A limit on file sizes fails a write just as a full disk does.
    let mut command = test_support::child("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("nothing was changed") && err.contains("--state-dir"), "{err}");
    assert!(environment.status("infra")["record"]["calls"].as_object().unwrap().is_empty(), "a node was called");
}

#[test]
fn a_node_that_does_not_answer_is_exit_3_and_nothing_is_applied() {
    let environment = TestEnvironment::copy("10.62.13");
    let _lab = environment.lab("infra");
    let path = environment.repository.join("talos/infra/talconfig.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("10.62.13.16\n", "10.62.13.99\n")).unwrap();
    let (code, _, err) = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("the node does not respond") && err.contains("10.62.13.99"), "{err}");
    let calls = &environment.status("infra")["record"]["calls"];
    let applied = calls.as_object().unwrap().values().any(|calls| calls.get("ApplyConfiguration").is_some());
    assert!(!applied, "a config was applied: {calls}");
}

#[test]
fn a_reference_that_1password_does_not_know_is_exit_3_and_nothing_is_applied() {
    let environment =
        edited("10.62.14", "bootstrap/infra/secrets.yaml.tpl", "op://k8s-ops/", "op://k8s-ops/no-such-item-");
    let _lab = environment.lab("infra");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut command = environment.command(&["infra", "--lab", "--secrets", "real"]);
    let path = format!("{}:{}", fixtures.display(), std::env::var("PATH").unwrap());
    let output = command.env("PATH", path).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("bootstrap/infra/secrets.yaml.tpl:") && err.contains("no-such-item-"), "{err}");
    let calls = &environment.status("infra")["record"]["calls"];
    let applied = calls.as_object().unwrap().values().any(|calls| calls.get("ApplyConfiguration").is_some());
    assert!(!applied, "a config was applied: {calls}");
}
