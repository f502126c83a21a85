//! Config changes on a living cluster: which nodes reboot, and never two at once.
#![allow(clippy::unwrap_used)]

pub(crate) mod limits;

use crate::common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{LabProcess, TestEnvironment, failures};
use serde_json::{Value, json};
use test_support::{CommandOutput, Condition, Deadline, wait_until};

pub(crate) const NODES: [&str; 6] =
    ["infra-cp-01", "infra-cp-02", "infra-cp-03", "infra-worker-01", "infra-worker-02", "infra-worker-03"];

/// A finished cluster with a network plugin, so that every node is Ready.
pub(crate) fn finished() -> (TestEnvironment, LabProcess) {
    finished_with("base: fast\n")
}

/// The same in a scenario of its own.
fn finished_with(scenario: &str) -> (TestEnvironment, LabProcess) {
    let environment = TestEnvironment::machines();
    let lab = environment.lab_with("infra", scenario);
    environment.bootstrap_machines("infra");
    let labels = json!({"k8s-app": "cilium"});
    let plugin = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "cilium", "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "agent", "image": "quay.io/cilium/cilium:v1"}],
            },
        }},
    });
    create(&environment, &plugin);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    // A machine may reach its last stage after its node is Ready and its member votes.
    wait_until(Deadline::after(Duration::from_mins(1)), || {
        let status = environment.status("infra");
        let stages: Vec<&Value> = status["nodes"].as_array().unwrap().iter().map(|node| &node["stage"]).collect();
        if stages.iter().all(|stage| *stage == "running") {
            Condition::Met(())
        } else {
            Condition::Unmet(format!("{stages:?}"))
        }
    });
    (environment, lab)
}

fn create(environment: &TestEnvironment, object: &Value) {
    let file = environment.state().join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    environment.kubectl("infra", &["create", "-o", "json", "-f", file.to_str().unwrap()]);
}

