//! Bad input and trouble before anything is dialled: exit code, what, where, why, next command.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::TestEnvironment;

#[test]
fn an_unknown_cluster_is_exit_2_with_those_that_exist() {
    let (code, _, err) = TestEnvironment::reference().run(&["plan", "nowhere"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @r#"
    error: 1 mistake in the inputs; nothing was changed
    there is no cluster `nowhere` here: talos/nowhere is no folder
      hint: this repository describes: apps, infra
    "#);
}

#[test]
fn mistakes_in_the_files_are_exit_2_all_at_once() {
    let world = TestEnvironment::copy("10.62.1");
    let path = world.repository.join("talos/infra/talconfig.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace("10.62.1.12\n", "10.62.1.11\n").replace("https://10.62.1.10:6443", "https://10.62.1.10");
    std::fs::write(&path, text.replace("cniConfig:", "cniConfgi:")).unwrap();
    let (code, _, err) = world.run(&["plan", "infra"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(err, @r#"
    error: 3 mistakes in the inputs; nothing was changed
    talos/infra/talconfig.yaml:5:11: the endpoint `https://10.62.1.10` is not of the form https://HOST:PORT
      hint: the Kubernetes API usually listens on port 6443
    talos/infra/talconfig.yaml:17:1: the talconfig has a key `cniConfgi`, which is not known
      hint: did you mean `cniConfig`?
    talos/infra/talconfig.yaml:46:5: node `infra-cp-02` has the address 10.62.1.11 of node `infra-cp-01` (talos/infra/talconfig.yaml:22:5)
    "#);
}

#[test]
fn a_file_that_is_no_yaml_is_exit_2_with_its_place() {
    let world = TestEnvironment::copy("10.62.2");
    std::fs::write(world.repository.join("talos/infra/talconfig.yaml"), "clusterName: [infra\n").unwrap();
    let (code, _, err) = world.run(&["plan", "infra"]);
    assert_eq!(code, 2);
    assert!(err.contains("talos/infra/talconfig.yaml:2:1: this is not YAML"), "{err}");
}

#[test]
fn a_sops_file_whose_key_is_absent_is_exit_3() {
    let world = TestEnvironment::copy("10.62.3");
    let output = world.command(&["plan", "infra"]).env_remove("SOPS_AGE_KEY_FILE").env("HOME", "/nowhere").output();
    let output = output.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("talsecret.sops.yaml cannot be decrypted") && err.contains("SOPS_AGE_KEY_FILE"), "{err}");
}

#[test]
fn a_read_only_state_directory_is_exit_3() {
    let world = TestEnvironment::copy("10.62.4");
    let output = world.command_with_state(Path::new("/proc/nowhere"), &["infra"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("the state directory") && err.contains("--state-dir"), "{err}");
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
    assert!(err.contains("there is no scenario `none`") && err.contains("default"), "{err}");
}

#[test]
fn rendered_configs_hide_every_secret() {
    let (code, out, err) = TestEnvironment::reference().run(&["render", "infra", "infra-cp-01"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("type: controlplane") && out.contains("token: ******"), "{out}");
    assert!(!out.contains("PRIVATE KEY"), "{out}");
}
