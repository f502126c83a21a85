//! Commands for the nodes of a running cluster, and the preflight checks that stop a run on the wrong ones.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::TestEnvironment;

fn edit(environment: &TestEnvironment, file: &str, from: &str, to: &str) {
    let path = environment.repository.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_failed_preflight_names_its_cause_and_changes_nothing() {
    let environment = TestEnvironment::machines("10.66.20");
    let _lab = environment.lab("infra");

    // A key that is not the machine's.
    let pin = format!("infra-cp-01={}", "A".repeat(43) + "=");
    let (code, _, err) = environment.run(&["infra", "--lab", "--cert-fingerprint", &pin]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("the certificate has the fingerprint ") && err.contains(&"A".repeat(43)), "{err}");
    assert!(err.contains("machine's console"), "{err}");

    // An unknown node.
    let (code, _, err) = environment.run(&["infra", "--lab", "--force-bootstrap-node", "absent", "--resume"]);
    assert!(
        code == 2 && err.contains("node `absent` not found in cluster `infra`") && err.contains("infra-cp-01"),
        "{err}"
    );
    let (code, _, err) = environment.run(&["infra", "--lab", "--cert-fingerprint", "infra-cp-01=short", "--resume"]);
    assert!(code == 2 && err.contains("invalid fingerprint `short`"), "{err}");

    // A disk that the machine does not have.
    edit(&environment, "talos/infra/talconfig.yaml", "size: \">= 400GB\"", "size: \">= 4TB\"");
    let (code, _, err) = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 3, "{err}");
    let expect = |text: &str| assert!(err.contains(text), "{text}: {err}");
    expect("no disk matches the install target {\"size\":\">= 4TB\",\"type\":\"nvme\"}");
    expect("the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)");
    expect("docs/errors/T10.md");

    let calls = environment.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
}

#[test]
fn a_config_that_one_node_refuses_is_sent_to_none() {
    let environment = TestEnvironment::machines("10.66.22");
    let scenario = "talos: v1.13.2\nfaults:\n\
        - {node: infra-cp-02, call: ApplyConfiguration (dry run), what: {status: {code: InvalidArgument, \
        message: 'configuration validation failed: machine.install.wipe is not for this machine'}}}\n";
    let _lab = environment.lab_with("infra", scenario);
    let (code, _, err) = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 3, "{err}");
    let expect = |text: &str| assert!(err.contains(text), "{text}: {err}");
    expect("preflight/infra-cp-02: FAILED: the node rejected its machine config");
    expect("machine.install.wipe is not for this machine");
    expect("`machine.install.wipe` is set by ");
    expect("docs/errors/T17.md");
    // The inputs are for another minor version of Talos; that alone does not stop a run.
    expect("it runs Talos v1.13.2, its config is for v1.12.0, which it accepts");
    let calls = environment.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
    assert_eq!(calls["infra-cp-01"]["ApplyConfiguration (dry run)"], 1, "{calls}");
}

#[test]
fn a_running_cluster_is_inspected_and_maintained() {
    let environment = TestEnvironment::machines("10.66.21");
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let succeed = |arguments: &[&str]| {
        let (code, out, err) = environment.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        (out, err)
    };

    let (out, _) = succeed(&["-o", "json", "etcd", "status", "infra", "--lab"]);
    let members: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(members.as_array().unwrap().iter().filter(|row| row["etcd"]["leads"] == true).count(), 1, "{out}");
    let (out, _) = succeed(&["etcd", "status", "infra", "--lab"]);
    assert!(out.contains("infra-cp-01") && out.contains(" leads "), "{out}");

    let snapshot = environment.state().join("snapshot.db");
    let (_, err) = succeed(&["etcd", "snapshot", "infra", "--lab", "--out", snapshot.to_str().unwrap()]);
    assert!(err.contains("digest checked"), "{err}");
    assert_eq!(std::fs::metadata(&snapshot).unwrap().len() % 512, 32);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&snapshot).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    succeed(&["etcd", "disarm", "infra", "--lab"]);

    let node = |verb: &str, more: &[&str]| {
        let arguments = [&["node", verb, "infra", "infra-cp-01", "--lab"], more].concat();
        succeed(&arguments).0
    };
    assert!(node("services", &[]).contains("etcd"));
    assert!(node("logs", &["machined", "--tail", "5"]).lines().count() == 5);
    assert!(node("dmesg", &[]).contains("[talos]"));
    assert!(node("disks", &[]).contains("/dev/nvme0n1"));
    assert!(node("time", &[]).contains(" s against "));
    assert!(node("images", &["--pull", "registry.k8s.io/pause:3.10"]).contains("pause"));
    assert!(node("get", &["MachineStatuses.runtime.talos.dev", "machine"]).contains("stage: running"));
    // Secrets are masked.
    let config = node("get", &["MachineConfigs.config.talos.dev", "v1alpha1", "--namespace", "config"]);
    let secrets = std::fs::read_to_string(environment.state().join("labs/infra/placeholder-secrets.yaml")).unwrap();
    let tokens: Vec<&str> =
        secrets.lines().filter_map(|line| line.trim().split_once("token: ")).map(|(_, token)| token).collect();
    assert!(!tokens.is_empty() && config.contains("type: controlplane"), "{config}");
    assert!(tokens.iter().all(|token| !config.contains(token.trim_matches('"'))), "{config}");
    let kubeconfig = environment.state().join("node-kubeconfig");
    node("kubeconfig", &["--out", kubeconfig.to_str().unwrap()]);
    assert!(std::fs::read_to_string(kubeconfig).unwrap().contains("admin@"));

    let before = node("logs", &["machined"]);
    let (_, err) = succeed(&["node", "reboot", "infra", "infra-cp-03", "--lab"]);
    assert!(err.contains("infra-cp-03: back with Talos v"), "{err}");
    assert!(!before.is_empty());

    // A destructive command needs --yes; an unknown node is reported with the known ones.
    let (code, _, err) = environment.run(&["node", "reset", "infra", "infra-cp-03", "--lab"]);
    assert!(code == 2 && err.contains("--yes"), "{err}");
    let (code, _, err) = environment.run(&["node", "services", "infra", "unknown", "--lab"]);
    assert!(code == 2 && err.contains("infra-cp-02"), "{err}");

    // The secrets bundle of another cluster: nothing is changed on machines that do not know it.
    let bundle = environment.state().join("labs/infra/placeholder-secrets.yaml");
    let (fresh, _) = succeed(&["secrets", "gen"]);
    std::fs::write(&bundle, fresh).unwrap();
    let applied = || environment.status("infra")["record"]["calls"]["infra-cp-01"]["ApplyConfiguration"].clone();
    let times = applied();
    let (code, _, err) = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("belongs to another cluster, or this is not the secrets bundle of its cluster"), "{err}");
    assert!(err.contains("issued by `O=talos`") && err.contains("docs/errors/T04.md"), "{err}");
    assert_eq!(applied(), times);
}
