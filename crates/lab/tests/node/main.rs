//! Simulated nodes compared with Talos: transcripts of requests and answers, and sessions of a real talosctl where one is
//! installed.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, dead_code)]

mod call;
mod certificate;
mod cluster;
mod discovery;
mod learner;
mod recovery;
mod session;
mod talosctl;
mod test_lab;
mod transcript;

use std::path::Path;

use transcript::Transcript;

/// Goes through a transcript with machines of each of its versions.
async fn play(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/transcripts").join(format!("{name}.yaml"));
    let transcript = Transcript::read(&path);
    for talos in &transcript.talos {
        transcript.play(talos).await;
    }
}

macro_rules! transcripts {
    ($($name:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            play(&stringify!($name).replace('_', "-")).await;
        }
    )*};
}

transcripts! {
    maintenance_of_old
    maintenance_of_new
    warnings
    a_config_is_applied
    resources
    routing
    roles
    etcd
    etcd_without_an_address
    no_etcd
    goes_down_and_comes_back
    upgrades
    unattended_install
    logs_and_events
}

/// Runs a test and ends its lab, whatever comes of it.
async fn within(test_lab: test_lab::TestLab, test: impl AsyncFnOnce(&test_lab::TestLab)) {
    let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(test(&test_lab))).await;
    test_lab.lab.shut_down().await;
    if let Err(reason) = outcome {
        std::panic::resume_unwind(reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_has_no_vote_and_no_health_and_the_api_does_not_wait_for_it() {
    within(test_lab::TestLab::start("v1.12.4", learner::NEVER).await, learner::learn).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_votes_when_talos_tries_again() {
    within(test_lab::TestLab::start("v1.12.4", learner::SOON).await, learner::vote).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_lost_its_data_joins_again() {
    within(test_lab::TestLab::start("v1.12.4", "").await, learner::join_again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_discovery_the_machines_wait_for_a_virtual_endpoint() {
    let test_lab = test_lab::TestLab::start_with_endpoint("v1.12.4", "discovery: {service: unreachable}", 99).await;
    within(test_lab, discovery::unreachable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_discovery_the_machines_find_each_other_before_etcd() {
    within(test_lab::TestLab::start_with_endpoint("v1.12.4", "", 99).await, discovery::reachable).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_follows_the_addresses_of_its_machine() {
    let test_lab = test_lab::TestLab::start_with_endpoint("v1.12.4", "", 99).await;
    within(test_lab, certificate::follows_the_addresses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_recovered_from_a_snapshot_of_its_etcd() {
    within(test_lab::TestLab::start("v1.12.4", "").await, recovery::recover).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a talosctl on PATH or in K8S_BOOTSTRAP_TALOSCTL"]
async fn a_real_talosctl_works_against_a_simulated_node() {
    let tools = talosctl::tools();
    assert!(!tools.is_empty(), "no talosctl found on PATH or in K8S_BOOTSTRAP_TALOSCTL");
    for tool in tools {
        let test_lab = test_lab::TestLab::start(&tool.tag, "").await;
        let kubectl = test_lab.kubectl().await;
        let (test_lab, outcome) = tokio::task::spawn_blocking(move || {
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session::run(&test_lab, tool, &kubectl)));
            (test_lab, outcome)
        })
        .await
        .unwrap();
        test_lab.lab.shut_down().await;
        if let Err(reason) = outcome {
            std::panic::resume_unwind(reason);
        }
    }
}
