//! Faults injected into a lab, and how a run handles them.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::TestEnvironment;
use net::{AddressMap, Dialer};
use serde_json::Value;
use talos_client::{Client, ClientIdentity, EtcdBootstrap};
use test_support::{Condition, Deadline, wait_until_async};

fn reported(events: &[Value], step: &str) -> String {
    let mine = events.iter().filter(|event| event["step"] == step);
    let texts = mine.filter_map(|event| {
        event["reason"]
            .as_str()
            .map(str::to_owned)
            .or_else(|| event.get("error").map(|error| format!("{} {}", error["what"], error["why"])))
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The steps that were retried because of a failure with this code.
fn retries<'e>(events: &'e [Value], code: &str) -> Vec<&'e str> {
    let retried = events.iter().filter(|event| event["event"] == "retrying" && event["error"]["code"] == code);
    retried.filter_map(|event| event["step"].as_str()).collect()
}

fn accepted(environment: &TestEnvironment) -> u64 {
    environment.status("infra")["record"]["bootstrap_accepted"].as_u64().unwrap()
}

#[test]
fn a_lost_reply_to_bootstrap_leads_to_no_second_call() {
    let environment = TestEnvironment::one_release();
    let _lab =
        environment.lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: lost-reply}]\n");
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    assert_eq!(accepted(&environment), 1);
    assert_eq!(retries(&events, "T01"), ["etcd/bootstrap"]);
    // The API server starts after etcd, so it is always waited for.
    let mut waits = events.iter().filter(|event| event["event"] == "waiting" && event["code"] == "K01");
    assert!(waits.any(|event| event["step"] == "kubernetes-api/ready"), "{events:#?}");
}

/// The reasons of the wait for the API, each with its code.
fn api_waits(events: &[Value]) -> Vec<(String, String)> {
    let waits = events.iter().filter(|event| event["event"] == "waiting" && event["step"] == "kubernetes-api/ready");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    waits.map(|event| (text(&event["code"]), text(&event["reason"]))).collect()
}

#[test]
fn a_kubelet_that_does_not_start_is_the_reason_why_the_api_is_waited_for() {
    let environment = TestEnvironment::machines();
    let message = "Failed to run pre stage: failed to pull image ghcr.io/siderolabs/kubelet: not found";
    let fault = |node: u8| format!("  - {{node: infra-cp-0{node}, message: '{message}', lasts: 4000}}\n");
    let _lab =
        environment.lab_with("infra", &format!("base: fast\nkubeletFaults:\n{}{}{}", fault(1), fault(2), fault(3)));
    let events = environment.events_until(&["infra", "--lab"], "kubernetes-api/nodes");
    let waits = api_waits(&events);
    let named = waits.iter().find(|(code, _)| code == "T27").unwrap_or_else(|| panic!("no T27 among {waits:#?}"));
    assert!(named.1.contains(&format!("infra-cp-01: the kubelet does not start: {message}")), "{waits:#?}");
    assert!(named.1.ends_with("Connection refused (os error 111)"), "{waits:#?}");
}

#[test]
fn an_api_server_that_is_crash_looping_is_the_reason_why_the_api_is_waited_for() {
    let environment = TestEnvironment::machines();
    let message = "back-off 40s restarting failed container=kube-apiserver";
    let what = format!("reason: CrashLoopBackOff, message: '{message}', lasts: 4000");
    let fault = |node: u8| format!("  - {{node: infra-cp-0{node}, {what}}}\n");
    let _lab =
        environment.lab_with("infra", &format!("base: fast\napiServerFaults:\n{}{}{}", fault(1), fault(2), fault(3)));
    let events = environment.events_until(&["infra", "--lab"], "kubernetes-api/nodes");
    let waits = api_waits(&events);
    let named = waits.iter().find(|(code, _)| code == "T28").unwrap_or_else(|| panic!("no T28 among {waits:#?}"));
    let pod = format!("static pod kube-apiserver-infra-cp-01 is in CrashLoopBackOff: {message}");
    assert!(named.1.contains(&format!("infra-cp-01: {pod}")), "{waits:#?}");
}

