//! A second etcd that begins while a run waits for the members of the first.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::TestEnvironment;
use net::{AddressMap, Dialer};
use serde_json::Value;
use talos_client::{Client, ClientIdentity, EtcdBootstrap};
use yaml::Origin;

/// The control planes of the cluster that may join later than the first, by the last part of their address.
const OTHERS: [u8; 2] = [12, 13];
const FIRST: u8 = 11;

/// The administrator, by the talosconfig that the run has written before etcd.
fn administrator(environment: &TestEnvironment) -> ClientIdentity {
    let path = environment.state().join("labs/infra/run/talosconfig");
    let text = std::fs::read_to_string(path).unwrap();
    let config = yaml::parse_one(&Origin::new("talosconfig"), &text).unwrap().to_json();
    let context = config["contexts"].as_object().unwrap().values().next().unwrap();
    let pem = |key: &str| String::from_utf8(STANDARD.decode(context[key].as_str().unwrap()).unwrap()).unwrap();
    ClientIdentity { ca_pem: pem("ca"), certificate_pem: pem("crt"), key_pem: pem("key").into() }
}

/// Bootstraps etcd a second time, on a control plane that is not a member of the first.
async fn bootstrap_again(environment: &TestEnvironment) {
    let identity = administrator(environment);
    let address = |host: u8| IpAddr::from(environment.network().host(host));
    let dialer = Dialer::lab(AddressMap::loopback([FIRST, OTHERS[0], OTHERS[1]].map(address)));
    let first = Client::connect(&dialer, address(FIRST), &identity).await.unwrap();
    let members = first.etcd_members().await.unwrap();
    let names = |host: u8| {
        let network = environment.network();
        [network.host(host), network.dialled(host)].map(|address| format!("//{address}:"))
    };
    let is_member = |other: &u8| {
        let mut urls = members.iter().flat_map(|member| &member.peer_urls);
        urls.any(|url| names(*other).iter().any(|name| url.contains(name)))
    };
    let outside = OTHERS.into_iter().find(|other| !is_member(other)).unwrap();
    let other = Client::connect(&dialer, address(outside), &identity).await.unwrap();
    other.bootstrap(EtcdBootstrap::New).await.unwrap();
}

#[test]
fn a_second_etcd_that_appears_while_members_are_waited_for_is_found() {
    let environment = TestEnvironment::machines();
    // The second control plane stays a learner, so the third cannot join.
    let _lab = environment.lab_with("infra", "base: fast\netcd: {blockedAttempt: 3600000, promotion: 3600000}\n");
    let mut run = environment.command(&["-o", "json", "infra", "--lab"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let is_wait = |event: &Value| {
        let reason = event["reason"].as_str().unwrap_or_default();
        event["event"] == "waiting" && event["step"] == "etcd/members" && reason.contains("1 are learners")
    };
    assert!(events.any(|event| is_wait(&event)), "the run does not wait for a learner");
    tokio::runtime::Runtime::new().unwrap().block_on(bootstrap_again(&environment));
    let failed = events.find(|event| event["event"] == "step-failed" && event["step"] == "etcd/members");
    run.kill().unwrap();
    run.wait().unwrap();
    let error = &failed.unwrap()["error"];
    assert_eq!(error["code"], "T03", "{error}");
    assert!(error["why"].as_str().unwrap().contains("run two different etcd clusters: members "), "{error}");
}
