//! What leads the machines to the control planes when the cluster's endpoint is a virtual IP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::call::{Trust, call, connect};
use crate::learner::{ask, etcd, until};
use crate::test_lab::{NAMES, TestLab};

/// Configures every machine, and waits until etcd on both control planes waits for its bootstrap.
async fn configure(test_lab: &TestLab) {
    for name in NAMES {
        let machine = connect(&test_lab.dialled(name), Trust::Anonymous);
        let apply = json!({"data": STANDARD.encode(test_lab.config(name)), "mode": "AUTO"});
        let (_, refused) = call(machine, "machine.MachineService/ApplyConfiguration", &[apply], &[], 1).await;
        assert!(refused.is_none(), "{name}: {refused:?}");
    }
    for name in ["cp-1", "cp-2"] {
        until(test_lab, name, "machine.MachineService/ServiceList", json!({}), |answer| {
            etcd(answer).filter(|etcd| etcd["state"] == "Preparing")
        })
        .await;
    }
}

async fn bootstrap(test_lab: &TestLab) {
    until(test_lab, "cp-1", "machine.MachineService/Bootstrap", json!({}), |answer| answer.1.is_none().then_some(()))
        .await;
    let votes = |answer: &crate::learner::Answer| {
        let members = answer.0.first()?.pointer("/messages/0/members")?.as_array()?.clone();
        (members.len() == 2 && members.iter().all(|member| member["isLearner"] != true)).then_some(())
    };
    until(test_lab, "cp-1", "machine.MachineService/EtcdMemberList", json!({"queryLocal": true}), votes).await;
}

/// The ids of the members that a machine knows by discovery.
async fn members(test_lab: &TestLab) -> Vec<Value> {
    let request = json!({"namespace": "cluster", "type": "Members.cluster.talos.dev"});
    let (found, refused) = ask(test_lab, "cp-1", "cosi.resource.State/List", &request).await;
    assert!(refused.is_none(), "{refused:?}");
    found.iter().map(|member| member["resource"]["metadata"]["id"].clone()).collect()
}

async fn causes(test_lab: &TestLab, fact: &str) -> Vec<String> {
    let record = test_lab.lab.status().await.record;
    record.facts.iter().find(|known| known.name == fact).unwrap_or_else(|| panic!("no {fact}")).after.clone()
}

pub async fn unreachable(test_lab: &TestLab) {
    configure(test_lab).await;
    assert_eq!(members(test_lab).await, ["cp-1"], "it knows itself");
    let status = test_lab.lab.status().await;
    let worker = status.nodes.iter().find(|node| node.name == "worker-1").unwrap();
    assert!(!worker.port_open, "no control plane can sign the worker's certificate: {worker:?}");
    bootstrap(test_lab).await;
    until(test_lab, "worker-1", "machine.MachineService/Hostname", json!({}), |answer| {
        answer.1.is_none().then_some(())
    })
    .await;
    for fact in ["node/worker-1/booted", "etcd/cp-2/votes"] {
        let causes = causes(test_lab, fact).await;
        assert!(causes.contains(&"api/ready".to_owned()), "{fact} after {causes:?}");
    }
}

pub async fn reachable(test_lab: &TestLab) {
    configure(test_lab).await;
    until(test_lab, "worker-1", "machine.MachineService/Hostname", json!({}), |answer| {
        answer.1.is_none().then_some(())
    })
    .await;
    assert_eq!(members(test_lab).await, NAMES, "before etcd is bootstrapped");
    bootstrap(test_lab).await;
    assert!(!causes(test_lab, "etcd/cp-2/votes").await.contains(&"api/ready".to_owned()));
}
