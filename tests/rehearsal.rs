//! The whole path on real parts: simulated nodes, real etcd, a real Kubernetes control plane, the real binary.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use common::{TestEnvironment, processes};
use serde_json::Value;
use test_support::{CommandOutput, Condition, Deadline, wait_until};

/// A hook sees what every program of the rehearsal sees.
#[test]
fn a_rehearsal_ends_with_a_cluster_that_flux_manages_and_sees_no_network_but_loopback() {
    let environment = TestEnvironment::copy();
    let seen = environment.repository.join("seen");
    let hook = format!(
        "- events: [postsync]\n        showlogs: true\n        command: cp\n        args: [/proc/net/route, {}]\n      ",
        seen.display()
    );
    let helmfile = environment.repository.join("bootstrap/apps/helmfile.d/01-apps.yaml");
    let text = std::fs::read_to_string(&helmfile).unwrap();
    assert!(text.contains("- events:"));
    std::fs::write(&helmfile, text.replacen("- events:", &format!("{hook}- events:"), 1)).unwrap();
    let CommandOutput { code, stderr: err, .. } = environment.run(&["rehearse", "apps", "--scenario", "fast"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("apps is bootstrapped: 6 nodes Ready, 6 releases, Flux follows release."), "{err}");
    assert!(err.contains("Bootstrap calls accepted: 1"), "{err}");
    assert!(err.contains("workloads that Flux restarted at the hand-over: 0"), "{err}");
    assert!(err.contains("charts replaced by stand-ins: ") && err.contains("cilium"), "{err}");
    assert!(!environment.state().join("labs/apps").exists(), "the lab's folder is left behind");

    let routes = std::fs::read_to_string(&seen).unwrap();
    if test_support::child("unshare")
        .args(["-Urn", "--", "ip", "link", "set", "lo", "up"])
        .status()
        .is_ok_and(|it| it.success())
    {
        assert!(err.contains("\nnetwork isolated: only loopback"), "{err}");
        assert_eq!(routes.lines().count(), 1, "{routes}");
    } else {
        assert!(err.contains("\nnetwork not isolated: no network namespace can be created here"), "{err}");
    }
}

#[test]
fn a_finished_cluster_is_owned_by_flux_and_a_further_run_does_nothing() {
    let environment = TestEnvironment::copy();
    let _lab = environment.lab("infra");
    let ask = ["plan", "infra", "--lab", "--detailed-exitcode"];
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&ask);
    assert_eq!(code, 5, "{out}{err}");
    assert!(out.contains("to apply: ") && out.contains("blocked by "), "{out}");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&ask);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("47 up to date, 0 to change"), "{out}");
    assert_eq!(out.matches("skipped: Flux owns it (F01)").count(), 6, "{out}");
    let calls = accepted(&environment.status("infra"));
    let objects = workloads(&environment);
    for arguments in [&["infra", "--lab"][..], &["infra", "--lab", "--resume"]] {
        let CommandOutput { code, stderr: err, .. } = environment.run(arguments);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("infra: nothing to do: all "), "{err}");
    }
    assert_eq!(accepted(&environment.status("infra")), calls);
    assert_eq!(applied(&environment.status("infra")), 6, "a config was applied a second time");
    assert_eq!(workloads(&environment), objects, "an object was changed");
    let CommandOutput { code, stdout: out, stderr: err, .. } = environment.run(&["status", "infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nodes: 6 of 6 Ready") && out.contains("HelmRelease: 6 of 6 Ready"), "{out}");
    assert_every_workload_is_ready_and_owned_by_flux(&environment);
}

/// Every workload with its generation, which the API server counts up at each change of a spec.
fn workloads(environment: &TestEnvironment) -> Vec<(String, i64)> {
    let items =
        environment.kubectl("infra", &["get", "deployments,daemonsets,helmreleases,secrets", "-A", "-o", "json"]);
    let items = items["items"].as_array().unwrap();
    let text = |item: &Value, pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = |item: &Value| format!("{}/{}", text(item, "/kind"), text(item, "/metadata/name"));
    items.iter().map(|item| (name(item), item["metadata"]["generation"].as_i64().unwrap_or(0))).collect()
}

