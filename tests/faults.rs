//! What goes wrong in the world of a lab, and what the run does about it.
#![allow(clippy::unwrap_used)]

mod common;

use common::TestEnvironment;
use serde_json::Value;

fn told(events: &[Value], step: &str) -> String {
    let mine = events.iter().filter(|event| event["step"] == step);
    let texts = mine.filter_map(|event| {
        event["reason"]
            .as_str()
            .map(str::to_owned)
            .or_else(|| event.get("error").map(|error| format!("{} {}", error["what"], error["why"])))
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn accepted(world: &TestEnvironment) -> u64 {
    world.status("infra")["record"]["bootstrap_accepted"].as_u64().unwrap()
}

#[test]
fn a_lost_answer_to_bootstrap_is_not_answered_by_a_second_call() {
    let world = TestEnvironment::copy("10.63.1");
    let _lab = world.lab_with("infra", "faults: [{node: infra-cp-01, call: Bootstrap, what: lost-reply}]\n");
    let (code, _) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    assert_eq!(accepted(&world), 1);
}

#[test]
fn a_bootstrap_lost_to_a_reboot_is_repeated_on_the_same_node() {
    let world = TestEnvironment::copy("10.63.2");
    let _lab = world.lab_with("infra", "faults: [{node: infra-cp-01, call: Bootstrap, what: reboot}]\n");
    let (code, _) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let calls = &world.status("infra")["record"]["calls"];
    for node in ["infra-cp-02", "infra-cp-03"] {
        assert!(calls[node].get("Bootstrap").is_none(), "{node} was asked to bootstrap");
    }
}

#[test]
fn a_node_that_is_not_ready_for_bootstrap_is_asked_again() {
    let world = TestEnvironment::copy("10.63.3");
    let _lab = world.lab_with("infra", "faults: [{node: infra-cp-01, call: Bootstrap, what: not-yet, times: 2}]\n");
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let retried = events.iter().filter(|event| event["event"] == "retrying" && event["step"] == "etcd/bootstrap");
    assert_eq!(retried.count(), 2);
    assert_eq!(accepted(&world), 1);
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_in_the_registrys_words_and_the_run_goes_on_when_it_can() {
    let world = TestEnvironment::copy("10.63.4");
    let trouble = "podFaults:\n  - pod: {namespace: kube-system, name: coredns}\n    what: image-pull\n    \
                   message: 'registry.example: 429 Too Many Requests'\n    lasts: 3000\n";
    let _lab = world.lab_with("infra", trouble);
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let told = told(&events, "release/coredns");
    assert!(told.contains("429 Too Many Requests") && told.contains("pod coredns-"), "{told}");
}
