//! Work on the machines of a running cluster, and what keeps a run from beginning on the wrong ones.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::TestEnvironment;

fn edit(world: &TestEnvironment, file: &str, from: &str, to: &str) {
    let path = world.repository.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_run_that_must_not_begin_says_why_and_changes_nothing() {
    let world = TestEnvironment::machines("10.66.20");
    let _lab = world.lab("infra");

    // A key that is not the machine's.
    let pin = format!("infra-cp-01={}", "A".repeat(43) + "=");
    let (code, _, err) = world.run(&["infra", "--lab", "--cert-fingerprint", &pin]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("the certificate has the fingerprint ") && err.contains(&"A".repeat(43)), "{err}");
    assert!(err.contains("machine's console"), "{err}");

    // A node that is none, and one that is no control plane.
    let (code, _, err) = world.run(&["infra", "--lab", "--force-bootstrap-node", "absent", "--resume"]);
    assert!(
        code == 2 && err.contains("node `absent` not found in cluster `infra`") && err.contains("infra-cp-01"),
        "{err}"
    );
    let (code, _, err) = world.run(&["infra", "--lab", "--cert-fingerprint", "infra-cp-01=short", "--resume"]);
    assert!(code == 2 && err.contains("invalid fingerprint `short`"), "{err}");

    // A disk that the machine does not have.
    edit(&world, "talos/infra/talconfig.yaml", "size: \">= 400GB\"", "size: \">= 4TB\"");
    let (code, _, err) = world.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 3, "{err}");
    let said = |text: &str| assert!(err.contains(text), "{text}: {err}");
    said("no disk matches the install target {\"size\":\">= 4TB\",\"type\":\"nvme\"}");
    said("the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)");
    said("docs/errors/T10.md");

    let calls = world.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
}

#[test]
fn a_config_that_one_node_refuses_is_sent_to_none() {
    let world = TestEnvironment::machines("10.66.22");
    let scenario = "talos: v1.13.2\nfaults:\n\
        - {node: infra-cp-02, call: ApplyConfiguration (dry run), what: {status: {code: InvalidArgument, \
        message: 'configuration validation failed: machine.install.wipe is not for this machine'}}}\n";
    let _lab = world.lab_with("infra", scenario);
    let (code, _, err) = world.run(&["infra", "--lab"]);
    assert_eq!(code, 3, "{err}");
    let said = |text: &str| assert!(err.contains(text), "{text}: {err}");
    said("preflight/infra-cp-02: error[T17]: the node rejected its machine config");
    said("machine.install.wipe is not for this machine");
    said("`machine.install.wipe` is set by ");
    said("docs/errors/T17.md");
    // The inputs are for another line of Talos; that alone stops nobody.
    said("it runs Talos v1.13.2, its config is for v1.12.0, which it accepts");
    let calls = world.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
    assert_eq!(calls["infra-cp-01"]["ApplyConfiguration (dry run)"], 1, "{calls}");
}

#[test]
fn a_cluster_is_looked_at_and_kept() {
    let world = TestEnvironment::machines("10.66.21");
    let _lab = world.lab("infra");
    world.bootstrap_machines("infra");
    let succeed = |arguments: &[&str]| {
        let (code, out, err) = world.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        (out, err)
    };

    let (out, _) = succeed(&["-o", "json", "etcd", "status", "infra", "--lab"]);
    let members: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(members.as_array().unwrap().iter().filter(|row| row["etcd"]["leads"] == true).count(), 1, "{out}");
    let (out, _) = succeed(&["etcd", "status", "infra", "--lab"]);
    assert!(out.contains("infra-cp-01") && out.contains(" leads "), "{out}");

    let snapshot = world.state().join("snapshot.db");
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
    // What holds secrets is masked.
    let config = node("get", &["MachineConfigs.config.talos.dev", "v1alpha1", "--namespace", "config"]);
    let secrets = std::fs::read_to_string(world.state().join("labs/infra/placeholder-secrets.yaml")).unwrap();
    let tokens: Vec<&str> =
        secrets.lines().filter_map(|line| line.trim().split_once("token: ")).map(|(_, token)| token).collect();
    assert!(!tokens.is_empty() && config.contains("type: controlplane"), "{config}");
    assert!(tokens.iter().all(|token| !config.contains(token.trim_matches('"'))), "{config}");
    let kubeconfig = world.state().join("node-kubeconfig");
    node("kubeconfig", &["--out", kubeconfig.to_str().unwrap()]);
    assert!(std::fs::read_to_string(kubeconfig).unwrap().contains("admin@"));

    let before = node("logs", &["machined"]);
    let (_, err) = succeed(&["node", "reboot", "infra", "infra-cp-03", "--lab"]);
    assert!(err.contains("infra-cp-03: back with Talos v"), "{err}");
    assert!(!before.is_empty());

    // An order that cannot be taken back wants a word more; a node that is none is named with those that there are.
    let (code, _, err) = world.run(&["node", "reset", "infra", "infra-cp-03", "--lab"]);
    assert!(code == 2 && err.contains("--yes"), "{err}");
    let (code, _, err) = world.run(&["node", "services", "infra", "nobody", "--lab"]);
    assert!(code == 2 && err.contains("infra-cp-02"), "{err}");

    // The secrets bundle of another cluster: nothing is changed on machines that do not know it.
    let bundle = world.state().join("labs/infra/placeholder-secrets.yaml");
    let (fresh, _) = succeed(&["secrets", "gen"]);
    std::fs::write(&bundle, fresh).unwrap();
    let applied = || world.status("infra")["record"]["calls"]["infra-cp-01"]["ApplyConfiguration"].clone();
    let times = applied();
    let (code, _, err) = world.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("belongs to another cluster, or this is not the secrets bundle of its cluster"), "{err}");
    assert!(err.contains("issued by `O=talos`") && err.contains("docs/errors/T04.md"), "{err}");
    assert_eq!(applied(), times);
}
