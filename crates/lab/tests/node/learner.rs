//! A control plane that joins etcd: a learner until Talos's next attempt to promote it, and unhealthy until then.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, wait_until_async};

use crate::call::{Trust, call, connect};
use crate::test_lab::TestLab;

const TIMEOUT: Duration = Duration::from_mins(1);
/// Seconds between two attempts.
const PROMOTION: f64 = 6.0;
pub const SCENARIO: &str = "etcd: {promotion: 6000, healthPeriod: 200}\n";

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

pub async fn join(test_lab: &TestLab) {
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
    assert!(fact("api/ready").at < vote.at, "the API waits for its own member only");

    bootstrap_leaves_its_traces(test_lab).await;
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
