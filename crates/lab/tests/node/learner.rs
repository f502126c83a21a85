//! A control plane that joins etcd: a learner until Talos's next attempt to promote it, and unhealthy until then.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, wait_until_async};

use crate::call::{Trust, call, connect};
use crate::test_lab::{NAMES, TestLab};

const TIMEOUT: Duration = Duration::from_mins(1);
/// In this lab a learner is not promoted again before the test is over.
pub const NEVER: &str = "etcd: {promotion: 600000, healthCheck: 2000, healthPeriod: 200}\n";
/// Seconds between two attempts to promote, in the other one.
const PROMOTION: f64 = 2.0;
pub const SOON: &str = "etcd: {promotion: 2000, healthPeriod: 200}\n";

pub type Answer = (Vec<Value>, Option<tonic::Status>);

pub async fn ask(test_lab: &TestLab, name: &str, method: &str, request: &Value) -> Answer {
    let own = test_lab.cluster.client(&["os:admin"]);
    let trust = Trust::Cluster { authority: &test_lab.cluster.machine.certificate, own };
    let channel = connect(&test_lab.dialled(name), trust);
    call(channel, method, std::slice::from_ref(request), &[], usize::MAX).await
}

pub async fn until<T>(
    test_lab: &TestLab,
    name: &str,
    method: &str,
    request: Value,
    wanted: impl Fn(&Answer) -> Option<T>,
) -> T {
    wait_until_async(Deadline::after(TIMEOUT), async || {
        let answer = ask(test_lab, name, method, &request).await;
        wanted(&answer).map_or_else(|| Condition::Unmet(format!("{method} to {name}: {answer:?}")), Condition::Met)
    })
    .await
}

/// The service etcd of an answer.
pub fn etcd((found, _): &Answer) -> Option<Value> {
    let services = found.first()?.pointer("/messages/0/services")?.as_array()?.clone();
    services.into_iter().find(|service| service["id"] == "etcd")
}

