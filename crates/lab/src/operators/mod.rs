//! Operators that act at run time, played as their clients see them: each begins when its Deployment's pod is Ready.
//!
//! They are behaviours, not copies: what a bootstrap waits for happens, in the order and with the delays that the
//! scenario sets. Where the real controller runs instead, its pod's image is real and this room is not needed.

mod cert_manager;
mod cilium;
mod converter;
mod crd;
mod flux;
mod https;
mod objects;

use super::cluster::Inside;
use super::network::Endpoints;

/// What a release brings about at run time, beyond its pods. One that comes after it waits for that as well, as far as
/// it is true by then.
pub(super) fn effects(release: &str) -> &'static [&'static str] {
    match release {
        "cilium" => &[cilium::REGISTERED],
        "cert-manager" => &[cert_manager::INJECTED],
        _ => &[],
    }
}

/// Runs until the lab ends.
pub(super) async fn run(inside: Inside, endpoints: Endpoints) {
    tokio::join!(
        cilium::operator(&inside),
        Box::pin(cert_manager::run(&inside, &endpoints)),
        Box::pin(converter::run(&inside, &endpoints)),
        Box::pin(flux::run(&inside))
    );
}
