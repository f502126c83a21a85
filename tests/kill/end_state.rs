//! What a finished cluster consists of, without what differs between two equal ones.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::TestEnvironment;

/// Kinds whose objects come and go, or have random names.
const VOLATILE_KINDS: [&str; 10] = [
    "bindings",
    "certificatesigningrequests",
    "controllerrevisions",
    "endpoints",
    "endpointslices",
    "events",
    "ipaddresses",
    "leases",
    "pods",
    "replicasets",
];

/// Fields that the API server or a controller chooses, and a checksum over the digest of a chart.
const VOLATILE_FIELDS: [&str; 9] = [
    "caBundle",
    "checksum/config",
    "clusterIP",
    "clusterIPs",
    "healthCheckNodePort",
    "nodePort",
    "podCIDR",
    "podCIDRs",
    "providerID",
];

/// The end state of a cluster, a line for each fact: objects, deployed releases, voting members, accepted calls, and
/// that a plan has nothing to do.
pub(super) fn end_state(environment: &TestEnvironment, cluster: &str) -> BTreeSet<String> {
    let mut lines = objects(environment, cluster);
    lines.extend(members(environment, cluster));
    let record = environment.status(cluster)["record"].clone();
    lines.insert(format!("accepted Bootstrap calls: {}", record["bootstrap_accepted"]));
    lines.insert(format!("run lease: {}", environment.lease_holder(cluster)));
    let plan = environment.run(&["plan", cluster, "--lab", "--detailed-exitcode"]);
    lines.insert(format!("plan: exit code {}", plan.code));
    let network = format!("{}.", environment.network());
    // Each lab packs its charts anew, at another time.
    let digest = regex::Regex::new(r"(\d\.\d+)_[0-9a-f]{12}\b").unwrap();
    let stable = |line: String| digest.replace_all(&line.replace(&network, "NETWORK."), "${1}_DIGEST").into_owned();
    lines.into_iter().map(stable).collect()
}

/// Fails with the lines that are in one end state only.
pub(super) fn assert_same(found: &BTreeSet<String>, expected: &BTreeSet<String>) {
    let missing: Vec<&String> = expected.difference(found).collect();
    let other: Vec<&String> = found.difference(expected).collect();
    assert!(missing.is_empty() && other.is_empty(), "missing: {missing:#?}\nnot expected: {other:#?}");
}

fn objects(environment: &TestEnvironment, cluster: &str) -> BTreeSet<String> {
    let kubeconfig = environment.state().join("labs").join(cluster).join("run/kubeconfig");
    let mut names = environment.child("kubectl");
    let names = names.arg("--kubeconfig").arg(kubeconfig).args(["api-resources", "--verbs=list", "-o", "name"]);
    let names = String::from_utf8(names.output().unwrap().stdout).unwrap();
    let is_stable = |name: &&str| !VOLATILE_KINDS.contains(&name.split('.').next().unwrap());
    let kinds: Vec<&str> = names.lines().filter(is_stable).collect();
    let list = environment.kubectl(cluster, &["get", &kinds.join(","), "-A", "-o", "json"]);
    list["items"].as_array().unwrap().iter().filter_map(object).collect()
}

/// An object as a line; a record of helm only if it is the deployed one, without its revision.
fn object(object: &Value) -> Option<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let at = format!("{} {}", text("/kind"), text("/metadata/namespace"));
    if text("/type") == "helm.sh/release.v1" {
        let release = text("/metadata/labels/name");
        return match text("/metadata/labels/status") {
            "superseded" => None,
            status => Some(format!("{at} release {release}: {status}")),
        };
    }
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    remove_volatile(&mut spec);
    let keys = object.get("data").and_then(Value::as_object).map(|data| data.keys().cloned().collect::<Vec<_>>());
    Some(format!("{at} {}: {spec} {}", text("/metadata/name"), keys.unwrap_or_default().join(" ")))
}

fn remove_volatile(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !VOLATILE_FIELDS.contains(&name.as_str()));
            fields.values_mut().for_each(remove_volatile);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_volatile),
        _ => {}
    }
}

fn members(environment: &TestEnvironment, cluster: &str) -> Vec<String> {
    let status = environment.run(&["-o", "json", "etcd", "status", cluster, "--lab"]);
    assert_eq!(status.code, 0, "{status}");
    let members: Vec<Value> = serde_json::from_str(&status.stdout).unwrap();
    let line = |member: &Value| {
        let etcd = &member["etcd"];
        format!(
            "member {}: learns {}, of {}, alarms {}",
            member["node"], etcd["learns"], etcd["members"], etcd["alarms"]
        )
    };
    members.iter().map(line).collect()
}
