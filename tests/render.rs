//! `render`: the configs themselves, who set what in them, and what would change on nodes that run.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::process::Command;

use common::TestEnvironment;

#[test]
fn every_field_is_explained_by_the_line_that_set_it() {
    let (code, out, err) = with_key(&TestEnvironment::reference(), &["render", "infra", "infra-cp-01", "--explain"]);
    assert_eq!(code, 0, "{err}");
    for (field, setter) in [
        ("machine.type: \"controlplane\"", "generated for Talos v1.12"),
        ("cluster.network.cni.name: \"none\"", "talos/infra/talconfig.yaml:17:1"),
        ("cluster.proxy.disabled: true", "talos/infra/patches/control-plane.yaml:9:5"),
        ("hostname: \"infra-cp-01\"", "talos/infra/talconfig.yaml:22:15"),
    ] {
        let line = out.lines().find(|line| line.starts_with(field)).unwrap_or_else(|| panic!("no {field} in\n{out}"));
        assert!(line.ends_with(&format!("# {setter}")), "{line}");
    }
    assert!(out.contains("machine.token: \"******\""), "{out}");
}

#[test]
fn secrets_are_shown_at_a_terminal_only() {
    let (code, out, err) = with_key(&TestEnvironment::reference(), &["render", "infra", "--show-secrets"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("--show-secrets prints the private keys of `infra`"), "{err}");
}

#[test]
fn the_key_that_the_repositorys_own_tools_name_opens_its_secrets() {
    let environment = TestEnvironment::copy("10.66.30");
    let render = || {
        let mut command = environment.command(&["render", "infra", "infra-cp-01"]);
        let output = command.env_remove("SOPS_AGE_KEY_FILE").env("HOME", "/nowhere").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, err) = render();
    assert_ne!(code, Some(0), "{err}");
    assert!(err.contains("talsecret.sops.yaml cannot be decrypted"), "{err}");
    let key = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age.key");
    std::fs::copy(key, environment.repository.join("age.key")).unwrap();
    std::fs::write(environment.repository.join(".mise.toml"), "[env]\nSOPS_AGE_KEY_FILE = '{{config_root}}/age.key'\n")
        .unwrap();
    assert_eq!(render(), (Some(0), String::new()));
}

#[test]
fn a_running_node_is_compared_with_what_would_be_applied() {
    let environment = TestEnvironment::machines("10.66.1");
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let (code, out, err) = environment.run(&["render", "infra", "infra-cp-01", "--diff", "--lab"]);
    assert_eq!((code, out.trim()), (0, ""), "{err}");
    let path = environment.repository.join("talos/infra/patches/all.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("fs.inotify.max_user_instances: \"8192\"", "fs.inotify.max_user_instances: \"4096\""),
    )
    .unwrap();
    let (code, out, err) = environment.run(&["render", "infra", "infra-cp-01", "--diff", "--lab"]);
    assert_eq!(code, 5, "{err}");
    let changed: Vec<&str> = out.lines().filter(|line| line.starts_with(['+', '-'])).collect();
    let expected = [
        "--- infra-cp-01 (running)",
        "+++ infra-cp-01 (rendered)",
        "-    fs.inotify.max_user_instances: \"8192\"",
        "+    fs.inotify.max_user_instances: \"4096\"",
    ];
    assert_eq!(changed, expected);
}

/// Runs with the key that opens the reference clusters' secrets.
fn with_key(environment: &TestEnvironment, arguments: &[&str]) -> (i32, String, String) {
    let key = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/age.key");
    let mut command: Command = environment.command(arguments);
    let output = command.env("SOPS_AGE_KEY_FILE", key).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
