//! Simulated operators, as their clients see them. Each starts when its Deployment's pod is Ready.
//!
//! They do not copy the originals: they cause what a bootstrap waits for, in the original order and with the scenario's
//! latencies.

mod cert_manager;
mod cilium;
mod conversion;
mod crd;
mod flux;
mod objects;
mod webhook_server;

use super::cluster_context::ClusterContext;
use super::network::ServiceEndpoints;

/// Runs until the lab ends.
pub(super) async fn run(context: ClusterContext, endpoints: ServiceEndpoints) {
    tokio::join!(
        cilium::run(&context),
        Box::pin(cert_manager::run(&context, &endpoints)),
        Box::pin(conversion::run(&context, &endpoints)),
        Box::pin(flux::run(&context))
    );
}