/// Adds a field to the config of every node.
pub(crate) fn add(environment: &TestEnvironment, field: &str) {
    let path = environment.repository.join("talos/infra/patches/all.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, text.replacen("machine:\n", &format!("machine:\n{field}"), 1)).unwrap();
}

/// Talos 1.12 applies no change of this feature without a reboot.
pub(crate) const NEEDS_REBOOT: &str = "  features:\n    diskQuotaSupport: false\n";
const LIVE: &str = "  sysfs:\n    devices.system.cpu.cpu0.cpufreq.scaling_governor: performance\n";

/// From the moment when a machine went down until its node was Ready again.
#[derive(Debug)]
pub(crate) struct Outage {
    node: String,
    began: f64,
    ended: f64,
}

/// The outages after `since` seconds of the lab, in their order.
pub(crate) fn outages(environment: &TestEnvironment, since: f64) -> Vec<Outage> {
    let record = environment.status("infra")["record"].clone();
    let facts = record["facts"].as_array().unwrap();
    let at = |fact: &Value, key: &str| fact[key].as_f64().unwrap();
    let mut found = Vec::new();
    for node in NODES {
        let named = |kind: &str| {
            let name = format!("node/{node}/{kind}");
            facts.iter().filter(move |fact| fact["name"] == name.as_str())
        };
        for boot in named("booted").filter(|fact| at(fact, "began") > since) {
            let ready = named("ready").map(|fact| at(fact, "at")).find(|ready| *ready > at(boot, "at"));
            let ended = ready.unwrap_or_else(|| panic!("{node} is not Ready after its reboot"));
            found.push(Outage { node: node.to_owned(), began: at(boot, "began"), ended });
        }
    }
    found.sort_by(|one, other| one.began.total_cmp(&other.began));
    found
}

/// The lab's clock.
pub(crate) fn now(environment: &TestEnvironment) -> f64 {
    let facts = environment.status("infra")["record"]["facts"].clone();
    facts.as_array().unwrap().iter().map(|fact| fact["at"].as_f64().unwrap()).fold(0.0, f64::max)
}

/// Every node rebooted once, and none while another was down.
fn assert_one_at_a_time(outages: &[Outage]) {
    let mut nodes: Vec<&str> = outages.iter().map(|outage| outage.node.as_str()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, NODES, "{outages:#?}");
    for pair in outages.windows(2) {
        assert!(pair[0].ended <= pair[1].began, "two nodes were down at once: {outages:#?}");
    }
}

pub(crate) fn assert_none_cordoned(environment: &TestEnvironment) {
    let nodes = environment.kubectl("infra", &["get", "nodes", "-o", "json"]);
    for node in nodes["items"].as_array().unwrap() {
        assert!(node["spec"]["unschedulable"].is_null(), "{node}");
        assert!(node["metadata"]["annotations"]["k8s-bootstrap.io/cordoned"].is_null(), "{node}");
    }
}

#[test]
fn a_change_that_needs_a_reboot_takes_down_one_node_at_a_time() {
    let (environment, _lab) = finished();
    let labels = json!({"app": "web"});
    create(
        &environment,
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "example.org/web:1"}]},
            }},
        }),
    );
    create(
        &environment,
        &json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        }),
    );
    add(&environment, NEEDS_REBOOT);

    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert_eq!(code, 5, "{out}{err}");
    for node in NODES {
        assert!(out.contains(&format!("config: {node}: change needs a reboot\n--- {node} (running)")), "{out}");
    }
    assert!(out.contains("-    diskQuotaSupport: true") && out.contains("+    diskQuotaSupport: false"), "{out}");

    let since = now(&environment);
    let calls = |method: &str| {
        let calls = environment.status("infra")["record"]["calls"].clone();
        NODES.map(|node| calls[node][method].as_u64().unwrap_or_default())
    };
    let applied = calls("ApplyConfiguration");
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&["infra", "--lab", "--no-reboot"]);
    assert_eq!(code, 3, "{out}{err}");
    for node in NODES {
        assert!(err.contains(&format!("preflight/{node}: error[T21]: the config change needs a reboot")), "{err}");
    }
    assert_eq!(calls("ApplyConfiguration"), applied, "a config was applied");
    assert!(outages(&environment, since).is_empty());

    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_one_at_a_time(&outages(&environment, since));
    assert_none_cordoned(&environment);
    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("config: infra-cp-01: unchanged"), "{out}");

    // A live change reboots nothing.
    add(&environment, LIVE);
    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert_eq!(code, 5, "{out}{err}");
    assert!(out.contains("config: infra-cp-01: change applied live"), "{out}");
    let since = now(&environment);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--no-reboot"]);
    assert_eq!(code, 0, "{err}");
    assert!(outages(&environment, since).is_empty());
    assert_eq!(calls("ApplyConfiguration"), applied.map(|times| times + 2));
}

#[test]
fn a_node_of_talos_1_14_is_rebooted_by_the_run_because_it_does_not_reboot_itself() {
    let (environment, _lab) = finished_with("base: fast\ntalos: v1.14.0-rc.1\n");
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert_one_at_a_time(&outages(&environment, since));
    assert_none_cordoned(&environment);
    let CommandOutput { code, stdout: out, stderr: err, .. } =
        environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
    assert_eq!(code, 0, "{out}{err}");
}

