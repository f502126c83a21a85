//! The lease of a cluster, on a real API server.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kubernetes::{ClusterLease, ExpiredLease, HolderProcess, LeaseError, LeaseRequest, LeaseTerms, Renewal};
use serde_json::json;

use super::server::server;

/// A request of a run whose process is named like it; of the earlier runs of its journal none is alive.
fn request(holder: &str, earlier: &[&str], expired: ExpiredLease) -> LeaseRequest {
    LeaseRequest {
        holder: holder.to_owned(),
        process: Some(HolderProcess(holder.to_owned())),
        earlier: earlier.iter().map(ToString::to_string).collect(),
        has_ended: |process| process.0.starts_with("ann@laptop/"),
        expired,
    }
}

fn lease(cluster: &str, terms: LeaseTerms) -> ClusterLease {
    ClusterLease::new(server().client(), cluster, terms, Some(HolderProcess("ann@laptop/1".to_owned())))
}

/// As its holder left it an hour ago.
async fn expire(cluster: &str) {
    let api = Api::<Lease>::namespaced(server().client(), "kube-system");
    let change = json!({"spec": {"renewTime": "2020-01-02T03:04:05.000000Z"}});
    api.patch(&format!("k8s-bootstrap-{cluster}"), &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

#[tokio::test]
async fn one_run_at_a_time_holds_the_lease_of_a_cluster() {
    use ExpiredLease::{Respect, TakeOver};
    let lease = lease("Green_1", LeaseTerms::RUN);
    lease.acquire(&request("ann@laptop/1", &[], Respect)).await.unwrap();
    // Again by the same run, and renewed.
    lease.acquire(&request("ann@laptop/1", &[], Respect)).await.unwrap();
    assert_eq!(lease.renew("ann@laptop/1").await.unwrap(), Renewal::Renewed);
    for expired in [Respect, TakeOver] {
        let error = lease.acquire(&request("bob@desktop/7", &[], expired)).await.unwrap_err();
        assert!(matches!(&error, LeaseError::Held(record) if record.holder == "ann@laptop/1"), "{error}");
        assert!(
            error.to_string().contains("another run holds the lease of the cluster: ann@laptop/1, since 2"),
            "{error}"
        );
    }
    // A run of the same journal whose process may be alive: the state folder was copied.
    let copied = LeaseRequest { has_ended: |_| false, ..request("ann@laptop/2", &["1"], Respect) };
    assert!(matches!(lease.acquire(&copied).await.unwrap_err(), LeaseError::Held(_)));
    // The run was killed, and the next one of the same journal has its lock.
    lease.acquire(&request("ann@laptop/2", &["1"], Respect)).await.unwrap();
    assert!(
        matches!(lease.renew("ann@laptop/1").await.unwrap(), Renewal::Lost(other) if other.holder == "ann@laptop/2")
    );
    // Only its holder gives it back.
    lease.release("ann@laptop/1").await.unwrap();
    assert_eq!(lease.read().await.unwrap().unwrap().holder, "ann@laptop/2");
    lease.release("ann@laptop/2").await.unwrap();
    assert_eq!(lease.read().await.unwrap(), None);
    lease.acquire(&request("bob@desktop/7", &[], Respect)).await.unwrap();
}

#[tokio::test]
async fn of_two_runs_that_start_at_once_one_gets_the_lease() {
    let lease = lease("race", LeaseTerms::RUN);
    let names: Vec<String> = (0..8).map(|index| format!("ann@laptop/{index}")).collect();
    let requests: Vec<LeaseRequest> = names.iter().map(|name| request(name, &[], ExpiredLease::Respect)).collect();
    let results = futures::future::join_all(requests.iter().map(|request| lease.acquire(request))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(
        results.iter().filter_map(|result| result.as_ref().err()).all(|error| matches!(error, LeaseError::Held(_)))
    );
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_on_request_unless_its_holder_lives() {
    let brief = LeaseTerms { renewal: Duration::from_millis(50), ..LeaseTerms::RUN };
    let dead = lease("dead", brief);
    dead.acquire(&request("ann@laptop/1", &[], ExpiredLease::Respect)).await.unwrap();
    expire("dead").await;
    let error = dead.acquire(&request("bob@desktop/7", &[], ExpiredLease::Respect)).await.unwrap_err();
    assert!(matches!(error, LeaseError::Expired(_)), "{error}");
    dead.acquire(&request("bob@desktop/7", &[], ExpiredLease::TakeOver)).await.unwrap();
    assert_eq!(dead.read().await.unwrap().unwrap().holder, "bob@desktop/7");

    // A holder whose clock is years behind, and who lives.
    let alive = lease("alive", LeaseTerms { renewal: Duration::from_secs(5), ..LeaseTerms::RUN });
    alive.acquire(&request("ann@laptop/1", &[], ExpiredLease::Respect)).await.unwrap();
    expire("alive").await;
    let renewing = tokio::spawn(async move {
        loop {
            let api = Api::<Lease>::namespaced(server().client(), "kube-system");
            let change = json!({"spec": {"leaseTransitions": rand::random::<u16>()}});
            let patched = api.patch("k8s-bootstrap-alive", &PatchParams::default(), &Patch::Merge(change)).await;
            patched.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let error = alive.acquire(&request("bob@desktop/7", &[], ExpiredLease::TakeOver)).await.unwrap_err();
    renewing.abort();
    assert!(matches!(error, LeaseError::Held(_)), "{error}");
}
