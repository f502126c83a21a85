//! A worker that does not respond, in runs on a cluster that has it.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::{LabProcess, TestEnvironment};
use serde_json::Value;

const WORKER: &str = "infra-worker-03";

/// A lab whose worker loses power for as long as a test may take, once it is asked for its time.
fn lab(environment: &TestEnvironment) -> LabProcess {
    let fault = format!("{{node: {WORKER}, call: Time, what: {{down: 3600000}}}}");
    environment.lab_with("infra", &format!("base: fast\nfaults: [{fault}]\n"))
}

fn switch_off(environment: &TestEnvironment) {
    let asked = environment.run(&["node", "time", "infra", WORKER, "--lab"]);
    assert_ne!(asked.code, 0, "the worker still responds: {asked}");
}

fn of_step<'e>(events: &'e [Value], step: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["step"] == step).collect()
}

/// The preflight of the worker held nothing back, and its own config waits for it.
fn assert_only_its_config_waits(events: &[Value]) {
    let preflight = of_step(events, &format!("preflight/{WORKER}"));
    assert!(preflight.iter().all(|event| event["event"] != "waiting"), "{preflight:#?}");
    let skipped = preflight.iter().find(|event| event["event"] == "step-done").unwrap();
    let reason = skipped["reason"].as_str().unwrap_or_default();
    assert!(skipped["outcome"] == "skipped" && reason.starts_with("unreachable; only its own config"), "{skipped}");
    let config = of_step(events, &format!("machine-config/{WORKER}"));
    let waits = config.iter().find(|event| event["event"] == "waiting").unwrap();
    assert_eq!(
        (waits["code"].as_str(), waits["reason"].as_str()),
        (Some("T11"), Some("port 50000 is closed: installing or rebooting"),)
    );
    assert!(of_step(events, "kubernetes-api/nodes").is_empty(), "it needs every node");
}

#[test]
fn a_silent_worker_holds_back_only_its_own_config_and_what_needs_every_node() {
    let environment = TestEnvironment::one_release();
    let _lab = lab(&environment);
    environment.events_until(&["infra", "--lab"], "release/cilium");
    switch_off(&environment);
    let events = environment.events_until(&["infra", "--lab", "--resume"], "release/cilium");
    assert_only_its_config_waits(&events);
}

#[test]
fn a_finished_cluster_with_a_silent_worker_is_worked_on_all_the_same() {
    let environment = TestEnvironment::one_release();
    let _lab = lab(&environment);
    let first = environment.run(&["infra", "--lab"]);
    assert_eq!(first.code, 0, "{first}");
    switch_off(&environment);
    let events = environment.events_until(&["infra", "--lab"], "release/cilium");
    assert_only_its_config_waits(&events);
}
