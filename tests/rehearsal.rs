//! The whole path on real parts: simulated nodes, real etcd, a real Kubernetes control plane, the real binary.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::TestEnvironment;
use serde_json::Value;

#[test]
fn a_rehearsal_ends_with_every_node_registered_and_one_bootstrap() {
    let world = TestEnvironment::reference();
    let (code, _, err) = world.run(&["rehearse", "apps", "--scenario", "fast"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("1 Bootstrap call accepted"), "{err}");
    assert!(!world.state().join("labs/apps").exists(), "the lab's folder is left behind");
}

#[test]
fn a_finished_cluster_is_verified_and_nothing_is_done() {
    let world = TestEnvironment::copy("10.61.1");
    let _lab = world.lab("infra");
    let (code, _, err) = world.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let calls = accepted(&world.status("infra"));
    for arguments in [&["infra", "--lab"][..], &["infra", "--lab", "--resume"]] {
        let (code, _, err) = world.run(arguments);
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("nothing to do: all 16 steps hold"), "{err}");
    }
    assert_eq!(accepted(&world.status("infra")), calls);
    assert_eq!(applied(&world.status("infra")), 6, "a config was applied a second time");
}

fn accepted(status: &Value) -> u64 {
    status["record"]["bootstrap_accepted"].as_u64().unwrap()
}

fn applied(status: &Value) -> u64 {
    let nodes = status["record"]["calls"].as_object().unwrap().values();
    nodes.filter_map(|calls| calls["ApplyConfiguration"].as_u64()).sum()
}

/// Runs until a step's event says `when`, kills the run, and says how far it was.
fn killed_at(world: &TestEnvironment, arguments: &[&str], when: impl Fn(&Value) -> bool) {
    let mut child = world.command(&["-o", "json"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let events = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = events.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).any(|event| when(&event));
    assert!(reached, "the run ended before it could be killed");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_killed_in_every_phase_goes_on_where_it_was_with_one_bootstrap() {
    let world = TestEnvironment::copy("10.61.2");
    let _lab = world.lab("infra");
    let phases = ["preflight", "machine-config", "etcd", "kubernetes-api"];
    for (index, phase) in phases.iter().enumerate() {
        let arguments = if index == 0 { vec!["infra", "--lab"] } else { vec!["infra", "--lab", "--resume"] };
        killed_at(&world, &arguments, |event| {
            let step = event["step"].as_str().unwrap_or_default();
            event["event"] == "step-started" && step.starts_with(phase)
        });
        let (code, _, err) = world.run(&["infra", "--lab"]);
        assert_eq!(code, 3, "an unfinished run wants --resume: {err}");
        assert!(err.contains("is unfinished"), "{err}");
    }
    let (code, _, err) = world.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(accepted(&world.status("infra")), 1);
    assert_eq!(applied(&world.status("infra")), 6, "a config was applied a second time");
}

#[test]
fn no_process_of_a_killed_lab_is_left() {
    let world = TestEnvironment::copy("10.61.3");
    let mut lab = world.lab("infra");
    let (code, _, err) = world.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let marker = world.state().display().to_string();
    let running = processes(&marker);
    for program in ["etcd ", "kube-apiserver ", "kube-controller-manager ", "kube-scheduler "] {
        assert!(running.iter().any(|line| line.contains(program)), "{program}is not among {running:#?}");
    }
    lab.kill();
    // The kernel ends the children when their parent is reaped; wait for the last one to go.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !processes(&marker).is_empty() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(processes(&marker), Vec::<String>::new());
}

/// Command lines of live processes that mention `marker`, the lab's own excepted.
fn processes(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(marker) && !line.contains("lab up") {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    let world = TestEnvironment::copy("10.61.4");
    let _lab = world.lab("infra");
    let mut first = world.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(events.next().unwrap().unwrap().contains("run-started"));
    let (code, _, err) = world.run(&["infra", "--lab"]);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("another run holds the lock: `infra`"), "{err}");
}

#[test]
fn a_node_of_another_cluster_is_left_alone() {
    let world = TestEnvironment::copy("10.61.5");
    let _lab = world.lab("infra");
    let (code, _, err) = world.run(&["infra", "--lab"]);
    assert_eq!(code, 0, "{err}");
    let before = applied(&world.status("infra"));
    let lab = world.state().join("labs/infra");
    std::fs::remove_file(lab.join("placeholder-secrets.yaml")).unwrap();
    std::fs::remove_dir_all(lab.join("run")).unwrap();
    let (code, _, err) = world.run(&["infra", "--lab"]);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("the node belongs to another cluster") && err.contains("T04"), "{err}");
    assert_eq!(applied(&world.status("infra")), before);
}

#[test]
fn ctrl_c_stops_at_a_safe_point_and_the_run_can_be_resumed() {
    let world = TestEnvironment::copy("10.61.6");
    let _lab = world.lab("infra");
    let mut child = world.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let mut outcome = Value::Null;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "applying" {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        }
        outcome = event["outcome"].clone();
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(outcome, "stopped");
    let (code, _, err) = world.run(&["infra", "--lab", "--resume"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(accepted(&world.status("infra")), 1);
}
