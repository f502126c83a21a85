//! Waits that take minutes, the errors that end a step at once, and what a wait costs the nodes.
#![allow(clippy::unwrap_used)]

use crate::common;

use common::TestEnvironment;
use serde_json::Value;

fn of_step<'e>(events: &'e [Value], step: &str, event: &str) -> Vec<&'e Value> {
    events.iter().filter(|line| line["step"] == step && line["event"] == event).collect()
}

fn has_wait(events: &[Value], step: &str, code: &str, part: &str) -> bool {
    let waits = of_step(events, step, "waiting");
    waits.iter().any(|wait| wait["code"] == code && wait["reason"].as_str().unwrap().contains(part))
}

/// When a node was sent requests of a kind, on the lab's clock, between two moments.
fn requests(record: &Value, node: &str, within: (f64, f64), is_counted: impl Fn(&str) -> bool) -> Vec<f64> {
    let all = record["requests"].as_array().unwrap().iter();
    let to_node = all.filter(|request| request["to"] == node && is_counted(request["what"].as_str().unwrap()));
    let at = to_node.map(|request| request["at"].as_f64().unwrap());
    at.filter(|at| (within.0..within.1).contains(at)).collect()
}

/// Talos promotes a learner after 15 to 45 s, one after the other. The API and the releases need one member only.
#[test]
fn only_the_hand_over_waits_for_voting_members() {
    let output = TestEnvironment::reference().run(&["-o", "json", "plan", "infra"]);
    let plan: Value = serde_json::from_str(&output.stdout).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let waits = |step: &&Value| step["needs"].as_array().unwrap().contains(&Value::from("etcd/members"));
    let waiting: Vec<&str> = steps.iter().filter(waits).map(|step| step["phase"].as_str().unwrap()).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|phase| *phase == "handoff"), "{waiting:?}");
}

/// A bootstrap that is refused thirty times, a control plane that reboots for 70 s while etcd is to be started, and a node
/// that is unavailable for twelve configs: more than eight retries could wait for.
#[test]
fn waits_of_minutes_do_not_end_a_run_and_cost_the_nodes_little() {
    let environment = TestEnvironment::machines();
    let unavailable = "{status: {code: Unavailable, message: 'apid is starting'}}";
    let _lab = environment.lab_with(
        "infra",
        &format!(
            "base: fast\nfaults:\n\
             - {{node: infra-cp-01, call: Bootstrap, what: not-yet, times: 30}}\n\
             - {{node: infra-cp-03, call: ServiceList, what: {{down: 70000}}}}\n\
             - {{node: infra-worker-01, call: ApplyConfiguration, what: {unavailable}, times: 12}}\n"
        ),
    );
    let events = environment.events_until(&["infra", "--lab"], "handoff/nodes");
    let record = environment.status("infra")["record"].clone();

    // The refusals are a wait with a reason, and no attempts.
    assert!(has_wait(&events, "etcd/bootstrap", "T06", "bootstrap is not available yet"), "{events:#?}");
    assert!(of_step(&events, "etcd/bootstrap", "retrying").is_empty());
    assert_eq!(of_step(&events, "etcd/bootstrap", "applying").len(), 1);
    assert_eq!(record["calls"]["infra-cp-01"]["Bootstrap"], 31);
    assert_eq!(record["bootstrap_accepted"], 1);

    // The control plane that reboots is waited for, and no message offers to bootstrap without it.
    assert!(has_wait(&events, "etcd/bootstrap", "T11", ".13: unreachable since "), "{events:#?}");
    let texts = serde_json::to_string(&events).unwrap();
    assert!(!texts.contains("--force-bootstrap-node"), "{texts}");

    let retries = of_step(&events, "machine-config/infra-worker-01", "retrying");
    assert_eq!(retries.len(), 12);
    assert_eq!(retries[0]["error"]["class"], "unavailable");

    // While it is away: one attempt a second to it once a boot should be over, and less than a call a second to the others.
    let attempts = requests(&record, "infra-cp-03", (0.0, f64::MAX), |what| what == "connect");
    let (began, ended) = (attempts[0], attempts[attempts.len() - 1]);
    assert!(ended - began > 65.0, "it was away for {} s only", ended - began);
    let overdue: Vec<f64> = attempts.into_iter().filter(|at| *at > began + 61.0).collect();
    assert!(overdue.windows(2).all(|pair| pair[1] - pair[0] > 0.9), "{overdue:?}");
    // The first seconds are those of the look that found it away.
    let settled = (began + 3.0, ended);
    for node in ["infra-cp-01", "infra-cp-02"] {
        let calls = requests(&record, node, settled, |_| true);
        assert!(f64::from(u32::try_from(calls.len()).unwrap()) <= settled.1 - settled.0, "{node}: {calls:?}");
        assert!(requests(&record, node, settled, |what| what == "Logs").is_empty(), "{node}: its log was read");
    }
}

