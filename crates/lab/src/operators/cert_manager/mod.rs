//! cert-manager: its webhook, the CA injector, and issuers that become Ready.

mod injector;
mod issuers;
mod webhook;

use super::objects::ObjectKind;
use crate::cluster_context::ClusterContext;
use crate::network::ServiceEndpoints;
use crate::pki::CertificateAuthority;
use error_report::ErrorReport;

/// The Deployments, and the webhook's Service (cert-manager 1.19).
const CONTROLLER: &str = "cert-manager";
const INJECTOR: &str = "cert-manager-cainjector";
const WEBHOOK: &str = "cert-manager-webhook";

const SECRET: ObjectKind = ObjectKind { group: "", version: "v1", name: "Secret", plural: "secrets" };

/// Runs until the lab ends.
pub(super) async fn run(context: &ClusterContext, endpoints: &ServiceEndpoints) {
    let authority = match CertificateAuthority::generate() {
        Ok(authority) => authority,
        Err(error) => {
            tracing::error!(error = %ErrorReport::new(&error), "cert-manager's webhook has no CA");
            return;
        }
    };
    tokio::join!(
        webhook::serve(context, endpoints, &authority),
        injector::run(context, &authority.certificate),
        issuers::run(context)
    );
}
