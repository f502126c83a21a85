//! Rollouts while the Kubernetes API stays away.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::TestEnvironment;
use crate::rollout;
use crate::rollout::{NEEDS_REBOOT, NODES, add, assert_none_cordoned, finished, now, outages};

/// The lab's kube-apiserver, stopped until this is dropped: it accepts connections and answers nothing.
struct StoppedApi(Pid);

impl StoppedApi {
    fn new(environment: &TestEnvironment) -> Self {
        let folder = environment.state().join("labs/infra").display().to_string();
        let is_ours = |path: &PathBuf| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.split(' ').next().is_some_and(|program| program.ends_with("kube-apiserver")) && line.contains(&folder)
        };
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let found = processes.filter(is_ours).find_map(|path| path.file_name()?.to_str()?.parse().ok());
        let pid = Pid::from_raw(found.unwrap_or_else(|| panic!("the lab has no kube-apiserver"))).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for StoppedApi {
    fn drop(&mut self) {
        // A node's reboot may have ended it.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Reads events until one of them has this text in its reason or detail.
fn until_text(child: &mut Child, part: &str) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let is_seen = events.by_ref().any(|event| event.to_string().contains(part));
    assert!(is_seen, "the run ended without: {part}");
    events
}

#[test]
fn while_the_api_stays_away_no_node_is_changed_unless_the_operator_takes_over_and_etcd_alone_decides() {
    let (environment, _lab) = finished();
    add(&environment, NEEDS_REBOOT);
    let since = now(&environment);
    let api = StoppedApi::new(&environment);
    let mut run = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    // No run can hold the lease now, so another operator may be at work.
    let waits = until_text(&mut run, "the Kubernetes API does not respond, so another run may be changing nodes");
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    waits.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    assert!(outages(&environment, since).is_empty(), "a node was changed without the lease");
    let take_over = ["-o", "json", "infra", "--lab", "--resume", "--take-over"];
    let mut run = environment.command(&take_over).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = until_text(&mut run, "the Kubernetes API does not respond");
    let decides = "the Kubernetes API does not respond: etcd's quorum alone decides, and the node is not drained";
    assert!(events.by_ref().any(|event| event["reason"] == decides), "the run ended without: {decides}");
    // The reboot of the control plane that the API server runs on may start it again; otherwise it is back now.
    drop(api);
    events.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let rebooted = outages(&environment, since);
    assert_eq!(rebooted.len(), NODES.len(), "{rebooted:#?}");
    rollout::limits::assert_control_planes_alone(&rebooted);
    assert_none_cordoned(&environment);
}

#[test]
fn a_cordon_that_a_run_left_is_removed_although_the_api_was_away_at_first() {
    let (environment, _lab) = finished();
    let cordon = r#"{"metadata":{"annotations":{"k8s-bootstrap.io/cordoned":"true"}},"spec":{"unschedulable":true}}"#;
    for node in ["infra-cp-02", "infra-worker-02"] {
        environment.kubectl("infra", &["patch", "node", node, "-o", "json", "--type", "merge", "-p", cordon]);
    }
    let api = StoppedApi::new(&environment);
    // An unfinished run, so that this one resumes it.
    let mut run =
        environment.command(&["-o", "json", "infra", "--lab", "--resume"]).stdout(Stdio::piped()).spawn().unwrap();
    let events = until_text(&mut run, "whether it is cordoned is unknown while the Kubernetes API does not respond");
    drop(api);
    events.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_none_cordoned(&environment);
}