#[test]
fn a_bootstrap_lost_to_a_reboot_is_repeated_on_the_same_node() {
    let environment = TestEnvironment::one_release();
    let _lab =
        environment.lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: reboot}]\n");
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    assert_eq!(retries(&events, "T02"), ["etcd/bootstrap"]);
    let calls = &environment.status("infra")["record"]["calls"];
    for node in ["infra-cp-02", "infra-cp-03"] {
        assert!(calls[node].get("Bootstrap").is_none(), "{node} was asked to bootstrap");
    }
}

#[test]
fn a_node_that_is_not_ready_for_bootstrap_is_waited_for() {
    let environment = TestEnvironment::one_release();
    let _lab = environment
        .lab_with("infra", "base: fast\nfaults: [{node: infra-cp-01, call: Bootstrap, what: not-yet, times: 2}]\n");
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let of_step = |kind: &str| {
        let found = events.iter().filter(move |event| event["event"] == kind && event["step"] == "etcd/bootstrap");
        found.cloned().collect::<Vec<Value>>()
    };
    assert!(of_step("retrying").is_empty(), "a wait was counted as an attempt");
    let refused = of_step("waiting").into_iter().filter(|event| event["code"] == "T06");
    assert_eq!(refused.count(), 1);
    assert_eq!(environment.status("infra")["record"]["calls"]["infra-cp-01"]["Bootstrap"], 3);
    assert_eq!(accepted(&environment), 1);
}

/// The administrator's connection to a node, by the talosconfig that the run wrote.
async fn administrator(environment: &TestEnvironment, host: u8) -> Client {
    let path = environment.state().join("labs/infra/run/talosconfig");
    let talosconfig = yaml::parse_one(&yaml::Origin::new("talosconfig"), &std::fs::read_to_string(path).unwrap());
    let talosconfig = talosconfig.unwrap().to_json();
    let context = &talosconfig["contexts"][talosconfig["context"].as_str().unwrap()];
    let pem = |key: &str| String::from_utf8(STANDARD.decode(context[key].as_str().unwrap()).unwrap()).unwrap();
    let identity = ClientIdentity { ca_pem: pem("ca"), certificate_pem: pem("crt"), key_pem: pem("key").into() };
    let address = IpAddr::from(environment.network().host(host));
    Client::connect(&Dialer::lab(AddressMap::loopback([address])), address, &identity).await.unwrap()
}

/// Two etcds that really run: a second client bootstraps two control planes at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn two_etcds_are_reported_by_every_run_and_nothing_is_changed() {
    let environment = TestEnvironment::one_release();
    // The run itself gets nowhere, so that no node has begun when the other client comes.
    let refused = "faults: [{node: infra-cp-01, call: Bootstrap, what: not-yet, times: 100000}]";
    let _lab = environment.lab_with("infra", &format!("base: fast\n{refused}\n"));
    environment.events_until(&["infra", "--lab"], "etcd/bootstrap");
    let (second, third) = tokio::join!(administrator(&environment, 12), administrator(&environment, 13));
    let (one, other) = tokio::join!(second.bootstrap(EtcdBootstrap::New), third.bootstrap(EtcdBootstrap::New));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    let members = async || {
        let ids = async |client: &Client| {
            // etcd starts.
            wait_until_async(Deadline::after(Duration::from_mins(1)), async || match client.etcd_members().await {
                Ok(members) => Condition::Met(members.into_iter().map(|member| member.id).collect::<BTreeSet<u64>>()),
                Err(error) => Condition::Unmet(error.to_string()),
            })
            .await
        };
        tokio::join!(ids(&second), ids(&third))
    };
    let (ours, theirs) = members().await;
    assert!(!ours.is_empty() && ours.is_disjoint(&theirs), "{ours:?} {theirs:?}");

    let changes = || {
        let record = environment.status("infra")["record"].clone();
        let calls = record["calls"].as_object().unwrap().clone().into_iter();
        let counted = calls.map(|(node, calls)| (node, calls["ApplyConfiguration"].clone(), calls["Reboot"].clone()));
        (record["bootstrap_accepted"].clone(), counted.collect::<Vec<_>>())
    };
    let before = changes();
    let run = |step: &str| {
        let run = environment.run(&["infra", "--lab", "--resume"]);
        assert_eq!(run.code, 1, "{run}");
        assert!(run.stderr.contains("error[T03]: etcd needs a manual decision"), "{step}: {run}");
        assert!(run.stderr.contains(" run two different etcd clusters: members "), "{run}");
        assert!(!run.stderr.contains("release/cilium: applying"), "{run}");
    };
    run("resumed");
    // A fresh laptop adopts what exists.
    std::fs::remove_file(environment.state().join("labs/infra/run/journal.jsonl")).unwrap();
    run("adopted");
    assert_eq!(changes(), before);
    let (still_ours, still_theirs) = members().await;
    assert!(ours.is_subset(&still_ours) && theirs.is_subset(&still_theirs) && still_ours.is_disjoint(&still_theirs));
}

