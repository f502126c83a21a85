//! What operators get wrong, and what they are told.

use talos_client::{Client, Fingerprint, Kind, Maintenance, Probe, Reboot, probe};
use talos_config::AdminIdentity;

use crate::cluster::Cluster;
use crate::{Site, identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_the_pinned_one_names_both() {
    let site = Site::start("10.66.10", "v1.12.4").await;
    let node = site.address("cp-1");
    let shown = site.maintenance("cp-1").await.fingerprint.unwrap();
    Maintenance::connect(&site.dialer, node, Some(&shown)).await.unwrap().machine_status().await.unwrap();
    let other = site.maintenance("cp-2").await.fingerprint.unwrap();
    let error = Maintenance::connect(&site.dialer, node, Some(&other)).await.unwrap_err();
    assert_eq!(error.kind, Kind::OtherKey);
    let expected = format!(
        "connect on node 10.66.10.11 failed: the certificate has the fingerprint {shown}, expected the pinned \
         {other}"
    );
    assert_eq!(error.to_string(), expected);
    let probed = probe(&site.dialer, node, &site.identity, Some(&other)).await.unwrap_err();
    assert_eq!(probed.kind, Kind::OtherKey);
    assert!("not a fingerprint".parse::<Fingerprint>().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_of_another_cluster_is_found_out_without_a_change() {
    let site = Site::start("10.66.11", "v1.13.9").await;
    site.configure("cp-1").await;
    let stranger = identity(&Cluster::new("10.66.11.11"), &["os:admin"]);
    let node = site.address("cp-1");
    let error = Client::connect(&site.dialer, node, &stranger).await.unwrap_err();
    assert_eq!(error.kind, Kind::Untrusted, "{error}");
    assert!(error.reason.contains("issued by `O=talos`"), "{error}");
    match probe(&site.dialer, node, &stranger, None).await.unwrap() {
        Probe::Foreign(foreign) => assert_eq!(foreign.node, node),
        other => panic!("{other:?}"),
    }
    // With the right certificate authority and a certificate of another one it is the node that refuses.
    let mixed = AdminIdentity { ca_pem: site.identity.ca_pem.clone(), ..stranger };
    let refused = match Client::connect(&site.dialer, node, &mixed).await {
        Ok(client) => client.machine_status().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(refused.kind, Kind::Untrusted, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_no_message_can_hold_is_not_sent() {
    let site = Site::start("10.66.12", "v1.12.4").await;
    let client = site.maintenance("cp-1").await;
    let padded = |mebibytes: usize| format!("{}# {}\n", site.world.config("cp-1"), "x".repeat(mebibytes << 20));
    let error = client.apply_configuration(&padded(33)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert_eq!(error.reason, "the config has 33 MiB; the Talos API accepts at most 32 MiB per message");
    // Nothing has happened, and one that is only large goes through.
    client.machine_status().await.unwrap();
    client.apply_configuration(&padded(8)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_forwards_to_nobody_and_a_reader_may_not_reboot() {
    let site = Site::start("10.66.13", "v1.12.4").await;
    site.configure("cp-1").await;
    let worker = site.configure("worker-1").await;
    let error = worker.towards(site.address("cp-1")).version().await.unwrap_err();
    assert!(error.kind == Kind::Refused && error.reason.contains("no request forwarding"), "{error}");
    assert_eq!(error.node, site.address("cp-1"));
    let reader = identity(&site.world.cluster, &["os:reader"]);
    let client = Client::connect(&site.dialer, site.address("cp-1"), &reader).await.unwrap();
    client.version().await.unwrap();
    let error = client.reboot(Reboot::Default).await.unwrap_err();
    assert!(error.kind == Kind::Refused && error.reason.contains("not authorized"), "{error}");
}
