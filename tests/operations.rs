//! Commands for the nodes of a running cluster, and the preflight checks that stop a run on the wrong ones.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{TestEnvironment, failures};
use serde_json::{Value, json};
use test_support::{CommandOutput, Condition, Deadline, wait_until};

#[test]
fn two_nodes_that_exchanged_their_addresses_are_left_alone() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let applied = || {
        let calls = environment.status("infra")["record"]["calls"].clone();
        ["infra-worker-01", "infra-worker-02"].map(|node| calls[node]["ApplyConfiguration"].clone())
    };
    let before = applied();
    let address = |last: &str| format!("{}.{last}", environment.network());
    for (from, to) in [("14", "199"), ("15", "14"), ("199", "15")] {
        environment.edit("talos/infra/talconfig.yaml", &address(from), &address(to));
    }
    insta::assert_snapshot!(failures(&environment.run(&["infra", "--lab", "--resume"])), @"
    exit code: 3
    preflight/infra-worker-01: error[T09]: another node has this address
        where: node infra-worker-01 (10.25.11.15)
        why: the machine at this address is infra-worker-02, which the inventory has at 10.25.11.14
        page: docs/errors/T09.md
        next: give the machine its address back (a DHCP reservation), or correct the node's address in the inventory
    preflight/infra-worker-02: error[T09]: another node has this address
        where: node infra-worker-02 (10.25.11.14)
        why: the machine at this address is infra-worker-01, which the inventory has at 10.25.11.15
        page: docs/errors/T09.md
        next: give the machine its address back (a DHCP reservation), or correct the node's address in the inventory
    ");
    assert_eq!(applied(), before);
}

/// A request for a serving certificate, as a kubelet makes it.
fn serving_request(node: &str) -> Value {
    let mut parameters = rcgen::CertificateParams::new(vec![node.to_owned()]).unwrap();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    let key = rcgen::KeyPair::generate().unwrap();
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "csr-1"},
        "spec": {
            "request": STANDARD.encode(request), "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    })
}

#[test]
fn a_kubelet_without_a_serving_certificate_is_reported_and_not_waited_for() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab("infra");
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(!run.stderr.contains("K04"), "{run}");
    let file = environment.state().join("request.json");
    std::fs::write(&file, serving_request("infra-worker-01").to_string()).unwrap();
    let kubelet = ["--as=system:node:infra-worker-01", "--as-group=system:nodes", "--as-group=system:authenticated"];
    let create = ["create", "-o", "json", "-f", file.to_str().unwrap()];
    environment.kubectl("infra", &[&kubelet[..], &create].concat());
    let run = environment.run(&["infra", "--lab"]);
    assert_eq!(run.code, 0, "{run}");
    let line = "handoff/nodes: degraded: all are Ready; kubelets wait for a serving certificate: infra-worker-01 (K04)";
    assert!(run.stderr.contains(line), "{run}");
}

