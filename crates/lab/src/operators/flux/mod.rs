//! Flux, from its operator to the adoption of existing releases (flux-operator, Flux 2.7).

mod adoption;
mod failure;
mod instance;
mod kinds;
mod restarts;
mod sync;

use tokio::sync::Notify;

use crate::cluster_context::ClusterContext;

/// Runs until Flux has adopted all releases.
pub(super) async fn run(context: &ClusterContext) {
    let instance = instance::wait_for_instance(context).await;
    let applied = Notify::new();
    tokio::join!(instance.install(context, &applied), sync::run(context, &instance, &applied));
}
