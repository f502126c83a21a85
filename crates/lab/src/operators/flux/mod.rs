//! Flux, from its operator to the adoption of existing releases (flux-operator, Flux 2.7).

mod adoption;
mod artifact;
mod failure;
mod helm;
mod helm_controller;
mod helm_release;
mod instance;
mod kinds;
mod real;
mod restarts;
mod sources;
mod sync;
mod values;

use instance::FluxInstance;
use tokio::sync::Notify;

use crate::cluster_context::{ClusterContext, KustomizeController};

/// Runs until Flux has adopted all releases, or until the lab ends.
pub(super) async fn run(context: &ClusterContext) {
    let instance = instance::wait_for_instance(context).await;
    let applied = Notify::new();
    tokio::join!(instance.install(context, &applied), follow_repository(context, &instance, &applied));
}

/// Fetches and applies the instance's sync source, if it has one, with the real kustomize-controller or a played one.
async fn follow_repository(context: &ClusterContext, instance: &FluxInstance, applied: &Notify) {
    let Some(sync) = &instance.sync else { return };
    match &context.tools.kustomize {
        KustomizeController::Real(real) => Box::pin(real::run(context, instance, sync, applied, real)).await,
        KustomizeController::Played(_) => Box::pin(sync::run(context, instance, sync, applied)).await,
    }
}