#[test]
fn a_clock_that_is_not_in_sync_is_reported_before_anything_is_changed_and_waited_for() {
    let environment = TestEnvironment::one_release();
    // etcd does not run on the worker, so its clock holds nothing up.
    let faults = "[{node: infra-cp-01, lasts: 6000}, {node: infra-worker-01, lasts: 3600000}]";
    let _lab = environment.lab_with("infra", &format!("base: fast\nclockFaults: {faults}\n"));
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let waits: Vec<&str> = events
        .iter()
        .filter(|event| event["event"] == "waiting" && event["code"] == "T08")
        .filter_map(|event| event["step"].as_str())
        .collect();
    assert!(waits.contains(&"preflight/infra-worker-01") && waits.contains(&"etcd/bootstrap"), "{waits:?}");
    let preflight =
        events.iter().find(|event| event["event"] == "observed" && event["step"] == "preflight/infra-worker-01");
    assert!(preflight.unwrap().to_string().contains("its clock is not in sync yet"), "{preflight:?}");
    assert_eq!(accepted(&environment), 1);
}

/// The machines' other addresses, on the loopback link or link-local, are none that etcd may advertise.
#[test]
fn etcd_that_has_no_address_to_advertise_is_reported_with_the_setting_to_correct() {
    use std::io::{BufRead, BufReader};

    let environment = TestEnvironment::one_release();
    let patch = environment.repository.join("talos/infra/patches/control-plane.yaml");
    let text = std::fs::read_to_string(&patch).unwrap();
    let (before, _) = text.split_once("    advertisedSubnets:").unwrap();
    std::fs::write(&patch, format!("{before}    advertisedSubnets: [192.0.2.0/24]\n")).unwrap();
    let _lab = environment.lab("infra");
    let mut run =
        environment.command(&["-o", "json", "infra", "--lab"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines().map(Result::unwrap);
    let setting = "no address of the node matches cluster.etcd.advertisedSubnets";
    let found = lines.find(|line| line.contains("etcd/bootstrap") && line.contains(setting));
    run.kill().unwrap();
    run.wait().unwrap();
    let event: Value = serde_json::from_str(&found.expect("the run ended without the reason")).unwrap();
    assert_eq!((&event["event"], &event["code"]), (&Value::from("waiting"), &Value::from("T14")), "{event}");
    assert_eq!(accepted(&environment), 1);
}

#[test]
fn a_node_that_falls_back_to_maintenance_mode_gets_its_config_again() {
    let environment = TestEnvironment::one_release();
    let fault = "base: fast\nboot: 1000\nfaults: [{node: infra-worker-02, call: ApplyConfiguration, what: reboot}]\n";
    let _lab = environment.lab_with("infra", fault);
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    assert_eq!(retries(&events, "T05"), ["machine-config/infra-worker-02"]);
    let calls = &environment.status("infra")["record"]["calls"];
    let applied = ["infra-worker-01", "infra-worker-02"].map(|node| calls[node]["ApplyConfiguration"].as_u64());
    assert_eq!(applied, [Some(1), Some(2)]);
}

#[test]
fn a_failed_image_pull_is_reported_with_the_registrys_message_and_the_run_continues_once_it_succeeds() {
    let environment = TestEnvironment::one_release();
    let nodes = environment.repository.join("talos/infra/talconfig.yaml");
    let mirror = "{machine: {registries: {mirrors: {'*': {endpoints: [https://mirror.lan]}}}}}";
    let (all, own) = ("  - \"@./patches/all.yaml\"\n", format!("  - \"{mirror}\"\n"));
    let text = std::fs::read_to_string(&nodes).unwrap().replace(all, &format!("{all}{own}"));
    std::fs::write(&nodes, text).unwrap();
    let scenario = "base: fast\npodFaults:\n  - pod: {namespace: kube-system, name: cilium}\n    what: image-pull\n    \
                   message: 'registry.example: 429 Too Many Requests'\n    lasts: 3000\n";
    let _lab = environment.lab_with("infra", scenario);
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let reason = reported(&events, "release/cilium");
    let (_, line) = reason.split_once("pod cilium-").and_then(|(_, line)| line.split_once(": image ")).unwrap();
    assert!(line.contains("cannot be pulled (ImagePullBackOff): registry.example: 429 Too Many Requests"), "{reason}");
    assert!(line.contains("; its config has it asked for at https://mirror.lan, then https://"), "{reason}");
}

/// How often a node was asked to pull an image, whichever the generation of its API.
fn pulls(environment: &TestEnvironment, node: &str) -> u64 {
    environment.status("infra")["record"]["calls"][node]["ImagePull"].as_u64().unwrap_or_default()
}

fn position(events: &[Value], event: &str, step: &str) -> usize {
    let found = events.iter().position(|line| line["event"] == event && line["step"] == step);
    found.unwrap_or_else(|| panic!("{step} was not {event}"))
}

#[test]
fn images_are_pulled_while_the_cluster_comes_up_and_not_again_by_the_next_run() {
    let environment = TestEnvironment::one_release();
    let _lab = environment.lab_with("infra", "base: fast\n");
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    for node in ["infra-cp-01", "infra-worker-03"] {
        assert!(pulls(&environment, node) > 0, "{node} pulled nothing ahead");
        let images = position(&events, "applying", &format!("images/{node}"));
        assert!(images < position(&events, "applying", "release/cilium"), "{node} pulled too late");
    }
    let before = pulls(&environment, "infra-cp-01");
    let (code, _) = environment.events(&["infra", "--lab"]);
    assert_eq!((code, pulls(&environment, "infra-cp-01")), (0, before));
}

#[test]
fn failed_or_hanging_image_prepulls_do_not_stop_a_run() {
    let environment = TestEnvironment::one_release();
    let refused = "{status: {code: Unknown, message: '429 Too Many Requests'}}";
    let faults = format!(
        "base: fast\nfaults:\n  - {{node: infra-cp-01, call: ImagePull, what: {refused}, times: 99}}\n  \
         - {{node: infra-cp-02, call: ImagePull, what: {{slow: 3600000}}, times: 99}}\n  \
         - {{node: infra-cp-03, call: ImagePull, what: {{status: {{code: Unimplemented, message: no}}}}, times: 99}}\n"
    );
    let _lab = environment.lab_with("infra", &faults);
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 0);
    let refused = reported(&events, "images/infra-cp-01");
    assert!(refused.contains("is not pulled in advance: ") && refused.contains("429 Too Many Requests"), "{refused}");
    let unsupported = reported(&events, "images/infra-cp-03");
    assert!(unsupported.contains("this Talos version cannot pull images in advance"), "{unsupported}");
    let ended = events.iter().filter(|event| event["step"] == "images/infra-cp-02" && event["event"] == "done");
    assert_eq!(ended.count(), 0);
}