/// Starts a run and returns while the given number of nodes has been seen to reboot.
fn until_reboots(environment: &TestEnvironment, arguments: &[&str], nodes: usize) -> Child {
    let mut child = environment.command(&["-o", "json"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut rebooting = BTreeSet::new();
    let is_reached = events.by_ref().any(|line| {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        // A preflight that finds a node amid its reboot has no turn.
        let has_turn = event["step"].as_str().is_some_and(|step| step.starts_with("machine-config/"));
        let reason = event["reason"].as_str().filter(|_| has_turn).unwrap_or_default();
        if reason.contains("rebooting") || reason.contains("has not rebooted yet") {
            rebooting.insert(event["step"].to_string());
        }
        rebooting.len() >= nodes
    });
    assert!(is_reached, "the run ended before {nodes} nodes rebooted");
    // Later output must not fill the pipe.
    std::thread::spawn(move || events.for_each(drop));
    child
}

#[test]
fn a_rollout_that_was_killed_or_stopped_goes_on_with_one_node_at_a_time() {
    let (environment, _lab) = finished();
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let mut killed = until_reboots(&environment, &["infra", "--lab"], 1);
    killed.kill().unwrap();
    killed.wait().unwrap();

    // Ctrl-C lets the node whose turn it is come back, and starts no other reboot.
    let mut stopped = until_reboots(&environment, &["infra", "--lab", "--resume"], 1);
    let pid = rustix::process::Pid::from_child(&stopped);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(stopped.wait().unwrap().code(), Some(130));
    assert_none_cordoned(&environment);
    let rebooted = outages(&environment, since).len();
    assert!((1..NODES.len()).contains(&rebooted), "{rebooted} nodes rebooted before the stop took effect");

    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_one_at_a_time(&outages(&environment, since));
    assert_none_cordoned(&environment);
}

#[test]
fn an_etcd_member_outside_the_inventory_is_reported_by_name() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    environment.bootstrap_machines("infra");
    let path = environment.repository.join("talos/infra/talconfig.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("  - hostname: infra-cp-03").unwrap();
    let (_, after) = rest.split_once("  - hostname: ").unwrap();
    std::fs::write(&path, format!("{before}  - hostname: {after}")).unwrap();
    let run = environment.run(&["infra", "--lab", "--resume"]);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    etcd/members: error[T22]: infra-cp-03 is an etcd member and not a control plane of the inventory
        where: etcd member [ID] (infra-cp-03, https://10.25.11.13:2380)
        why: it belongs to this cluster: 10.25.11.13 accepts the cluster's credentials
        page: docs/errors/T22.md
        next: put infra-cp-03 back into the inventory; or reset it while it runs, or `talosctl etcd remove-member [ID]` if it is gone
    ");

    // A change that needs a reboot does not wait for the member to come back into the inventory.
    let patches = environment.repository.join("talos/infra/patches/all.yaml");
    let unchanged = std::fs::read_to_string(&patches).unwrap();
    add(&environment, NEEDS_REBOOT);
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 1, "{out}{err}");
    let refused = "machine-config/infra-cp-01: error[T22]: infra-cp-03 is an etcd member and not a control plane of the inventory";
    assert!(err.contains(refused), "{err}");
    std::fs::write(&patches, unchanged).unwrap();

    // Nothing shows any more that the member is one of this cluster.
    let without = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text).unwrap();
    let CommandOutput { code, stderr: err, .. } =
        environment.run(&["node", "shutdown", "infra", "infra-cp-03", "--lab", "--yes"]);
    assert_eq!(code, 0, "{err}");
    wait_until(Deadline::after(Duration::from_mins(1)), || {
        match environment.run(&["node", "services", "infra", "infra-cp-03", "--lab"]) {
            asked if asked.code == 0 => Condition::Unmet("infra-cp-03 still responds".to_owned()),
            _ => Condition::Met(()),
        }
    });
    std::fs::write(&path, without).unwrap();
    let kubeconfig = environment.state().join("labs/infra/run/kubeconfig");
    let mut delete = environment.child("kubectl");
    delete.arg("--kubeconfig").arg(kubeconfig).args(["delete", "node", "infra-cp-03"]);
    assert!(delete.output().unwrap().status.success());
    let run = environment.run(&["infra", "--lab", "--resume"]);
    insta::assert_snapshot!(failures(&run), @"
    exit code: 1
    etcd/members: error[T23]: an etcd member belongs to no node of the inventory
        where: etcd member [ID] (infra-cp-03, https://10.25.11.13:2380)
        why: its machine does not respond, and Kubernetes has no Node of its name
        page: docs/errors/T23.md
        next: compare `talosctl etcd members` with the inventory, and remove the member if it is not yours
    ");
}
