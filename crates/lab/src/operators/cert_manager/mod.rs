//! cert-manager: its webhook, the injector that tells the API server whom to trust, and issuers that become Ready.

mod injector;
mod issuers;
mod webhook;

use super::objects::Kind;
use crate::cluster::Inside;
use crate::network::Endpoints;
use crate::pki::Authority;

/// The Deployments, and the webhook's Service (chart of cert-manager 1.19).
const CONTROLLER: &str = "cert-manager";
const INJECTOR: &str = "cert-manager-cainjector";
const WEBHOOK: &str = "cert-manager-webhook";

/// The facts that others wait for.
const SERVED: &str = "cert-manager/webhook-serves";
pub(super) const INJECTED: &str = "cert-manager/ca-injected";

const SECRET: Kind = Kind { group: "", version: "v1", name: "Secret", plural: "secrets" };

/// Runs until the lab ends.
pub(super) async fn run(inside: &Inside, endpoints: &Endpoints) {
    let authority = match Authority::throwaway() {
        Ok(authority) => authority,
        Err(reason) => {
            tracing::error!(%reason, "the webhook has no authority");
            return;
        }
    };
    tokio::join!(
        webhook::serve(inside, endpoints, &authority),
        injector::run(inside, &authority.certificate),
        issuers::run(inside)
    );
}
