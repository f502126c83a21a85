//! Flux, from its operator to the adoption of what was installed before it (flux-operator, Flux 2.7).

mod adoption;
mod instance;
mod kinds;
mod sync;

use crate::cluster::Inside;

/// Runs until Flux has done its part.
pub(super) async fn run(inside: &Inside) {
    let instance = instance::found(inside).await;
    tokio::join!(instance.install(inside), sync::run(inside, &instance));
}