#[test]
fn a_node_that_rejects_what_is_sent_ends_its_step_at_once() {
    let environment = TestEnvironment::machines();
    let fault = |node: &str, code: &str, message: &str| {
        format!(
            "- {{node: {node}, call: ApplyConfiguration, what: {{status: {{code: {code}, message: '{message}'}}}}, times: 99}}\n"
        )
    };
    let faults = [
        fault("infra-cp-01", "InvalidArgument", "machine.install.wipe is not for this machine"),
        fault("infra-worker-01", "PermissionDenied", "machine.install.wipe must not be set"),
        fault("infra-worker-02", "ResourceExhausted", "no space left on device"),
    ];
    let _lab = environment.lab_with("infra", &format!("base: fast\nfaults:\n{}", faults.concat()));
    let (code, events) = environment.events(&["infra", "--lab"]);
    assert_eq!(code, 1);
    let error = |node: &str| {
        let step = format!("machine-config/{node}");
        assert!(of_step(&events, &step, "retrying").is_empty(), "{node} was retried");
        of_step(&events, &step, "step-failed")[0]["error"].clone()
    };
    for (node, class) in [("infra-cp-01", "invalid-input"), ("infra-worker-01", "failed-precondition")] {
        let error = error(node);
        assert_eq!((&error["code"], &error["class"]), (&"T17".into(), &class.into()), "{error}");
        assert_eq!(error["what"], "the node rejected its machine config");
        assert!(error["why"].as_str().unwrap().contains("; `machine.install.wipe` is set by "), "{error}");
    }
    let full = error("infra-worker-02");
    assert_eq!(full["class"], "failed-precondition", "{full}");
    let calls = environment.status("infra")["record"]["calls"].clone();
    for node in ["infra-cp-01", "infra-worker-01", "infra-worker-02"] {
        assert_eq!(calls[node]["ApplyConfiguration"], 1, "{calls}");
    }
}

/// Half-open connections: the node gets nothing, and nothing reports it.
#[test]
fn a_network_that_drops_everything_for_a_while_is_waited_for() {
    let environment = TestEnvironment::machines();
    let _lab = environment
        .lab_with("infra", "base: fast\nfaults: [{node: infra-cp-02, call: ServiceList, what: {stall: 32000}}]\n");
    let events = environment.events_until(&["infra", "--lab"], "handoff/nodes");
    assert!(has_wait(&events, "etcd/bootstrap", "T11", "no response within 15s"), "{events:#?}");
    assert!(of_step(&events, "etcd/bootstrap", "retrying").is_empty());
    assert_eq!(environment.status("infra")["record"]["bootstrap_accepted"], 1);
}

#[test]
fn a_registry_that_limits_requests_or_is_overloaded_is_retried() {
    let environment = TestEnvironment::copy();
    let _lab = environment.lab_with(
        "infra",
        "base: fast\nregistryFaults:\n\
         - {path: cilium, what: {status: {code: 429, retryAfter: 1}}, times: 2}\n\
         - {path: coredns, what: {status: {code: 503}}, times: 2}\n\
         - {path: spegel, what: {slow: 2000}}\n",
    );
    let events = environment.events_until(&["infra", "--lab"], "machine-config/");
    assert_eq!(of_step(&events, "preflight/charts", "step-done").len(), 1, "{events:#?}");
}

#[test]
fn a_chart_that_the_registry_lacks_denies_or_damages_is_reported_at_once() {
    let environment = TestEnvironment::copy();
    for (what, part) in
        [("{status: {code: 404}}", "not found"), ("{status: {code: 403}}", "403"), ("wrong-digest", "digest")]
    {
        let _lab = environment
            .lab_with("infra", &format!("base: fast\nregistryFaults: [{{path: cilium, what: {what}, times: 999}}]\n"));
        let run = environment.run(&["plan", "infra", "--lab", "--detailed-exitcode"]);
        assert!(run.stdout.contains("preflight/charts") && run.stdout.contains(part), "{what}: {run}");
    }
}