fn assert_every_workload_is_ready_and_owned_by_flux(environment: &TestEnvironment) {
    let nodes = environment.kubectl("infra", &["get", "nodes", "-o", "json"]);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 6);
    let pods = environment.kubectl("infra", &["get", "pods", "-A", "-o", "json"]);
    for pod in pods["items"].as_array().unwrap() {
        let phase = pod["status"]["phase"].as_str().unwrap();
        assert!(["Running", "Succeeded"].contains(&phase), "{} is {phase}", pod["metadata"]["name"]);
    }
    let releases = environment.kubectl("infra", &["get", "helmreleases", "-A", "-o", "json"]);
    let releases = releases["items"].as_array().unwrap();
    assert_eq!(releases.len(), 6);
    for release in releases {
        assert!(release.pointer("/status/history/0").is_some(), "{} is not adopted", release["metadata"]["name"]);
    }
}

fn accepted(status: &Value) -> u64 {
    status["record"]["bootstrap_accepted"].as_u64().unwrap()
}

fn applied(status: &Value) -> u64 {
    let nodes = status["record"]["calls"].as_object().unwrap().values();
    nodes.filter_map(|calls| calls["ApplyConfiguration"].as_u64()).sum()
}

#[test]
fn no_process_of_a_killed_lab_is_left() {
    let environment = TestEnvironment::one_release();
    let mut lab = environment.lab("infra");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let marker = environment.state().display().to_string();
    let running = processes(&marker);
    for program in ["etcd ", "kube-apiserver ", "kube-controller-manager ", "kube-scheduler "] {
        assert!(running.iter().any(|line| line.contains(program)), "{program}is not among {running:#?}");
    }
    lab.kill();
    // The supervisors end the children when the lab is reaped; wait for the last one to go.
    wait_until(Deadline::after(Duration::from_secs(30)), || match processes(&marker) {
        left if left.is_empty() => Condition::Met(()),
        left => Condition::Unmet(format!("{left:?}")),
    });
}

#[test]
fn a_second_run_reports_the_holder_of_the_lock() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab("infra");
    let mut first = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(events.next().unwrap().unwrap().contains("run-started"));
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("another run holds the lock: `infra`"), "{err}");
}

#[test]
fn kubeconfig_and_talosconfig_are_there_before_etcd() {
    let environment = TestEnvironment::machines();
    let _lab = environment.lab("infra");
    environment.events_until(&["infra", "--lab"], "etcd/bootstrap");
    for name in ["kubeconfig", "talosconfig"] {
        assert!(environment.state().join("labs/infra/run").join(name).exists(), "{name}");
    }
}

#[test]
fn a_node_of_another_cluster_is_left_alone() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab("infra");
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let before = applied(&environment.status("infra"));
    let lab = environment.state().join("labs/infra");
    std::fs::remove_file(lab.join("placeholder-secrets.yaml")).unwrap();
    std::fs::remove_dir_all(lab.join("run")).unwrap();
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("the node belongs to another cluster") && err.contains("T04"), "{err}");
    assert_eq!(applied(&environment.status("infra")), before);
}

#[test]
fn ctrl_c_stops_at_a_safe_point_and_the_run_can_be_resumed() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab("infra");
    let stopped_by = |signal: rustix::process::Signal, arguments: &[&str]| {
        let mut child = environment.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let mut outcome = Value::Null;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == "applying" {
                rustix::process::kill_process(pid, signal).unwrap();
            }
            outcome = event["outcome"].clone();
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?}");
        assert_eq!(outcome, "stopped", "{signal:?}");
    };
    stopped_by(rustix::process::Signal::INT, &["-o", "json", "infra", "--lab"]);
    stopped_by(rustix::process::Signal::HUP, &["-o", "json", "infra", "--lab", "--resume"]);
    let CommandOutput { code, stderr: err, .. } = environment.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(accepted(&environment.status("infra")), 1);
}
