//! A machine whose addresses change: another certificate, and the connections of before.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use test_support::{Condition, Deadline, wait_until_async};

use crate::call::{Trust, call, connect, server_certificate};
use crate::learner::{ask, etcd, until};
use crate::test_lab::TestLab;

const SERVICES: &str = "machine.MachineService/ServiceList";

fn admin(test_lab: &TestLab) -> Trust<'_> {
    let own = test_lab.cluster.client(&["os:admin"]);
    Trust::Cluster { authority: &test_lab.cluster.machine.certificate, own }
}

async fn addresses(test_lab: &TestLab) -> Vec<Value> {
    let request = json!({"namespace": "network", "type": "AddressStatuses.net.talos.dev"});
    let (found, _) = ask(test_lab, "cp-1", "cosi.resource.State/List", &request).await;
    found.iter().map(|address| address["resource"]["metadata"]["id"].clone()).collect()
}

pub async fn follows_the_addresses(test_lab: &TestLab) {
    let address = test_lab.dialled("cp-1");
    let machine = connect(&address, Trust::Anonymous);
    let apply = json!({"data": STANDARD.encode(test_lab.config("cp-1")), "mode": "AUTO"});
    let (_, refused) = call(machine, "machine.MachineService/ApplyConfiguration", &[apply], &[], 1).await;
    assert!(refused.is_none(), "{refused:?}");
    until(test_lab, "cp-1", SERVICES, json!({}), |answer| etcd(answer).filter(|etcd| etcd["state"] == "Preparing"))
        .await;
    let before = server_certificate(&address, admin(test_lab)).await;
    assert_eq!(server_certificate(&address, admin(test_lab)).await, before, "it is kept while nothing changes");
    let open = connect(&address, admin(test_lab));
    let (found, _) = call(open.clone(), SERVICES, &[json!({})], &[], 1).await;
    assert_eq!(found.len(), 1);

    let bootstrapped = |answer: &crate::learner::Answer| answer.1.is_none().then_some(());
    until(test_lab, "cp-1", "machine.MachineService/Bootstrap", json!({}), bootstrapped).await;
    let shared = json!(format!("eth0/{}/32", test_lab.network.host(99)));
    wait_until_async(Deadline::after(std::time::Duration::from_mins(1)), async || {
        let known = addresses(test_lab).await;
        let certificate = server_certificate(&address, admin(test_lab)).await;
        if known.contains(&shared) && certificate != before {
            Condition::Met(())
        } else {
            Condition::Unmet(format!("{known:?}, same certificate: {}", certificate == before))
        }
    })
    .await;
    let (found, ended) = call(open, SERVICES, &[json!({})], &[], 1).await;
    assert!(found.len() == 1 && ended.is_none(), "an open connection stays open: {ended:?}");
}
