//! What goes wrong in the world of a lab, and what the run does about it.
#![allow(clippy::unwrap_used)]

use crate::common;

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
    let _lab =
        world.lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: lost-reply}]\n");
    let (code, _) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    assert_eq!(accepted(&world), 1);
}

#[test]
fn a_bootstrap_lost_to_a_reboot_is_repeated_on_the_same_node() {
    let world = TestEnvironment::copy("10.63.2");
    let _lab = world.lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: reboot}]\n");
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
    let _lab = world
        .lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: not-yet, times: 2}]\n");
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let retried = events.iter().filter(|event| event["event"] == "retrying" && event["step"] == "etcd/bootstrap");
    assert_eq!(retried.count(), 2);
    assert_eq!(accepted(&world), 1);
}

#[test]
fn an_image_that_cannot_be_pulled_is_told_in_the_registrys_words_and_the_run_goes_on_when_it_can() {
    let world = TestEnvironment::copy("10.63.4");
    let nodes = world.repository.join("talos/infra/talconfig.yaml");
    let mirror = "{machine: {registries: {mirrors: {'*': {endpoints: [https://mirror.lan]}}}}}";
    let (all, own) = ("  - \"@./patches/all.yaml\"\n", format!("  - \"{mirror}\"\n"));
    let text = std::fs::read_to_string(&nodes).unwrap().replace(all, &format!("{all}{own}"));
    std::fs::write(&nodes, text).unwrap();
    let trouble = "base: fast\npodFaults:\n  - pod: {namespace: kube-system, name: coredns}\n    what: image-pull\n    \
                   message: 'registry.example: 429 Too Many Requests'\n    lasts: 3000\n";
    let _lab = world.lab_with("infra", trouble);
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let told = told(&events, "release/coredns");
    let (_, line) = told.split_once("pod coredns-").and_then(|(_, line)| line.split_once(": image ")).unwrap();
    assert!(line.contains("cannot be pulled (ImagePullBackOff): registry.example: 429 Too Many Requests"), "{told}");
    assert!(line.contains("; its config has it asked for at https://mirror.lan, then https://"), "{told}");
}

/// How often a node was asked to pull an image, whichever the generation of its API.
fn pulls(world: &TestEnvironment, node: &str) -> u64 {
    world.status("infra")["record"]["calls"][node]["ImagePull"].as_u64().unwrap_or_default()
}

fn position(events: &[Value], event: &str, step: &str) -> usize {
    let found = events.iter().position(|line| line["event"] == event && line["step"] == step);
    found.unwrap_or_else(|| panic!("{step} was not {event}"))
}

#[test]
fn images_are_pulled_while_the_cluster_comes_up_and_not_again_by_the_next_run() {
    let world = TestEnvironment::copy("10.63.5");
    let _lab = world.lab_with("infra", "base: fast\n");
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    for node in ["infra-cp-01", "infra-worker-03"] {
        assert!(pulls(&world, node) > 1, "{node} pulled nothing ahead");
        let images = position(&events, "applying", &format!("images/{node}"));
        assert!(images < position(&events, "applying", "release/cilium"), "{node} pulled too late");
    }
    let before = pulls(&world, "infra-cp-01");
    let (code, _) = world.events(&["infra", "--lab"]);
    assert_eq!((code, pulls(&world, "infra-cp-01")), (0, before));
}

#[test]
fn pulls_ahead_that_fail_or_never_end_stop_no_run() {
    let world = TestEnvironment::copy("10.63.6");
    let refused = "{status: {code: Unknown, message: '429 Too Many Requests'}}";
    let faults = format!(
        "base: fast\nfaults:\n  - {{node: infra-cp-01, call: ImagePull, what: {refused}, times: 99}}\n  \
         - {{node: infra-cp-02, call: ImagePull, what: {{slow: 3600000}}, times: 99}}\n  \
         - {{node: infra-cp-03, call: ImagePull, what: {{status: {{code: Unimplemented, message: no}}}}, times: 99}}\n"
    );
    let _lab = world.lab_with("infra", &faults);
    let (code, events) = world.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let refused = told(&events, "images/infra-cp-01");
    assert!(refused.contains("is not pulled in advance: ") && refused.contains("429 Too Many Requests"), "{refused}");
    let unsupported = told(&events, "images/infra-cp-03");
    assert!(unsupported.contains("this Talos version cannot pull images in advance"), "{unsupported}");
    let ended = events.iter().filter(|event| event["step"] == "images/infra-cp-02" && event["event"] == "done");
    assert_eq!(ended.count(), 0);
}
