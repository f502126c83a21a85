//! Errors of operators and their messages.

use talos_client::ClientIdentity;
use talos_client::{CertificateFingerprint, Client, ClientErrorKind, Maintenance, Probe, RebootMode, probe};

use crate::cluster::Cluster;
use crate::{Site, identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fingerprint_mismatch_names_both_fingerprints() {
    let site = Site::start("v1.12.4").await;
    let node = site.address("cp-1");
    let shown = site.maintenance("cp-1").await.fingerprint.unwrap();
    Maintenance::connect(&site.dialer, node, Some(&shown)).await.unwrap().machine_status().await.unwrap();
    let other = site.maintenance("cp-2").await.fingerprint.unwrap();
    let error = Maintenance::connect(&site.dialer, node, Some(&other)).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::FingerprintMismatch);
    let expected = format!(
        "connect on node {node} failed: the certificate has the fingerprint {shown}, expected the pinned \
         {other}"
    );
    assert_eq!(error.to_string(), expected);
    let probed = probe(&site.dialer, node, &site.identity, Some(&other)).await.unwrap_err();
    assert_eq!(probed.kind, ClientErrorKind::FingerprintMismatch);
    assert!("not a fingerprint".parse::<CertificateFingerprint>().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_another_cluster_are_detected_without_a_change() {
    let site = Site::start("v1.13.9").await;
    site.configure("cp-1").await;
    let stranger = identity(&Cluster::new(site.test_lab.network.host(11)), &["os:admin"]);
    let node = site.address("cp-1");
    let error = Client::connect(&site.dialer, node, &stranger).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Untrusted, "{error}");
    assert!(error.reason.contains("issued by `O=talos`"), "{error}");
    match probe(&site.dialer, node, &stranger, None).await.unwrap() {
        Probe::Foreign(foreign) => assert_eq!(foreign.node, node),
        other => panic!("{other:?}"),
    }
    // With the right CA but a client certificate of another CA, the node rejects the connection.
    let mixed = ClientIdentity { ca_pem: site.identity.ca_pem.clone(), ..stranger };
    let refused = match Client::connect(&site.dialer, node, &mixed).await {
        Ok(client) => client.machine_status().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(refused.kind, ClientErrorKind::Untrusted, "{refused}");
}

/// A laptop whose clock is years off issues certificates that are not valid yet, or no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_not_taken_for_another_cluster() {
    let site = Site::start("v1.13.9").await;
    site.configure("cp-1").await;
    let node = site.address("cp-1");
    for years in [1990..=1991, 3000..=3001] {
        let client = site.test_lab.cluster.client_in(&["os:admin"], years);
        let ours = ClientIdentity {
            ca_pem: site.identity.ca_pem.clone(),
            certificate_pem: client.certificate,
            key_pem: client.key.into(),
        };
        let error = probe(&site.dialer, node, &ours, None).await.unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::OutOfTime, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_above_the_message_limit_is_not_sent() {
    let site = Site::start("v1.12.4").await;
    let client = site.maintenance("cp-1").await;
    let padded = |mebibytes: usize| format!("{}# {}\n", site.test_lab.config("cp-1"), "x".repeat(mebibytes << 20));
    let error = client.apply_configuration(&padded(33)).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Rejected);
    assert_eq!(error.reason, "the config has 33 MiB; the Talos API accepts at most 32 MiB per message");
    // The connection still works, and a large config below the limit is sent.
    client.machine_status().await.unwrap();
    client.apply_configuration(&padded(8)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_do_not_forward_and_readers_may_not_reboot() {
    let site = Site::start("v1.12.4").await;
    site.configure("cp-1").await;
    let worker = site.configure("worker-1").await;
    let error = worker.forwarded_to(site.address("cp-1")).version().await.unwrap_err();
    assert!(
        error.kind == ClientErrorKind::PermissionDenied && error.reason.contains("no request forwarding"),
        "{error}"
    );
    assert_eq!(error.node, site.address("cp-1"));
    let reader = identity(&site.test_lab.cluster, &["os:reader"]);
    let client = Client::connect(&site.dialer, site.address("cp-1"), &reader).await.unwrap();
    client.version().await.unwrap();
    let error = client.reboot(RebootMode::Default).await.unwrap_err();
    assert!(error.kind == ClientErrorKind::PermissionDenied && error.reason.contains("not authorized"), "{error}");
}