#[test]
fn a_failed_preflight_names_its_cause_and_changes_nothing() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    let run = |arguments: &[&str]| environment.run(&[&["infra", "--lab", "--resume"], arguments].concat());

    // A key that is not the machine's.
    let pin = format!("infra-cp-01={}=", "A".repeat(43));
    insta::assert_snapshot!(failures(&environment.run(&["infra", "--lab", "--cert-fingerprint", &pin])), @"
    exit code: 3
    preflight/infra-cp-01: error[T26]: connect failed
        where: node infra-cp-01 (10.25.11.11)
        why: the certificate has the fingerprint [FINGERPRINT], expected the pinned AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
        page: docs/errors/T26.md
        next: compare with the fingerprint on the machine's console; a machine creates a new key at each boot
    ");
    insta::assert_snapshot!(run(&["--force-bootstrap-node", "absent"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: node `absent` not found in cluster `infra`
    hint: its nodes are infra-cp-01, infra-cp-02, infra-cp-03, infra-worker-01, infra-worker-02, infra-worker-03
    ");
    insta::assert_snapshot!(run(&["--cert-fingerprint", "infra-cp-01=short"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: invalid value 'infra-cp-01=short' for '--cert-fingerprint <NODE=FINGERPRINT>': invalid fingerprint `short`: expected the base64 of a SHA-256 digest (44 characters)

    For more information, try '--help'.
    ");

    // A disk that the machine does not have.
    environment.edit("talos/infra/talconfig.yaml", "size: \">= 400GB\"", "size: \">= 4TB\"");
    insta::assert_snapshot!(failures(&run(&[])), @r#"
    exit code: 3
    preflight/infra-cp-01: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-cp-01 (10.25.11.11)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    preflight/infra-cp-02: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-cp-02 (10.25.11.12)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    preflight/infra-cp-03: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-cp-03 (10.25.11.13)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    preflight/infra-worker-01: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-worker-01 (10.25.11.14)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    preflight/infra-worker-02: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-worker-02 (10.25.11.15)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    preflight/infra-worker-03: error[T10]: no disk matches the install target {"size":">= 4TB","type":"nvme"}
        where: node infra-worker-03 (10.25.11.16)
        why: the machine has /dev/nvme0n1 (549 GB, model Simulated SSD, serial LAB0000000001)
        page: docs/errors/T10.md
        next: change the install disk or its selector in the node's config
    "#);

    let calls = environment.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
}

#[test]
fn a_warning_of_the_nodes_is_reported_once_with_their_names() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    let events = environment.events_until(&["infra", "--lab"], "etcd/bootstrap");
    let reasons =
        events.iter().filter(|event| event["event"] == "waiting").filter_map(|event| event["reason"].as_str());
    let warnings: Vec<&str> = reasons.filter(|reason| reason.starts_with("warning from ")).collect();
    let texts: std::collections::BTreeSet<&str> =
        warnings.iter().map(|warning| warning.split_once(": ").unwrap().1).collect();
    assert!(!warnings.is_empty() && texts.len() == warnings.len(), "{warnings:#?}");
    assert!(warnings.iter().any(|warning| warning.contains(" nodes (infra-cp-01, infra-cp-02, ")), "{warnings:#?}");
}

#[test]
fn a_config_that_one_node_refuses_is_sent_to_none() {
    let environment = TestEnvironment::machines();
    let scenario = "talos: v1.13.2\nfaults:\n\
        - {node: infra-cp-02, call: ApplyConfiguration (dry run), what: {status: {code: InvalidArgument, \
        message: 'configuration validation failed: machine.install.wipe is not for this machine'}}}\n";
    let _lab = environment.lab_with("infra", scenario);
    let output = environment.run(&["infra", "--lab"]);
    insta::assert_snapshot!(failures(&output), @"
    exit code: 3
    preflight/infra-cp-02: error[T17]: the node rejected its machine config
        where: node infra-cp-02 (10.25.11.12)
        why: configuration validation failed: machine.install.wipe is not for this machine (InvalidArgument); `machine.install.wipe` is set by generated for Talos v1.12
        page: docs/errors/T17.md
        next: correct the config; `k8s-bootstrap render --explain` shows which line set each field
    ");
    // The inputs are for another minor version of Talos; that alone does not stop a run.
    assert!(output.stderr.contains("it runs Talos v1.13.2, its config is for v1.12.0, which it accepts"), "{output}");
    let calls = environment.status("infra")["record"]["calls"].clone();
    assert!(!calls.to_string().contains(r#""ApplyConfiguration""#), "{calls}");
    assert_eq!(calls["infra-cp-01"]["ApplyConfiguration (dry run)"], 1, "{calls}");
}

#[test]
fn a_running_cluster_is_inspected_and_maintained() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    etcd(&environment);
    node(&environment);
    destructive_and_unknown(&environment);
    secrets_of_another_cluster(&environment);
}

/// A command for the running cluster, and for a node of it.
fn run(environment: &TestEnvironment, command: &str, node: &[&str], more: &[&str]) -> CommandOutput {
    let words: Vec<&str> = command.split(' ').collect();
    environment.run(&[&words[..], &["infra"], node, &["--lab"], more].concat())
}

fn etcd(environment: &TestEnvironment) {
    // A run does not wait for the last voter before it goes on.
    let (output, members) = wait_until(Deadline::after(Duration::from_mins(2)), || {
        let output = run(environment, "-o json etcd status", &[], &[]);
        let members: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        let votes = |row: &serde_json::Value| row["etcd"]["learns"] == false;
        if members.as_array().unwrap().iter().all(votes) {
            Condition::Met((output, members))
        } else {
            Condition::Unmet(output.to_string())
        }
    });
    let leaders = members.as_array().unwrap().iter().filter(|row| row["etcd"]["leads"] == true).count();
    assert_eq!(leaders, 1, "{output}");
    let filters = [("(leader  |follower)", "[ROLE]"), (r"etcd \S+ \d+ MB", "etcd [VERSION] [SIZE]")];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(run(environment, "etcd status", &[], &[]), @"
        exit code: 0
        ----- stdout -----
        infra-cp-01          [ID] [ROLE] etcd [VERSION] [SIZE], 3 members
        infra-cp-02          [ID] [ROLE] etcd [VERSION] [SIZE], 3 members
        infra-cp-03          [ID] [ROLE] etcd [VERSION] [SIZE], 3 members
        ");
    });

    let snapshot = environment.state().join("snapshot.db");
    insta::assert_snapshot!(run(environment, "etcd snapshot", &[], &["--out", snapshot.to_str().unwrap()]), @"
    exit code: 0
    ----- stderr -----
    [STATE]/snapshot.db: [SIZE], digest checked
    ");
    assert_eq!(std::fs::metadata(&snapshot).unwrap().len() % 512, 32);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&snapshot).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    insta::assert_snapshot!(run(environment, "etcd disarm", &[], &[]), @"
    exit code: 0
    ----- stderr -----
    0 alarms disarmed
    ");
}

fn node(environment: &TestEnvironment) {
    let node = |verb: &str, more: &[&str]| run(environment, &format!("node {verb}"), &["infra-cp-01"], more);
    insta::assert_snapshot!(node("services", &[]), @r#"
    exit code: 0
    ----- stdout -----
    apid           Running      healthy  Health check successful
    auditd         Running      -        Process Process(["/usr/bin/auditd"]) started with PID 1126
    containerd     Running      healthy  Health check successful
    cri            Running      healthy  Health check successful
    dashboard      Running      -        Process Process(["/usr/bin/dashboard"]) started with PID 1154
    etcd           Running      healthy  Health check successful
    kubelet        Running      healthy  Health check successful
    machined       Running      healthy  Health check successful
    syslogd        Running      healthy  Health check successful
    trustd         Running      healthy  Health check successful
    udevd          Running      healthy  Health check successful
    "#);
    insta::assert_snapshot!(node("disks", &[]), @"
    exit code: 0
    ----- stdout -----
    /dev/nvme0n1      549 GB  Nvme     Simulated SSD  LAB0000000001  system
    ");
    insta::with_settings!({filters => [(r"[+-]\[DURATION\]", "[OFFSET]")]}, {
        insta::assert_snapshot!(node("time", &[]), @"
        exit code: 0
        ----- stdout -----
        [TIME], [OFFSET] against time.cloudflare.com
        ");
    });
    insta::assert_snapshot!(node("images", &["--pull", "registry.k8s.io/pause:3.10"]), @"
    exit code: 0
    ----- stdout -----
    registry.k8s.io/pause:3.10
    ----- stderr -----
    pulled registry.k8s.io/pause:3.10
    ");
    insta::assert_snapshot!(node("get", &["MachineStatus", "machine"]), @r#"
    exit code: 0
    ----- stdout -----
    # machine
    stage: running
    status:
      ready: false
      unmetConditions:
      - name: nodeReady
        reason: node "infra-cp-01" is not ready
    "#);
    assert_eq!(node("logs", &["machined", "--tail", "5"]).stdout.lines().count(), 5);
    assert!(node("dmesg", &[]).stdout.contains("[talos]"));
    // Secrets are masked.
    let config = node("get", &["MachineConfigs.config.talos.dev", "v1alpha1"]).stdout;
    insta::assert_snapshot!(node("get", &["nonsense"]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: the node has no resource type `nonsense`
    hint: list its types: k8s-bootstrap node get CLUSTER NODE ResourceDefinitions
    ");
    let secrets = std::fs::read_to_string(environment.state().join("labs/infra/placeholder-secrets.yaml")).unwrap();
    let tokens: Vec<&str> =
        secrets.lines().filter_map(|line| line.trim().split_once("token: ")).map(|(_, token)| token).collect();
    assert!(!tokens.is_empty() && config.contains("type: controlplane"), "{config}");
    assert!(tokens.iter().all(|token| !config.contains(token.trim_matches('"'))), "{config}");
    let kubeconfig = environment.state().join("node-kubeconfig");
    insta::assert_snapshot!(node("kubeconfig", &["--out", kubeconfig.to_str().unwrap()]), @"exit code: 0");
    assert!(std::fs::read_to_string(kubeconfig).unwrap().contains("admin@"));
    insta::assert_snapshot!(run(environment, "node reboot", &["infra-cp-03"], &[]), @"
    exit code: 0
    ----- stderr -----
    infra-cp-03: waiting until it is back
    infra-cp-03: back with Talos v1.12.0
    ");
}

fn destructive_and_unknown(environment: &TestEnvironment) {
    // A destructive command needs --yes; an unknown node is reported with the known ones.
    insta::assert_snapshot!(run(environment, "node reset", &["infra-cp-03"], &[]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: the following required arguments were not provided:
      --yes

    Usage: k8s-bootstrap node reset --yes --lab <CLUSTER> <NODE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(run(environment, "node services", &["unknown"], &[]), @"
    exit code: 2
    ----- stderr -----
    error[I02]: node `unknown` not found in cluster `infra`
    hint: its nodes are infra-cp-01, infra-cp-02, infra-cp-03, infra-worker-01, infra-worker-02, infra-worker-03
    ");
}

/// Nothing is changed on machines that do not know the secrets bundle.
fn secrets_of_another_cluster(environment: &TestEnvironment) {
    let bundle = environment.state().join("labs/infra/placeholder-secrets.yaml");
    std::fs::write(&bundle, environment.run(&["secrets", "gen"]).stdout).unwrap();
    let applied = || environment.status("infra")["record"]["calls"]["infra-cp-01"]["ApplyConfiguration"].clone();
    let times = applied();
    insta::assert_snapshot!(failures(&environment.run(&["infra", "--lab", "--resume"])), @"
    exit code: 3
    preflight/infra-cp-01: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-cp-01 (10.25.11.11)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    preflight/infra-cp-02: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-cp-02 (10.25.11.12)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    preflight/infra-cp-03: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-cp-03 (10.25.11.13)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    preflight/infra-worker-01: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-worker-01 (10.25.11.14)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    preflight/infra-worker-02: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-worker-02 (10.25.11.15)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    preflight/infra-worker-03: error[T04]: the node belongs to another cluster, or this is not the secrets bundle of its cluster
        where: node infra-worker-03 (10.25.11.16)
        why: transport error: invalid peer certificate: BadSignature (the certificate of the node was issued by `O=talos`)
        page: docs/errors/T04.md
        next: check the address and the secrets bundle; to take the node over, reset it with its own talosconfig first
    ");
    assert_eq!(applied(), times);
}