fn messages(service: &Value) -> Vec<String> {
    let events = service.pointer("/events/events").and_then(Value::as_array).cloned().unwrap_or_default();
    events.iter().map(|event| event["msg"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The members' votes, by host name.
fn votes((found, _): &Answer) -> Option<Vec<(String, bool)>> {
    let members = found.first()?.pointer("/messages/0/members")?.as_array()?.clone();
    let vote =
        |member: &Value| (member["hostname"].as_str().unwrap_or_default().to_owned(), member["isLearner"] != true);
    Some(members.iter().map(vote).collect())
}

/// Configures two control planes and bootstraps the first.
async fn bootstrap(test_lab: &TestLab) {
    for name in ["cp-1", "cp-2"] {
        let machine = connect(&test_lab.dialled(name), Trust::Anonymous);
        let apply = json!({"data": STANDARD.encode(test_lab.config(name)), "mode": "AUTO"});
        let (_, refused) = call(machine, "machine.MachineService/ApplyConfiguration", &[apply], &[], 1).await;
        assert!(refused.is_none(), "{refused:?}");
    }
    let preparing = |answer: &Answer| etcd(answer).filter(|etcd| etcd["state"] == "Preparing");
    let waiting = until(test_lab, "cp-2", "machine.MachineService/ServiceList", json!({}), preparing).await;
    assert_eq!(waiting.pointer("/health/unknown"), Some(&json!(true)), "its health is not checked yet: {waiting}");
    until(test_lab, "cp-1", "machine.MachineService/ServiceList", json!({}), preparing).await;
    until(test_lab, "cp-1", "machine.MachineService/Bootstrap", json!({}), |answer| answer.1.is_none().then_some(()))
        .await;
}

pub async fn learn(test_lab: &TestLab) {
    bootstrap(test_lab).await;
    let unhealthy = |answer: &Answer| {
        let failed = |etcd: &Value| messages(etcd).last().is_some_and(|last| last.starts_with("Health check failed"));
        etcd(answer).filter(|etcd| etcd["state"] == "Running" && failed(etcd))
    };
    let learner = until(test_lab, "cp-2", "machine.MachineService/ServiceList", json!({}), unhealthy).await;
    assert_eq!(learner.pointer("/health/lastMessage"), Some(&json!("etcdserver: rpc not supported for learner")));
    let listed = until(test_lab, "cp-1", "machine.MachineService/EtcdMemberList", json!({}), |answer| {
        votes(answer).filter(|all| all.len() == 2)
    });
    assert!(listed.await.contains(&("cp-2".to_owned(), false)), "it has no vote before Talos tries again");
    let (_, refused) =
        ask(test_lab, "cp-2", "machine.MachineService/EtcdMemberList", &json!({"queryLocal": true})).await;
    let refused = refused.unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Unknown, "etcdserver: rpc not supported for learner")
    );

    wait_until_async(Deadline::after(TIMEOUT), async || {
        let record = test_lab.lab.status().await.record;
        let is_ready = record.facts.iter().any(|fact| fact.name == "api/ready");
        if is_ready { Condition::Met(()) } else { Condition::Unmet("the API waits for the learner".to_owned()) }
    })
    .await;
    bootstrap_leaves_its_traces(test_lab).await;
}

pub async fn vote(test_lab: &TestLab) {
    bootstrap(test_lab).await;
    until(test_lab, "cp-2", "machine.MachineService/ServiceList", json!({}), |answer| {
        etcd(answer).filter(|etcd| etcd.pointer("/health/healthy") == Some(&json!(true)))
    })
    .await;
    let record = test_lab.lab.status().await.record;
    let fact = |name: &str| record.facts.iter().find(|fact| fact.name == name).unwrap();
    let vote = fact("etcd/cp-2/votes");
    assert!(vote.after.contains(&"etcd/cp-1/votes".to_owned()), "{vote:?}");
    assert!(vote.at - vote.began >= PROMOTION, "the timer counts as the test cluster's own time: {vote:?}");
    assert!(fact("etcd/cp-2/healthy").after.contains(&"etcd/cp-2/votes".to_owned()));
}

async fn members(test_lab: &TestLab) -> Vec<Value> {
    let all = |(found, _): &Answer| found.first()?.pointer("/messages/0/members")?.as_array().cloned();
    let vote = |all: &Vec<Value>| all.len() == 3 && all.iter().all(|member| member["isLearner"] != true);
    until(test_lab, "cp-1", "machine.MachineService/EtcdMemberList", json!({"queryLocal": true}), |answer| {
        all(answer).filter(vote)
    })
    .await
}

/// A control plane that lost its data without leaving is another member of the same name afterwards.
pub async fn join_again(test_lab: &TestLab) {
    for name in NAMES {
        let machine = connect(&test_lab.dialled(name), Trust::Anonymous);
        let config = test_lab.cluster.control_plane(name);
        let apply = json!({"data": STANDARD.encode(config), "mode": "AUTO"});
        let (_, refused) = call(machine, "machine.MachineService/ApplyConfiguration", &[apply], &[], 1).await;
        assert!(refused.is_none(), "{refused:?}");
    }
    let accepted = |answer: &Answer| answer.1.is_none().then_some(());
    until(test_lab, "cp-1", "machine.MachineService/Bootstrap", json!({}), accepted).await;
    let id = |all: &[Value]| all.iter().find(|member| member["hostname"] == NAMES[2]).unwrap()["id"].clone();
    let before = id(&members(test_lab).await);
    let wipe =
        json!({"graceful": false, "reboot": true, "systemPartitionsToWipe": [{"label": "EPHEMERAL", "wipe": true}]});
    until(test_lab, NAMES[2], "machine.MachineService/Reset", wipe, accepted).await;
    wait_until_async(Deadline::after(TIMEOUT), async || {
        let all = members(test_lab).await;
        if id(&all) == before { Condition::Unmet(format!("{all:?}")) } else { Condition::Met(()) }
    })
    .await;
}

/// The waiting service fails, is requested, and is replaced.
async fn bootstrap_leaves_its_traces(test_lab: &TestLab) {
    let service = etcd(&ask(test_lab, "cp-1", "machine.MachineService/ServiceList", &json!({})).await).unwrap();
    let history = messages(&service);
    assert_eq!(history.first().map(String::as_str), Some("Starting service"));
    assert!(!history.iter().any(|message| message == "Bootstrap requested"), "it is another service: {history:?}");
    let request = json!({"namespace": "system", "id": "machined", "tailLines": -1});
    let (chunks, _) = ask(test_lab, "cp-1", "machine.MachineService/Logs", &request).await;
    let log: String = chunks
        .iter()
        .map(|chunk| String::from_utf8(STANDARD.decode(chunk["bytes"].as_str().unwrap()).unwrap()).unwrap())
        .collect();
    let position = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text} in {log}"));
    let failed = position("service[etcd](Failed): Failed to run pre stage: ");
    let requested = position("service[etcd](Finished): Bootstrap requested");
    assert!(failed < requested && requested < position("service[etcd](Running): Started task etcd"), "{log}");
}
